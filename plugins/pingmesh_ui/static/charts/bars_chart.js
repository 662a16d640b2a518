/**
 * The chart of each server's latency as a source, the worst first, before bands of the thresholds;
 * a click selects the server.
 */
import { get } from "../api.js";
import { isolate } from "../dom.js";
import { formatCount, formatShare, formatUs } from "../format.js";
import { t } from "../i18n.js";
import { update } from "../state.js";
import { colours } from "../theme.js";
import { ZOOM } from "./card.js";
import { durationAxis } from "./durations.js";

/** @import { GroupFigures } from "../../types/api.js" */
/** @import { View } from "../view.js" */
/** @import { Card, Options } from "./card.js" */

/** Servers that are drawn. */
const BARS = 40;
/** With more bars, names are written at a slant. */
const LEVEL = 8;
/** Where the band of "bad" ends, in µs: above every chart. */
const TOP_US = 1e9;

/**
 * @param {View} view
 * @param {Card} card
 * @param {() => boolean} isLast whether the answer is still wanted
 */
export async function drawBars(view, card, isLast) {
  const query = { window: view.window.id, of: "host" };
  card.link("groups", query);
  /** @type {{ groups: GroupFigures[] }} */
  const { groups } = await get("groups", query);
  if (!isLast()) {
    return;
  }
  const rows = groups
    .filter((group) => group.src && !group.dst)
    .sort((a, b) => p99Of(b) - p99Of(a))
    .slice(0, BARS);
  if (!rows.length) {
    card.say(t("chart.nothing"));
    return;
  }
  const isPart = rows.length < groups.length / 2; // each host is there twice, as src and as dst
  const what = isPart ? t("chart.worst", { n: rows.length }) : t("crumbs.all");
  card.title.textContent = t("chart.bars", { what });
  await card.set(optionsOf(view, rows), ({ dataIndex }) => {
    if (rows[dataIndex]) {
      update({ sel: `${rows[dataIndex].src}>` }, { step: true });
    }
  });
}

/**
 * A host without a round trip is worse than any.
 * @param {GroupFigures} group
 */
const p99Of = ({ p99_us: us }) => us ?? Number.POSITIVE_INFINITY;

/**
 * @param {View} view
 * @param {GroupFigures[]} rows
 * @returns {Options}
 */
function optionsOf(view, rows) {
  const paint = colours();
  const { slow_us: slow, bad_us: bad } = view.context.boot;
  const bands = [band(slow, bad, paint.warn), band(bad, TOP_US, paint.bad)];
  return {
    tooltip: {
      formatter: (/** @type {{ dataIndex: number }[]} */ [{ dataIndex }]) =>
        tooltip(rows[dataIndex]),
    },
    xAxis: {
      type: "category",
      data: rows.map((row) => row.src),
      axisLabel: { rotate: rows.length > LEVEL ? 45 : 0, formatter: shortName },
      triggerEvent: true,
    },
    yAxis: durationAxis(rows.flatMap((row) => [row.p50_us, row.p99_us])),
    grid: { left: 62, right: 18, top: 34, bottom: 74 },
    dataZoom: ZOOM,
    series: [
      {
        name: "p50",
        type: "bar",
        barGap: "-100%",
        z: 3,
        data: rows.map((row) => row.p50_us),
        itemStyle: { color: paint.s0 },
        markArea: { silent: true, data: bands },
      },
      {
        name: "p99",
        type: "bar",
        data: rows.map((row) => row.p99_us),
        itemStyle: { color: paint.s1, opacity: 0.55 },
      },
    ],
  };
}

/**
 * @param {number} from µs
 * @param {number} to µs
 * @param {string} colour
 */
const band = (from, to, colour) => [
  { yAxis: from, itemStyle: { color: colour, opacity: 0.09 } },
  { yAxis: to },
];

/** @param {string} text */
const shortName = (text) => (text.length > 14 ? `${text.slice(0, 6)}…${text.slice(-6)}` : text);

/** @param {GroupFigures} row */
const tooltip = (row) =>
  [
    isolate(row.src ?? ""),
    `p50  ${formatUs(row.p50_us)}`,
    `p99  ${formatUs(row.p99_us)}`,
    `${t("metric.loss")}  ${formatShare(row.loss)}`,
    `${t("pairs")}  ${formatCount(row.pairs)}`,
  ].join("\n");
