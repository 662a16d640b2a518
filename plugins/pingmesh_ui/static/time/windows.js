/** The windows under the slider: which there are, which is shown, and the ids of moments. */
import { formatId, parseId } from "../format.js";
import { state, update } from "../state.js";

/** @import { Boot, SeriesPoint, WindowEntry } from "../../types/api.js" */
/** @import { Changes } from "../state.js" */
/** @import { Frame } from "../view.js" */

/**
 * How a window is shown: `playing`, as a step of play, of which `frame` may be there already.
 * @typedef {{ playing?: boolean, frame?: Frame | null }} ShowOptions
 */
/** @typedef {(entry: WindowEntry, options?: ShowOptions) => unknown} Follower */
/**
 * @typedef {object} Time
 * @property {WindowEntry[]} windows under the slider, oldest first
 * @property {WindowEntry[]} older those of a day before the range, to compare with
 * @property {boolean} more whether the range has older windows that were not sent
 * @property {number} lengthS of a window
 * @property {SeriesPoint[] | null} points the mesh over the range, for the strip
 * @property {Set<Follower>} followers
 * @property {Promise<unknown>} ready when the range of the link is there
 * @property {number} turn counts the ranges that were asked for: an answer for another comes too
 *   late
 * @property {boolean} busy whether the last of them is still to come
 * @property {boolean} quiet whether the state is changed by the time bar itself
 * @property {boolean} moving whether the level of time is changing
 * @property {boolean} choosing whether the reader chose another range
 * @property {(id: string) => number} indexOf −1 where the slider has no such window
 * @property {(id: string) => WindowEntry | null} entry
 * @property {(id: string) => string} endOf the id of the moment at which a window ends
 * @property {() => number} current index of the window that is shown
 * @property {() => WindowEntry} now the window that is shown
 * @property {(follower: Follower) => Promise<unknown>} follow call `follower` now and whenever
 *   another window is to be seen
 * @property {() => void} rest ask for what could wait for the first picture
 */

/** @type {Record<string, number>} */
const LEVELS_S = { hour: 3_600, day: 86_400 };
const HOUR_MS = 3_600_000;

/**
 * The windows that `boot` has.
 * @param {Boot} boot
 * @returns {Time}
 */
export function createTime(boot) {
  /** @type {Time} */
  const time = {
    windows: boot.windows,
    older: [],
    more: false,
    lengthS: boot.window_s,
    points: null,
    followers: new Set(),
    ready: Promise.resolve(),
    turn: 0,
    busy: false,
    quiet: false,
    moving: false,
    choosing: false,
    indexOf: (id) => time.windows.findIndex((entry) => entry.id === id),
    entry: (id) =>
      time.windows[time.indexOf(id)] ?? time.older.find((entry) => entry.id === id) ?? null,
    endOf: (id) => movedId(id, 1000 * time.lengthS),
    current: () => (isLive() ? time.windows.length - 1 : time.indexOf(state.w)),
    now: () =>
      isLive() ? time.windows[time.windows.length - 1] : (time.entry(state.w) ?? { id: state.w }),
    follow: async (follower) => {
      await time.ready;
      time.followers.add(follower);
      return follower(time.now());
    },
    rest: () => {},
  };
  return time;
}

/** Whether the newest window is followed. */
export const isLive = () => !state.w;

/**
 * Length of a window of a level, in s.
 * @param {string} level
 * @param {Boot} boot
 */
export const lengthOf = (level, boot) => LEVELS_S[level] ?? boot.window_s;

/**
 * The id of the window of `lengthS` that a moment lies in.
 * @param {number} ms
 * @param {number} lengthS
 */
export const startOf = (ms, lengthS) =>
  formatId(new Date(Math.floor(ms / (1000 * lengthS)) * 1000 * lengthS));

/**
 * The id of a moment so many ms after another.
 * @param {string} id
 * @param {number} ms
 */
export const movedId = (id, ms) => formatId(new Date(+parseId(id) + ms));

/**
 * @param {string} id
 * @param {number} hours
 */
export const hoursBefore = (id, hours) => movedId(id, -hours * HOUR_MS);

/**
 * Change the state without the time bar following it.
 * @param {Time} time
 * @param {Changes} changes
 * @param {{ later?: boolean }} [options]
 */
export function updateQuietly(time, changes, options) {
  time.quiet = true;
  update(changes, options);
  time.quiet = false;
}
