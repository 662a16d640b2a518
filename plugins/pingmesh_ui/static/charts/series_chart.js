/** The chart of the selection over time: quantiles as lines, loss as bars. */
import { get } from "../api.js";
import { formatMoment, formatShare, formatTime, formatUs, parseId } from "../format.js";
import { t } from "../i18n.js";
import { update } from "../state.js";
import { colours } from "../theme.js";
import { subjectOf } from "../view.js";
import { ZOOM } from "./card.js";
import { durationAxis } from "./durations.js";

/** @import { Series, SeriesPoint } from "../../types/api.js" */
/** @import { View } from "../view.js" */
/** @import { Card, Options } from "./card.js" */

/** Fewer points are marked one by one. */
const FEW = 40;
/** The loss axis ends at three times the most, but at this share at least. */
const LEAST_LOSS = 0.01;

/** @param {SeriesPoint} point */
const timeOf = (point) => +parseId(point.window);

/**
 * @param {View} view
 * @param {Card} card
 * @param {() => boolean} isLast whether the answer is still wanted
 */
export async function drawSeries(view, card, isLast) {
  const { windows } = view.time;
  const query = {
    ...subjectOf(view),
    from: windows[0].id,
    to: view.time.endOf(windows[windows.length - 1].id),
  };
  card.link("series", query);
  /** @type {Series} */
  const { points } = await get("series", query);
  if (!isLast()) {
    return;
  }
  if (!points.some((point) => (point.p50_us ?? 0) > 0 || (point.loss ?? 0) > 0)) {
    card.say(t("chart.nothing"));
    return;
  }
  await card.set(optionsOf(view, points), ({ dataIndex }) =>
    update({ w: points[dataIndex]?.window }, { step: true }),
  );
}

/**
 * @param {View} view
 * @param {SeriesPoint[]} points
 * @returns {Options}
 */
function optionsOf(view, points) {
  const paint = colours();
  const loss = {
    name: t("metric.loss"),
    type: "bar",
    yAxisIndex: 1,
    data: points.map((point) => [timeOf(point), point.loss]),
    itemStyle: { color: paint.bad, opacity: 0.55 },
    barMaxWidth: 9,
  };
  const p50 = {
    ...line(points, "p50", paint.s0, "solid", 2.2),
    markLine: markNow(view),
    markArea: slowBand(view),
  };
  const p90 = line(points, "p90", paint.s2, [6, 3], 1.6);
  const p99 = line(points, "p99", paint.s1, [2, 2], 1.8);
  return {
    tooltip: { formatter: tooltip },
    xAxis: {
      type: "time",
      axisLabel: {
        formatter: (/** @type {number} */ ms) => formatTime(new Date(ms)),
        hideOverlap: true,
      },
    },
    yAxis: [durationAxis(points.flatMap((point) => [point.p50_us, point.p99_us])), lossAxis()],
    grid: { left: 62, right: 56, top: 34, bottom: 34 },
    dataZoom: ZOOM,
    series: [loss, p50, p90, p99],
  };
}

/**
 * @param {SeriesPoint[]} points
 * @param {"p50" | "p90" | "p99"} key
 * @param {string} colour
 * @param {string | number[]} type
 * @param {number} width
 */
const line = (points, key, colour, type, width) => ({
  name: key,
  type: "line",
  showSymbol: points.length < FEW,
  symbolSize: 5,
  connectNulls: false,
  data: points.map((point) => [timeOf(point), point[`${key}_us`] || null]),
  lineStyle: { color: colour, type, width },
  itemStyle: { color: colour },
});

const lossAxis = () => ({
  type: "value",
  max: (/** @type {{ max: number }} */ range) => Math.max(range.max * 3, LEAST_LOSS),
  position: "right",
  axisLabel: { formatter: formatShare, showMaxLabel: false },
  splitLine: { show: false },
});

/**
 * A line at the window that is shown.
 * @param {View} view
 */
const markNow = (view) => ({
  silent: true,
  symbol: "none",
  label: { show: false },
  lineStyle: { color: colours().ink, type: "solid", width: 1 },
  data: [{ xAxis: +parseId(view.window.id) }],
});

/**
 * A band from the threshold of "slow" to that of "bad".
 * @param {View} view
 */
function slowBand(view) {
  const { slow_us: slow, bad_us: bad } = view.context.boot;
  return {
    silent: true,
    itemStyle: { color: colours().warn, opacity: 0.07 },
    data: [[{ yAxis: slow }, { yAxis: bad }]],
  };
}

/** @param {{ seriesName: string, value: [number, number | null] }[]} rows */
function tooltip(rows) {
  const figures = rows
    .filter(({ value }) => value[1] !== null)
    .map(({ seriesName, value }) => {
      const isLoss = seriesName === t("metric.loss");
      return `${seriesName}  ${isLoss ? formatShare(value[1]) : formatUs(value[1])}`;
    });
  return [formatMoment(new Date(rows[0].value[0])), ...figures].join("\n");
}
