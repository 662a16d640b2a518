/**
 * The chart of the distribution of the selection, beside that of the window it is compared with.
 */
import { get } from "../api.js";
import { formatShare, formatTime, formatUs, parseId } from "../format.js";
import { t } from "../i18n.js";
import { state } from "../state.js";
import { colours } from "../theme.js";
import { subjectOf } from "../view.js";
import { ZOOM } from "./card.js";
import { durationAxis } from "./durations.js";

/** @import { Cdf, Pair } from "../../types/api.js" */
/** @import { Query } from "../api.js" */
/** @import { View } from "../view.js" */
/** @import { Card, Options } from "./card.js" */

/**
 * @param {View} view
 * @param {Card} card
 * @param {() => boolean} isLast whether the answer is still wanted
 */
export async function drawCdf(view, card, isLast) {
  const { of, ...ends } = subjectOf(view);
  const path = of === "pair" ? "pair" : "cdf";
  const query = { window: view.window.id, ...(of === "pair" ? {} : { of }), ...ends };
  card.link(path, query);
  const before = { ...query, window: state.cmp };
  const [now, other] = await Promise.all([
    ask(path, query),
    state.cmp ? ask(path, before).catch(() => null) : null,
  ]);
  if (!isLast()) {
    return;
  }
  if (!now.count) {
    card.say(t("chart.nothing"));
    return;
  }
  await card.set(optionsOf(now, other));
}

/**
 * @param {"pair" | "cdf"} path
 * @param {Query} query
 * @returns {Promise<Cdf>}
 */
async function ask(path, query) {
  const answer = await get(path, query);
  return path === "pair" ? ofPair(answer) : answer;
}

/**
 * The distribution of a pair, of the protocol that was answered most, as `cdf` has it of groups.
 * @param {Pair} pair
 * @returns {Cdf}
 */
function ofPair({ window, protocols }) {
  const most = protocols.reduce((best, one) => (one.answered > best.answered ? one : best));
  return {
    window,
    count: most.cdf.length,
    cdf: most.cdf,
    min_us: most.rtt_min_us,
    max_us: most.rtt_max_us,
    quantiles: { p50_us: most.rtt_p50_us, p99_us: most.rtt_p99_us },
  };
}

/**
 * @param {Cdf} now
 * @param {Cdf | null} other
 * @returns {Options}
 */
function optionsOf(now, other) {
  const paint = colours();
  const ends = [now.min_us, now.quantiles.p999_us ?? now.max_us];
  const lines = [{ ...line(now, paint.s0, "solid"), markLine: quantileMarks(now) }];
  return {
    tooltip: { formatter: tooltip },
    xAxis: durationAxis(ends, { max: "dataMax" }),
    yAxis: { type: "value", max: 1, axisLabel: { formatter: formatShare } },
    dataZoom: ZOOM,
    series: other ? [...lines, line(other, paint.muted, [5, 3])] : lines,
  };
}

/**
 * @param {Cdf} cdf
 * @param {string} colour
 * @param {string | number[]} type
 */
const line = ({ cdf, window }, colour, type) => ({
  name: formatTime(parseId(window)),
  type: "line",
  step: "end",
  showSymbol: false,
  data: cdf,
  lineStyle: { color: colour, type, width: 2 },
  itemStyle: { color: colour },
});

/** @param {Cdf} cdf */
function quantileMarks({ quantiles }) {
  const paint = colours();
  const marks = /** @type {[string, number | null][]} */ ([
    ["p50", quantiles.p50_us],
    ["p99", quantiles.p99_us],
  ]);
  return {
    silent: true,
    symbol: "none",
    lineStyle: { color: paint.rule },
    label: {
      color: paint.muted,
      position: "insideEndBottom",
      formatter: (/** @type {{ name: string }} */ mark) => mark.name,
    },
    data: marks
      .filter(([, us]) => us !== null && us > 0)
      .map(([key, us]) => ({ name: `${key} ${formatUs(us)}`, xAxis: us })),
  };
}

/** @param {{ seriesName: string, value: [number, number] }[]} rows */
const tooltip = (rows) =>
  rows
    .map(({ seriesName, value: [us, share] }) => {
      return `${seriesName}: ${formatShare(share)} ≤ ${formatUs(us)}`;
    })
    .join("\n");
