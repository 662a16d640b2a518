/**
 * Where cells are on the screen: pure geometry of a map that shows the cells from `view` on, at
 * `zoom` px a cell, in the square of its `geometry`.
 */
import { GAP, NAMED, STRIP } from "./overlay_axis.js";

/** @import { Axis } from "./axis.js" */
/** @import { Block, Cell, Geometry } from "./overlay.js" */

/**
 * @typedef {object} Camera
 * @property {Axis} axis
 * @property {Geometry} geometry
 * @property {{ x: number, y: number }} view cells at the upper left
 * @property {number} zoom px a cell
 * @property {number} fit px a cell when the whole mesh is seen
 */
/** @typedef {{ x: number, y: number, zoom: number }} Place */
/** @typedef {{ isRow: boolean, path: string, start: number, stop: number }} AxisSpan */

/**
 * The largest cells, in px; those of a small mesh that is seen as a whole are not larger than
 * MOST_FIT.
 */
const MOST_ZOOM = 120;
export const MOST_FIT = 84;
/** Air around a block that is brought into view. */
const AIR = 1.12;

/**
 * A zoom within its limits.
 * @param {Camera} camera
 * @param {number} zoom
 */
export const limitZoom = ({ fit }, zoom) => Math.min(Math.max(zoom, fit), Math.max(MOST_ZOOM, fit));

/**
 * The view moved so that there are cells everywhere in it.
 * @param {Camera} camera
 */
export function clampedView({ axis, geometry, view, zoom }) {
  const most = Math.max(0, axis.n - geometry.side / zoom);
  return { x: Math.min(most, Math.max(0, view.x)), y: Math.min(most, Math.max(0, view.y)) };
}

/**
 * The cells that are seen.
 * @param {Camera} camera
 * @returns {Block}
 */
export function seenCells({ axis, geometry, view, zoom }) {
  const count = geometry.side / zoom;
  return {
    x0: view.x,
    x1: Math.min(axis.n, view.x + count),
    y0: view.y,
    y1: Math.min(axis.n, view.y + count),
  };
}

/**
 * The cell under a point of the overlay.
 * @param {Camera} camera
 * @param {number} px
 * @param {number} py
 * @returns {Cell | null}
 */
export function cellAt({ axis, geometry, view, zoom }, px, py) {
  if (!geometry || !axis) {
    return null;
  }
  const x = px - geometry.margin;
  const y = py - geometry.margin;
  if (x < 0 || y < 0 || x >= geometry.side || y >= geometry.side) {
    return null;
  }
  const cell = { x: Math.floor(view.x + x / zoom), y: Math.floor(view.y + y / zoom) };
  return cell.x < axis.n && cell.y < axis.n ? cell : null;
}

/**
 * The name or the group's bracket under a point of the overlay.
 * @param {Camera} camera
 * @param {number} px
 * @param {number} py
 * @returns {AxisSpan | null}
 */
export function spanAt({ axis, geometry, view, zoom }, px, py) {
  if (!geometry || !axis) {
    return null;
  }
  const { margin, side } = geometry;
  const isRow = px < margin && py >= margin;
  const isColumn = py < margin && px >= margin;
  if (!isRow && !isColumn) {
    return null;
  }
  const [from, along, across] = isRow ? [view.y, py, px] : [view.x, px, py];
  const i = Math.floor(from + (along - margin) / zoom);
  if (i < 0 || i >= axis.n || along > margin + side) {
    return null;
  }
  const names = zoom >= NAMED ? geometry.names : Number.NEGATIVE_INFINITY;
  const span = spanOutside(axis, i, margin - GAP - across, names);
  return span && { isRow, ...span };
}

/**
 * The name at a position, or the bracket at so many px from the cells.
 * @param {Axis} axis
 * @param {number} i
 * @param {number} away px
 * @param {number} names room for names, in px; −∞ where none are written
 */
function spanOutside({ hosts, brackets }, i, away, names) {
  if (away < names) {
    return { path: hosts[i].name, start: i, stop: i + 1 };
  }
  const depth = Math.floor((away - Math.max(0, names)) / STRIP);
  const bracket = brackets[Math.max(0, depth)];
  const span = bracket?.spans.find(({ start, stop }) => i >= start && i < stop);
  return span ? { path: span.path, start: span.start, stop: span.stop } : null;
}

/**
 * The place from which a block is seen in the middle.
 * @param {Camera} camera
 * @param {Block} block
 * @param {boolean} isWhole no air around it
 * @returns {Place}
 */
export function placeOf(camera, { x0, x1, y0, y1 }, isWhole) {
  const { side } = camera.geometry;
  const room = Math.max(x1 - x0, y1 - y0, 1) * (isWhole ? 1 : AIR);
  const zoom = limitZoom(camera, side / room);
  return { x: (x0 + x1) / 2 - side / zoom / 2, y: (y0 + y1) / 2 - side / zoom / 2, zoom };
}

/**
 * A way from one place to another on which the zoom changes evenly; `part` is 0…1 of it.
 * @param {Place} from
 * @param {Place} to
 * @param {number} side
 * @param {number} part
 * @returns {Place}
 */
export function placeOnWay(from, to, side, part) {
  const eased = 1 - (1 - part) ** 3;
  const zoom = from.zoom * (to.zoom / from.zoom) ** eased;
  const share =
    to.zoom === from.zoom ? eased : (1 / from.zoom - 1 / zoom) / (1 / from.zoom - 1 / to.zoom);
  /**
   * @param {number} a
   * @param {number} b
   */
  const middle = (a, b) => {
    const start = a + side / from.zoom / 2;
    return start + (b + side / to.zoom / 2 - start) * share;
  };
  return {
    x: middle(from.x, to.x) - side / zoom / 2,
    y: middle(from.y, to.y) - side / zoom / 2,
    zoom,
  };
}
