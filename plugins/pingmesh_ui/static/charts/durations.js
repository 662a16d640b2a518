/** The axis of round trips. */
import { formatUs } from "../format.js";

/** @import { Options } from "./card.js" */

/** Values that span more than this are drawn on a logarithmic axis. */
const MOST_LINEAR = 20;

/**
 * An axis for durations in µs: linear from 0 where they are of a kind, else logarithmic.
 * @param {(number | null | undefined)[]} values
 * @param {Options} [options] of a logarithmic axis
 * @returns {Options}
 */
export function durationAxis(values, options = {}) {
  const measured = values.filter((value) => typeof value === "number").filter((us) => us > 0);
  const low = Math.min(...measured);
  const high = Math.max(...measured);
  const axisLabel = { formatter: formatUs, hideOverlap: true };
  if (high / low <= MOST_LINEAR || !measured.length) {
    return { type: "value", axisLabel };
  }
  return { type: "log", min: low / 1.4, max: high * 1.2, axisLabel, ...options };
}
