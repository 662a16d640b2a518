/** The range of the slider: the newest windows, or those that the link or the reader asks for. */
import { get } from "../api.js";
import { pageError } from "../api_error.js";
import { t } from "../i18n.js";
import { state } from "../state.js";
import { hoursBefore, lengthOf, movedId, updateQuietly } from "./windows.js";

/** @import { WindowList } from "../../types/api.js" */
/** @import { Context } from "../app.js" */
/** @import { Time } from "./windows.js" */

/**
 * Hours of the ranges that are offered, by their key in the link; any other key is the start of a
 * range of the reader's own.
 * @type {Record<string, number>}
 */
export const RANGES = { "": 24, "1h": 1, "6h": 6, "24h": 24, "7d": 168 };
/** Hours before and after a window that a link names and the range does not have. */
const AROUND_H = 12;

/** Whether the range ends at the newest window. */
export const isOpenRange = () => state.from in RANGES;

/**
 * Ask for the range of the state. Returns whether it is there; it is not where another was asked
 * for meanwhile.
 * @param {Context} context
 * @param {Time} time
 * @param {() => void} onLoad called when the range is there
 * @returns {Promise<boolean>}
 */
export async function loadRange(context, time, onLoad) {
  const turn = ++time.turn;
  const isLast = () => turn === time.turn;
  time.busy = true;
  try {
    const answer = await askRange(context);
    if (!isLast()) {
      return false;
    }
    if (!answer.windows.length && state.lv) {
      context.report(pageError(t("level.empty"), "no_window"));
      updateQuietly(time, { lv: "", w: "" });
      return await loadRange(context, time, onLoad);
    }
    const { windows, more } = await withWindows(context, time, answer);
    if (!isLast()) {
      return false;
    }
    const lengthS = lengthOf(state.lv, context.boot);
    Object.assign(time, { windows, older: [], more: Boolean(more), lengthS, points: null });
  } catch (error) {
    if (isLast()) {
      throw error;
    }
    return false;
  } finally {
    if (isLast()) {
      time.busy = false;
    }
  }
  onLoad();
  return true;
}

/**
 * @param {Context} context
 * @returns {Promise<WindowList>}
 */
async function askRange({ boot }) {
  const { from, to, lv } = state;
  if (!from) {
    return get("windows");
  }
  if (!isOpenRange()) {
    return get("windows", { from, to });
  }
  /** @type {WindowList} */
  const { windows } = await get("windows", { limit: 1 });
  if (!windows.length) {
    return { windows: [] };
  }
  const end = movedId(windows[0].id, 1000 * lengthOf(lv, boot));
  return get("windows", { from: hoursBefore(end, RANGES[from]) });
}

/**
 * The range; the newest windows where it has none; and those around the window that the link names
 * where the range does not have it, unless the reader chose the range.
 * @param {Context} context
 * @param {Time} time
 * @param {WindowList} answer
 * @returns {Promise<WindowList>}
 */
async function withWindows({ report }, time, answer) {
  let range = answer;
  if (!range.windows.length) {
    report(pageError(t("range.empty"), "no_window"));
    range = await get("windows");
  }
  if (!state.w || time.choosing || range.windows.some(({ id }) => id === state.w)) {
    return range;
  }
  const query = { from: hoursBefore(state.w, AROUND_H), to: hoursBefore(state.w, -AROUND_H) };
  /** @type {WindowList | null} */
  const around = await get("windows", query).catch(() => null);
  return around?.windows.length ? around : range;
}
