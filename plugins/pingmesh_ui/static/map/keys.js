/** Keys on the map: arrows move a cell cursor, + − 0 zoom, Enter selects, Escape goes up. */

/** @import { Cell } from "./overlay.js" */
/** @import { MapEvents, MeshMap } from "./map.js" */

const ZOOM = 1.5;
/** Cells an arrow moves the cursor with shift; with control it is this part of the axis. */
const SHIFT_STEP = 10;
const CONTROL_PART = 20;
/** @type {Record<string, [dx: number, dy: number]>} */
const ARROWS = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

/**
 * @param {MeshMap} map
 * @param {HTMLElement} target
 * @param {MapEvents} events
 */
export function attachKeys(map, target, events) {
  target.addEventListener("keydown", (event) => {
    if (!map.axis?.n || !map.geometry || event.altKey || event.metaKey) {
      return;
    }
    const isKnown =
      event.key in ARROWS ? moveCursor(map, events, event) : press(map, events, event);
    if (isKnown) {
      event.preventDefault();
    }
  });
}

/**
 * Returns whether the key means anything.
 * @param {MeshMap} map
 * @param {MapEvents} events
 * @param {KeyboardEvent} event
 */
function press(map, events, { key, shiftKey }) {
  switch (key) {
    case "+":
    case "=":
      map.setZoom(map.zoom * ZOOM, ...anchor(map));
      return true;
    case "-":
      map.setZoom(map.zoom / ZOOM, ...anchor(map));
      return true;
    case "0":
      events.whole();
      return true;
    case "Escape":
      events.up();
      return true;
    case "Enter":
      if (map.cursor) {
        events[shiftKey ? "drill" : "pick"](map.cursor);
      }
      return Boolean(map.cursor);
    default:
      return false;
  }
}

/**
 * The first arrow shows the cursor in the middle of what is seen.
 * @param {MeshMap} map
 * @param {MapEvents} events
 * @param {KeyboardEvent} event
 */
function moveCursor(map, events, event) {
  const [dx, dy] = ARROWS[event.key];
  const { seen } = map;
  const last = map.axis.n - 1;
  const step = stepOf(event, map.axis.n);
  const from = map.cursor ?? {
    x: Math.floor((seen.x0 + seen.x1) / 2),
    y: Math.floor((seen.y0 + seen.y1) / 2),
  };
  /** @param {number} i */
  const limited = (i) => Math.min(last, Math.max(0, i));
  /** @type {Cell} */
  const to =
    map.cursor || step > 1
      ? { x: limited(from.x + dx * step), y: limited(from.y + dy * step) }
      : from;
  map.cursor = to;
  map.reveal(to);
  events.cursor(to);
  return true;
}

/**
 * @param {KeyboardEvent} event
 * @param {number} n
 */
function stepOf({ ctrlKey, shiftKey }, n) {
  if (ctrlKey) {
    return Math.max(1, Math.round(n / CONTROL_PART));
  }
  return shiftKey ? SHIFT_STEP : 1;
}

/**
 * The point that zooming keeps: the cursor where it is in view, else the middle.
 * @param {MeshMap} map
 * @returns {[px: number, py: number]}
 */
function anchor({ cursor, geometry, view, zoom }) {
  const { side } = geometry;
  const x = cursor ? (cursor.x + 0.5 - view.x) * zoom : -1;
  const y = cursor ? (cursor.y + 0.5 - view.y) * zoom : -1;
  const isInView = x >= 0 && y >= 0 && x <= side && y <= side;
  return isInView ? [x, y] : [side / 2, side / 2];
}
