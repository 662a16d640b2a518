/** Live mode: asks for new windows, and shows the newest. */
import { get } from "../api.js";
import { isOpenRange } from "./range.js";
import { isLive } from "./windows.js";

/** @import { WindowList } from "../../types/api.js" */
/** @import { Context } from "../app.js" */
/** @import { Time } from "./windows.js" */

/** Between two questions: a sixth of a window, within these bounds. */
const LEAST_MS = 5_000;
const MOST_MS = 60_000;
const PART = 6;

/**
 * @typedef {object} Views what is called when windows came
 * @property {() => void} showNewest
 * @property {() => void} mirror
 * @property {() => void} askStrip
 */

/**
 * @param {Context} context
 * @param {Time} time
 * @param {Views} views
 */
export function startPolling(context, time, views) {
  const poll = async () => {
    const waitMs = Math.min(MOST_MS, Math.max(LEAST_MS, (1000 * time.lengthS) / PART));
    const { turn } = time;
    try {
      if (isDue(time)) {
        await askNew(context, time, views);
      }
    } catch (error) {
      if (turn === time.turn) {
        context.report(error, views.showNewest);
      }
    }
    setTimeout(poll, waitMs);
  };
  setTimeout(poll, LEAST_MS);
}

/**
 * New windows are of use where the range ends at the newest; nothing is asked for while the page is
 * hidden.
 * @param {Time} time
 */
const isDue = ({ busy }) => !busy && !document.hidden && isOpenRange();

/**
 * @param {Context} context
 * @param {Time} time
 * @param {Views} views
 */
async function askNew(context, time, views) {
  const { turn } = time;
  const newest = time.windows[time.windows.length - 1];
  /** @type {WindowList} */
  const { windows } = await get("windows", { from: newest.id });
  if (turn !== time.turn) {
    return;
  }
  const fresh = windows.filter(({ id }) => time.indexOf(id) < 0);
  // The newest may have been made anew, as the day so far is every hour.
  const remade = windows.find(({ id, v }) => id === newest.id && v !== newest.v);
  if (remade) {
    time.windows[time.windows.length - 1] = remade;
  }
  if (!fresh.length && !remade) {
    return;
  }
  // The slider keeps as many windows as before.
  const gone = time.windows.slice(0, fresh.length);
  time.older = [...time.older.slice(fresh.length), ...gone];
  time.windows = [...time.windows.slice(fresh.length), ...fresh];
  if (isLive()) {
    context.report(null);
    views.showNewest();
  } else {
    views.mirror();
  }
  views.askStrip();
}
