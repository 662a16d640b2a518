/** What the page uses of its build of ECharts (vendor/build.mjs). Options are ECharts' own and are not checked. */
export interface Chart {
  setOption(options: object, settings?: { notMerge: boolean }): void;
  getOption(): { dataZoom?: { start: number; end: number }[] } | undefined;
  dispatchAction(action: { type: string; [key: string]: unknown }): void;
  on(event: string, listener: (event: { dataIndex: number }) => void): void;
  resize(): void;
  dispose(): void;
}

export function init(element: HTMLElement): Chart;
