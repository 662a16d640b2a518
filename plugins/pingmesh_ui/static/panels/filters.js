/** What the list of alarms is narrowed to is part of the link: state, severity, source and words, by these keys. */
import { spell, state, update } from "../state.js";

export const FILTERS = ["ast", "asev", "asrc", "aq"];

/** undefined is what state.js has for a key that it has no default of, and what it leaves out of the link. */
function take(values) {
  for (const key of FILTERS) state[key] = values[key] || undefined;
}

export function readFilters() {
  const link = new URLSearchParams(location.hash.slice(1));
  take(Object.fromEntries(FILTERS.map((key) => [key, link.get(key)?.slice(0, 200)])));
  return Object.fromEntries(FILTERS.map((key) => [key, state[key] ?? ""]));
}

export function writeFilters(values) {
  take(values);
  const hash = spell();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

/** Go to the alarms that name a host, a user or whatever else. */
export function showAlarmsOf(words) {
  take({ aq: words });
  update({ tab: "alarms", inc: "" }, { step: true });
}
