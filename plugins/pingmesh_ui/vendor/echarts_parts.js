// The parts of ECharts that the page draws with: lines, bars, scatter. The map is our own canvas.
export { init, use, connect } from "echarts/core";
import { use } from "echarts/core";
import { BarChart, LineChart, ScatterChart } from "echarts/charts";
import {
  AriaComponent,
  DataZoomComponent,
  GridComponent,
  LegendComponent,
  MarkAreaComponent,
  MarkLineComponent,
  ToolboxComponent,
  TooltipComponent,
} from "echarts/components";
import { CanvasRenderer } from "echarts/renderers";

use([
  AriaComponent, BarChart, CanvasRenderer, DataZoomComponent, GridComponent, LegendComponent, LineChart,
  MarkAreaComponent, MarkLineComponent, ScatterChart, ToolboxComponent, TooltipComponent,
]);
