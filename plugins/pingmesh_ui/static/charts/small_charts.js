/**
 * Small pictures for the panel beside the map: what is selected over time, and its distribution. SVG that the page's
 * style sheet colours, so that they follow the theme; the large charts below the map are ECharts' (charts.js).
 */
import { get } from "../api.js";
import { h } from "../dom.js";
import { formatShare, formatTime, formatUs, parseId } from "../format.js";
import { t } from "../i18n.js";
import { findRange } from "../map/axis.js";
import { state } from "../state.js";

const WIDTH = 300;
const HEIGHT = 64;
const POINTS = 96;
const PAD = 3;

/** The two ends of what is selected, as the link spells them. */
export const ends = () => {
  const at = state.sel.indexOf(">");
  return at < 0 ? ["", ""] : [state.sel.slice(0, at), state.sel.slice(at + 1)];
};

/** What the selection is for the API: { of, src, dst }. */
export function subjectOf(view) {
  const [src, dst] = ends();
  const a = findRange(view.axis, src);
  const b = findRange(view.axis, dst);
  if (!state.sel || !a || !b) {
    return { of: "mesh" };
  }
  if (a.kind === "host" && b.kind === "host") {
    return { of: "pair", src, dst };
  }
  if (a.kind === "all") {
    return { of: "host", dst };
  }
  if (b.kind === "all") {
    return { of: "host", src };
  }
  return { of: a.kind, src, dst };
}

/** Series and distribution of a group or host; what cannot be had says so in its place. */
export async function smallCharts(view) {
  const subject = subjectOf(view);
  const { windows } = view.time;
  const range = { from: windows[0].id, to: view.time.endOf(windows.at(-1).id), points: POINTS };
  const parts = [
    get("series", { ...subject, ...range }).then(drawSeries),
    get("cdf", { window: view.window.id, v: view.window.v, ...subject }).then(drawCdf),
  ];
  return Promise.all(
    parts.map((part) => part.catch((error) => h("p", { class: "keys" }, error.message))),
  );
}

function drawSeries({ points }) {
  const us = points.flatMap((p) => [p.p50_us, p.p99_us]).filter((value) => value > 0);
  const last = points.findLast((p) => p.p50_us > 0);
  if (!us.length) {
    return h("p", { class: "keys" }, t("chart.nothing"));
  }
  const times = points.map((p) => +parseId(p.window));
  const x = along(times[0], times.at(-1), false);
  const y = along(Math.min(...us) / 1.1, Math.max(...us) * 1.1, true);
  const most = Math.max(0.01, ...points.map((p) => p.loss ?? 0));
  const wide = Math.max(1.5, (WIDTH / points.length) * 0.6);
  const bars = points.map((p, i) =>
    p.loss > 0
      ? svg("rect", {
          class: "loss",
          x: x(times[i]) * (WIDTH - wide),
          width: wide,
          y: HEIGHT * (1 - 0.5 * (p.loss / most)),
          height: HEIGHT * 0.5 * (p.loss / most),
        })
      : "",
  );
  const line = (key) =>
    svg("path", {
      class: key,
      d: pathOf(points.map((p, i) => [x(times[i]), p[`${key}_us`] > 0 ? y(p[`${key}_us`]) : null])),
    });
  const words = `p50 ${formatUs(last.p50_us)} · p99 ${formatUs(last.p99_us)} · ${t("metric.loss")} ${formatShare(last.loss)}`;
  return figure(
    t("small.series", {
      from: formatTime(new Date(times[0])),
      to: formatTime(new Date(times.at(-1))),
    }),
    words,
    [...bars, line("p99"), line("p50")],
  );
}

function drawCdf({ cdf, count, quantiles }) {
  if (!count) {
    return h("p", { class: "keys" }, t("chart.nothing"));
  }
  const x = along(Math.max(1, cdf[0][0]) / 1.05, cdf.at(-1)[0] * 1.05, true);
  const stairs = cdf.flatMap(([us, share], i) => [
    [x(us), i ? cdf[i - 1][1] : 0],
    [x(us), share],
  ]);
  return figure(
    t("small.cdf"),
    `p50 ${formatUs(quantiles.p50_us)} · p99 ${formatUs(quantiles.p99_us)} · p99.9 ${formatUs(quantiles.p999_us)}`,
    [svg("path", { class: "p50", d: pathOf(stairs) })],
  );
}

const figure = (title, words, shapes) =>
  h(
    "figure",
    { class: "small" },
    h("figcaption", {}, title),
    svg(
      "svg",
      {
        viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
        preserveAspectRatio: "none",
        role: "img",
        "aria-label": `${title}: ${words}`,
      },
      shapes,
    ),
    h("div", { class: "place" }, words),
  );

/** Where a value is between two, 0…1. */
const along = (low, high, isLog) => (value) =>
  high > low
    ? isLog
      ? Math.log(value / low) / Math.log(high / low)
      : (value - low) / (high - low)
    : 0.5;

/** A line through points of 0…1; a null begins it anew. */
function pathOf(points) {
  let pen = "M";
  let out = "";
  for (const [x, y] of points) {
    if (y === null) {
      pen = "M";
      continue;
    }
    out += `${pen}${(x * WIDTH).toFixed(1)} ${(PAD + (1 - y) * (HEIGHT - 2 * PAD)).toFixed(1)}`;
    pen = "L";
  }
  return out;
}

function svg(tag, attributes, children = []) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, value);
  }
  element.append(...children.filter(Boolean));
  return element;
}
