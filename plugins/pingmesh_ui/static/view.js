/**
 * The view of the mesh: one window of one metric, what is selected in it, and what is known of it.
 * Tabs, charts and the map share it; they import this module and not each other.
 */
import { findRange } from "./map/axis.js";
import { decode, isChange, isValue } from "./map/codes.js";
import { state } from "./state.js";

/** @import { Finding, MatrixHeader, Metric, MetricCode, WindowEntry } from "../types/api.js" */
/** @import { Context } from "./app.js" */
/** @import { Axis, Host, Range } from "./map/axis.js" */
/** @import { Kind } from "./map/codes.js" */
/** @import { MeshMap } from "./map/map.js" */
/** @import { Cell } from "./map/overlay.js" */
/** @import { Ends, Scale } from "./map/palette.js" */
/** @import { Level } from "./map/pyramid.js" */
/** @import { Worst } from "./map/worst.js" */
/** @import { Query } from "./api.js" */
/** @import { Time } from "./time/windows.js" */

/**
 * A matrix as it is shown.
 * @typedef {object} MatrixFrame
 * @property {MatrixHeader} header
 * @property {Level[]} levels
 * @property {Level[] | null} [means] the pyramid of loss; left as it is where it is not given
 * @property {Worst | null} [worst] of a full matrix only
 */
/**
 * @typedef {MatrixFrame & { axis: Axis }} Frame a matrix for play, and the axis that it was made
 *   for
 */

/**
 * Fields are set in the order of: the first hosts (`axis`, `hosts`), the first matrix (`header`);
 * modules that need them are called after that.
 * @typedef {object} View
 * @property {Context} context
 * @property {MeshMap} map
 * @property {Time} time
 * @property {WindowEntry} window the window that is shown or loaded
 * @property {WindowEntry | null} waiting the window to load when the map is seen again
 * @property {AbortController | null} abort of the requests for `window`
 * @property {string | null} plan of the hosts
 * @property {Host[] | null} hosts of the inventory
 * @property {boolean} topology whether hosts have a place
 * @property {Axis} axis the hosts that are shown
 * @property {MatrixHeader} header
 * @property {Level[] | null} levels the pyramid; null while there are no figures of `window`
 * @property {Level | null} loss
 * @property {Worst | null} worst
 * @property {string} figuresOf the key of the window and metric of `levels`
 * @property {Scale} scale
 * @property {Map<string, Ends>} fits ends of scales, by metric
 * @property {Float64Array | null} scores of the hosts, for sorting by the worst
 * @property {Finding[]} findings of the alarm in `window`
 * @property {string} findingsOf the key of the window of `findings`
 * @property {boolean} arriving the selection is brought into view with the next matrix
 * @property {boolean} flying the selection is brought into view with the next change of it
 * @property {() => Metric} metric
 * @property {() => boolean} compares whether codes are a change since another window
 * @property {() => Kind} kind of the codes
 * @property {() => unknown} show called when the tab is seen again
 */

/**
 * What the codes of a metric are, as they are and as a change since another window.
 * @type {Record<MetricCode, Kind>}
 */
const KINDS = { log: "us", share: "share", count: "count", ratio: "ratio" };
/** @type {Partial<Record<MetricCode, Kind>>} */
const COMPARED = { log: "ratio", share: "points" };
/** Above so many hosts, the first picture and each step of play are of pooled cells. */
const DRAWN = 900;
const unset = /** @type {any} */ (null);

/**
 * @param {Context} context
 * @returns {View}
 */
export function createView(context) {
  const { metrics } = context.boot;
  /** @type {View} */
  const view = {
    context,
    map: unset,
    time: unset,
    window: unset,
    waiting: null,
    abort: null,
    plan: null,
    hosts: null,
    topology: false,
    axis: unset,
    header: unset,
    levels: null,
    loss: null,
    worst: null,
    figuresOf: "",
    scale: unset,
    fits: new Map(),
    scores: null,
    findings: [],
    findingsOf: "",
    arriving: true,
    flying: false,
    metric: () =>
      metrics.find(({ name }) => name === state.m && isOffered(view, name)) ?? metrics[0],
    compares: () => Boolean(state.cmp) && isComparable(view),
    kind: () => kindOf(view),
    show: () => {},
  };
  return view;
}

/** @param {View} view */
function kindOf(view) {
  const { code } = view.metric();
  return (view.compares() ? COMPARED[code] : KINDS[code]) ?? "us";
}

/**
 * Whether the metric has a change since another window.
 * @param {View} view
 */
export const isComparable = (view) => view.metric().code in COMPARED;

