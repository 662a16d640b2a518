/** From an alarm to the map of its time. */
import { formatId, parseId } from "../format.js";
import { update } from "../state.js";

/** @import { WindowEntry } from "../../types/api.js" */
/** @import { Context } from "../app.js" */
/** @import { AlarmRow } from "./alarm_rows.js" */

/** Scopes whose subject is a group of hosts. */
const GROUPS = new Set(["tor", "podset", "dc"]);

/**
 * The subject of an alarm as a selection; "" where the map has nothing of the kind.
 * @param {AlarmRow} row
 */
export function selectionOf({ scope, subject }) {
  if (scope === "pair") {
    return subject;
  }
  if (scope === "host") {
    return `${subject}>`;
  }
  return GROUPS.has(scope) ? `${subject}>${subject}` : "";
}

/**
 * Show the heatmap of the window in which an alarm began; the newest where that window is not over
 * yet.
 * @param {Context} context
 * @param {AlarmRow} row
 * @param {string} sel
 */
export function showOnMap(context, row, sel) {
  const lengthMs = 1000 * context.boot.window_s;
  const at = +new Date(row.since ?? row.at);
  const start = Math.floor(at / lengthMs) * lengthMs;
  const w = start <= newestMs(context) ? formatId(new Date(start)) : "";
  context.arrive?.();
  update({ tab: "mesh", lv: "", w, sel, blk: "", at: "" }, { step: true });
}

/**
 * When the newest window that is known began; NaN where there is none.
 * @param {Context} context
 */
function newestMs({ boot, time }) {
  if (!boot.newest) {
    return Number.NaN;
  }
  /** @type {(WindowEntry | undefined)[]} */
  const entries = [boot.newest, time?.windows.at(-1)];
  return Math.max(...entries.flatMap((entry) => (entry ? [+parseId(entry.id)] : [])));
}
