/**
 * Small charts for the panel beside the map: the selection over time, and its distribution. They
 * are SVG that the page's style sheet colours, so that they follow the theme.
 */
import { get } from "../api.js";
import { h } from "../dom.js";
import { formatShare, formatTime, formatUs, parseId } from "../format.js";
import { t } from "../i18n.js";
import { subjectOf } from "../view.js";

/** @import { Cdf, Series, SeriesPoint } from "../../types/api.js" */
/** @import { View } from "../view.js" */

/** @typedef {(value: number) => number} Place where a value is on an axis, 0…1 */
/** @typedef {[x: number, y: number | null]} Point 0…1; a null interrupts the line */

const WIDTH = 300;
const HEIGHT = 64;
const PAD = 3;
/** Points that are asked for. */
const POINTS = 96;
/** The loss axis ends here at least; bars of loss take this part of the height. */
const LEAST_LOSS = 0.01;
const LOSS_PART = 0.5;

/**
 * Series and distribution of the selected groups or host; an error stands in the place of its
 * chart.
 * @param {View} view
 */
export async function smallCharts(view) {
  const subject = subjectOf(view);
  const { windows } = view.time;
  const series = {
    ...subject,
    from: windows[0].id,
    to: view.time.endOf(windows[windows.length - 1].id),
    points: POINTS,
  };
  const cdf = { window: view.window.id, v: view.window.v, ...subject };
  const charts = [get("series", series).then(drawSeries), get("cdf", cdf).then(drawCdf)];
  return Promise.all(charts.map((chart) => chart.catch((error) => words(error.message))));
}

/** @param {string} text */
const words = (text) => h("p", { class: "keys" }, text);

/** @param {Series} series */
function drawSeries({ points }) {
  const us = points.flatMap((point) => [point.p50_us ?? 0, point.p99_us ?? 0]).filter(Boolean);
  const last = points.findLast((point) => (point.p50_us ?? 0) > 0);
  if (!us.length || !last) {
    return words(t("chart.nothing"));
  }
  const times = points.map((point) => +parseId(point.window));
  const ends = { from: times[0], to: times[times.length - 1] };
  const x = linearPlace(ends.from, ends.to);
  const y = logPlace(Math.min(...us) / 1.1, Math.max(...us) * 1.1);
  const title = t("small.series", {
    from: formatTime(new Date(ends.from)),
    to: formatTime(new Date(ends.to)),
  });
  const quantiles = `p50 ${formatUs(last.p50_us)} · p99 ${formatUs(last.p99_us)}`;
  return figure(title, `${quantiles} · ${t("metric.loss")} ${formatShare(last.loss)}`, [
    ...lossBars(points, times.map(x)),
    line(points, "p99", times.map(x), y),
    line(points, "p50", times.map(x), y),
  ]);
}

/**
 * @param {SeriesPoint[]} points
 * @param {"p50" | "p99"} key
 * @param {number[]} xs
 * @param {Place} y
 */
function line(points, key, xs, y) {
  /** @type {Point[]} */
  const places = points.map((point, i) => {
    const us = point[`${key}_us`] ?? 0;
    return [xs[i], us > 0 ? y(us) : null];
  });
  return svg("path", { class: key, d: pathOf(places) });
}

/**
 * @param {SeriesPoint[]} points
 * @param {number[]} xs
 */
function lossBars(points, xs) {
  const most = Math.max(LEAST_LOSS, ...points.map((point) => point.loss ?? 0));
  const width = Math.max(1.5, (WIDTH / points.length) * 0.6);
  return points.flatMap(({ loss }, i) => {
    if (!loss) {
      return [];
    }
    const part = LOSS_PART * (loss / most);
    const x = xs[i] * (WIDTH - width);
    const area = { x, width, y: HEIGHT * (1 - part), height: HEIGHT * part };
    return [svg("rect", { class: "loss", ...area })];
  });
}

/** @param {Cdf} cdf */
function drawCdf({ cdf, count, quantiles }) {
  if (!count) {
    return words(t("chart.nothing"));
  }
  const x = logPlace(Math.max(1, cdf[0][0]) / 1.05, cdf[cdf.length - 1][0] * 1.05);
  /** @type {Point[]} */
  const stairs = cdf.flatMap(([us, share], i) => [
    [x(us), i ? cdf[i - 1][1] : 0],
    [x(us), share],
  ]);
  const values = [
    `p50 ${formatUs(quantiles.p50_us)}`,
    `p99 ${formatUs(quantiles.p99_us)}`,
    `p99.9 ${formatUs(quantiles.p999_us)}`,
  ];
  const path = svg("path", { class: "p50", d: pathOf(stairs) });
  return figure(t("small.cdf"), values.join(" · "), [path]);
}

/**
 * @param {string} title
 * @param {string} caption
 * @param {SVGElement[]} shapes
 */
function figure(title, caption, shapes) {
  const picture = svg("svg", {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
    "aria-label": `${title}: ${caption}`,
  });
  picture.append(...shapes);
  return h(
    "figure",
    { class: "small" },
    h("figcaption", {}, title),
    picture,
    h("div", { class: "place" }, caption),
  );
}

/**
 * @param {number} low
 * @param {number} high
 * @returns {Place}
 */
const linearPlace = (low, high) => (value) => (high > low ? (value - low) / (high - low) : 0.5);

/**
 * @param {number} low
 * @param {number} high
 * @returns {Place}
 */
const logPlace = (low, high) => (value) =>
  high > low ? Math.log(value / low) / Math.log(high / low) : 0.5;

/**
 * A line through points.
 * @param {Point[]} points
 */
function pathOf(points) {
  let pen = "M";
  let path = "";
  for (const [x, y] of points) {
    if (y === null) {
      pen = "M";
      continue;
    }
    const down = PAD + (1 - y) * (HEIGHT - 2 * PAD);
    path += `${pen}${(x * WIDTH).toFixed(1)} ${down.toFixed(1)}`;
    pen = "L";
  }
  return path;
}

/**
 * @param {string} tag
 * @param {Record<string, string | number>} attributes
 */
function svg(tag, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, String(value));
  }
  return /** @type {SVGElement} */ (element);
}
