/** What the list of alarms is narrowed to, by the keys that the link has of it: state, severity, source and words. */
import { update } from "../state.js";

export const FILTERS = ["ast", "asev", "asrc", "aq"];

/** Go to the alarms that name a host, a user or whatever else. */
export function showAlarmsOf(words) {
  update(
    { ...Object.fromEntries(FILTERS.map((key) => [key, ""])), aq: words, tab: "alarms", inc: "" },
    { step: true },
  );
}