/**
 * Whether a metric is there at this level of time.
 * @param {View} view
 * @param {string} name
 */
export function isOffered(view, name) {
  const metric = view.context.boot.metrics.find((one) => one.name === name);
  return Boolean(metric) && (metric?.levels?.includes(state.lv || "window") ?? true);
}

/**
 * How often a mesh of n hosts is halved for the first picture and for play.
 * @param {number} n
 */
export const lodFor = (n) => (n <= DRAWN ? 0 : Math.ceil(Math.log2(n / DRAWN)));

// ---- which figures ------------------------------------------------------------------------------

/**
 * The key of the window: an hour has the id of its first window, and a window may be made anew.
 * @param {Pick<View, "window">} view
 */
export const windowKey = ({ window }) => [state.lv, window.id, window.v].join(" ");

/**
 * The key of the figures of the map.
 * @param {View} view
 */
export const figuresKey = (view) =>
  [windowKey(view), view.metric().name, view.compares() && state.cmp].join(" ");

/**
 * The code of a cell; null while the full matrix is not there.
 * @param {View} view
 * @param {Cell} cell
 */
export function codeAt(view, { x, y }) {
  const level = fullLevel(view);
  return level ? level.codes[y * level.n + x] : null;
}

/**
 * The full matrix; null while it is not there.
 * @param {View} view
 */
export function fullLevel({ levels, axis }) {
  const level = levels?.[0];
  return level && level.n === axis.n ? level : null;
}

/**
 * The figure of a code; null for a state.
 * @param {View} view
 * @param {number | null} code
 */
export const figureOf = (view, code) =>
  code !== null && isValue(code) ? decode(code, view.kind()) : null;

/**
 * The cell that is meant by a click: of those under one pixel, the worst.
 * @param {View} view
 * @param {Cell} cell
 * @returns {Cell}
 */
export function sharpen({ levels, map }, cell) {
  const px = map.zoom * (devicePixelRatio || 1);
  if (px >= 1 || !levels?.[0]) {
    return cell;
  }
  let k = 0;
  while (px * 2 ** k < 1) {
    k++;
  }
  return worstOfBlock(levels[0], cell, 2 ** k);
}

/**
 * The first of the worst cells of the block of `size` × `size` that a cell lies in.
 * @param {Level} level
 * @param {Cell} cell
 * @param {number} size
 */
export function worstOfBlock({ n, codes }, cell, size) {
  const x0 = Math.floor(cell.x / size) * size;
  const y0 = Math.floor(cell.y / size) * size;
  let worst = cell;
  let most = -1;
  for (let y = y0; y < Math.min(n, y0 + size); y++) {
    for (let x = x0; x < Math.min(n, x0 + size); x++) {
      if (codes[y * n + x] > most) {
        most = codes[y * n + x];
        worst = { x, y };
      }
    }
  }
  return worst;
}

/**
 * Whether a cell that has no code may still have figures: a change needs something to compare with.
 * @param {View} view
 * @param {Cell} cell
 */
export const mayHaveFigures = (view, cell) =>
  Boolean(codeAt(view, cell)) || (isChange(view.kind()) && cell.x !== cell.y);

// ---- what is selected ---------------------------------------------------------------------------

/**
 * The two ends of the selection, as the link spells them.
 * @returns {[src: string, dst: string]}
 */
export function ends() {
  const at = state.sel.indexOf(">");
  return at < 0 ? ["", ""] : [state.sel.slice(0, at), state.sel.slice(at + 1)];
}

/**
 * The ranges of the selection: rows and columns. `isKnown` is whether there is a selection whose
 * ends are both on the axis.
 * @param {View} view
 * @returns {{ isKnown: true, rows: Range, columns: Range } | { isKnown: false, rows: null, columns:
 *   null }}
 */
export function selectedRanges({ axis }) {
  const [src, dst] = ends();
  const rows = findRange(axis, src);
  const columns = findRange(axis, dst);
  return state.sel && rows && columns
    ? { isKnown: true, rows, columns }
    : { isKnown: false, rows: null, columns: null };
}

/**
 * The selection as the API takes it.
 * @param {View} view
 * @returns {Query & { of: string, src?: string, dst?: string }}
 */
export function subjectOf(view) {
  const { isKnown, rows, columns } = selectedRanges(view);
  const [src, dst] = ends();
  if (!isKnown) {
    return { of: "mesh" };
  }
  if (rows.kind === "host" && columns.kind === "host") {
    return { of: "pair", src, dst };
  }
  if (rows.kind === "all") {
    return { of: "host", dst };
  }
  return columns.kind === "all" ? { of: "host", src } : { of: rows.kind, src, dst };
}
