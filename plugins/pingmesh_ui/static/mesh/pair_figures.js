/** The exact figures of a pair: asked for once a window, shown as a list. */
import { get } from "../api.js";
import { h } from "../dom.js";
import { formatCount, formatShare, formatTimes, formatUs } from "../format.js";
import { t } from "../i18n.js";
import { windowKey } from "../view.js";

/** @import { Pair, ProbeFault, ProtocolFigures } from "../../types/api.js" */
/** @import { View } from "../view.js" */

/** @typedef {[term: string, value: string]} Row */

/** Pairs that are remembered. */
const KEPT = 400;
/** A normal of fewer windows is said to be young: an hour of five minutes each. */
const SETTLED = 12;
/** @type {ProbeFault[]} */
const FAULTS = ["retransmitted", "refused", "unreachable", "reset", "bad_reply", "local_error"];
/** @type {Map<string, Pair>} */
const known = new Map();

/**
 * @param {View} view
 * @param {string} src
 * @param {string} dst
 */
const keyOf = (view, src, dst) => `${windowKey(view)} ${src} ${dst}`;

/**
 * The figures of a pair in this window, where they are known.
 * @param {View} view
 * @param {string} src
 * @param {string} dst
 */
export const knownPair = (view, src, dst) => known.get(keyOf(view, src, dst)) ?? null;

/**
 * The same, asked for where they are not known.
 * @param {View} view
 * @param {string} src
 * @param {string} dst
 * @returns {Promise<Pair>}
 */
export async function askPair(view, src, dst) {
  const key = keyOf(view, src, dst);
  const kept = known.get(key);
  if (kept) {
    return kept;
  }
  const { value: oldest } = known.keys().next();
  if (known.size >= KEPT && oldest !== undefined) {
    known.delete(oldest);
  }
  const pair = await get("pair", { window: view.window.id, src, dst, v: view.window.v });
  known.set(key, pair);
  return pair;
}

/**
 * The figures of each protocol, one after the other.
 * @param {Pair} pair
 */
export const figuresList = ({ protocols }) =>
  definitionList(
    protocols.flatMap((figures) => [
      ...(protocols.length > 1 ? [row("protocol", figures.protocol)] : []),
      ...rowsOf(figures),
    ]),
  );

/**
 * @param {string} key
 * @param {string} value
 * @returns {Row}
 */
const row = (key, value) => [t(key), value];

/**
 * @param {ProtocolFigures} figures
 * @returns {Row[]}
 */
function rowsOf(figures) {
  const { sent, answered, lost } = figures;
  /** @type {Row[]} */
  const rows = figures.rtt_p50_us === null ? [] : roundTripRows(figures);
  if (figures.normal_p50_us) {
    rows.push(row("normal", againstNormal(figures, figures.normal_p50_us)));
  }
  const counts = { answered: formatCount(answered), sent: formatCount(sent) };
  rows.push(row("probes", t("probes.of", counts)));
  if (sent) {
    rows.push(row("lost", `${formatCount(lost)} (${formatShare(lost / sent)})`));
  }
  const faults = FAULTS.filter((fault) => figures[fault]);
  return [...rows, ...faults.map((fault) => row(fault, formatCount(figures[fault])))];
}

/**
 * @param {ProtocolFigures} figures
 * @returns {Row[]}
 */
function roundTripRows(figures) {
  const quantiles = [figures.rtt_p50_us, figures.rtt_p90_us, figures.rtt_p99_us];
  return [
    ["p50 / p90 / p99", quantiles.map(formatUs).join(" / ")],
    row("metric.max", formatUs(figures.rtt_max_us)),
    row("metric.jitter", formatUs(figures.jitter_us)),
  ];
}

/**
 * `1.8 × its normal of 240 µs`; of a pair that did not answer only what would be normal.
 * @param {ProtocolFigures} figures
 * @param {number} normal µs
 */
function againstNormal({ rtt_p50_us: us, normal_windows: windows }, normal) {
  const value = formatUs(normal);
  const words = us === null ? value : t("normal.times", { times: formatTimes(us / normal), value });
  return windows < SETTLED ? `${words} ${t("normal.young", { n: windows })}` : words;
}

/** @param {Row[]} rows */
export const definitionList = (rows) =>
  h(
    "dl",
    {},
    rows.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]),
  );
