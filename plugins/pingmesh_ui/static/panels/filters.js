/** Filters of the list of alarms, by their keys in the link: state, severity, source and words. */
import { update } from "../state.js";

export const FILTERS = /** @type {const} */ (["ast", "asev", "asrc", "aq"]);

/**
 * Go to the alarms that name a host, a user or anything else.
 * @param {string} words
 */
export function showAlarmsOf(words) {
  const cleared = Object.fromEntries(FILTERS.map((key) => [key, ""]));
  update({ ...cleared, aq: words, tab: "alarms", inc: "" }, { step: true });
}
