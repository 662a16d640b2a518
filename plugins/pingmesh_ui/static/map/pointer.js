/**
 * Mouse and touch on the map: wheel and pinch zoom to the pointer, dragging pans, dragging with
 * shift (or in block mode) selects a block, a click selects, a double click drills down.
 */

/** @import { Cell } from "./overlay.js" */
/** @import { MapEvents, MeshMap } from "./map.js" */

/** @typedef {{ px: number, py: number }} Point px of the overlay */

/**
 * Zoom per px of the wheel; a line of the wheel is so many px, and one event is at most so many.
 */
const WHEEL = 0.0016;
const LINE_PX = 16;
const MOST_WHEEL_PX = 240;
/** A pinch on a touchpad is a wheel with control, in smaller steps. */
const PINCH_FACTOR = 4;
/** A pointer that moved less has clicked. */
const CLICK_PX = 4;

export class PointerInput {
  #map;
  #target;
  #events;
  /**
   * Pointers that are down.
   * @type {Map<number, Point>}
   */
  #pointers = new Map();
  /**
   * Where the first went down.
   * @type {(Point & { cell: Cell | null, moved: boolean }) | null}
   */
  #start = null;
  /**
   * The cell at which a block begins; null: dragging pans.
   * @type {Cell | null}
   */
  #corner = null;
  /** px between two fingers. */
  #spread = 0;

  /**
   * @param {MeshMap} map
   * @param {HTMLElement} target
   * @param {MapEvents} events
   */
  constructor(map, target, events) {
    this.#map = map;
    this.#target = target;
    this.#events = events;
    target.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    target.addEventListener("pointerdown", (event) => this.#down(event));
    target.addEventListener("pointermove", (event) => this.#move(event));
    target.addEventListener("pointerup", (event) => this.#up(event));
    target.addEventListener("pointercancel", (event) => this.#up(event));
    target.addEventListener("pointerleave", () => this.#leave());
    target.addEventListener("dblclick", (event) => this.#doubleClick(event));
  }

  /**
   * @param {MouseEvent} event
   * @returns {Point}
   */
  #at(event) {
    const box = this.#target.getBoundingClientRect();
    return { px: event.clientX - box.left, py: event.clientY - box.top };
  }

  /** @param {Point} point of the overlay; returns px of the cells */
  #inCells({ px, py }) {
    const { margin } = this.#map.geometry;
    return { px: px - margin, py: py - margin };
  }

  /** @param {MouseEvent} event */
  #cellAt(event) {
    const { px, py } = this.#at(event);
    return this.#map.cellAt(px, py);
  }

  /** @param {WheelEvent} event */
  #wheel(event) {
    const map = this.#map;
    if (!map.geometry) {
      return;
    }
    event.preventDefault();
    const { px, py } = this.#inCells(this.#at(event));
    const isLines = event.deltaMode === WheelEvent.DOM_DELTA_LINE;
    const delta = event.deltaY * (isLines ? LINE_PX : 1);
    const limited = Math.max(-MOST_WHEEL_PX, Math.min(MOST_WHEEL_PX, delta));
    const factor = Math.exp(-limited * WHEEL * (event.ctrlKey ? PINCH_FACTOR : 1));
    map.setZoom(map.zoom * factor, Math.max(0, px), Math.max(0, py));
    this.#hover(event);
  }

  /** @param {PointerEvent} event */
  #down(event) {
    if (event.button !== 0 || !this.#map.geometry) {
      return;
    }
    const at = this.#at(event);
    const cell = this.#map.cellAt(at.px, at.py);
    this.#target.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, at);
    this.#start = { ...at, cell, moved: false };
    this.#corner = event.shiftKey || this.#map.blockMode ? cell : null;
    if (this.#pointers.size === 2) {
      this.#spread = this.#distance();
    }
  }

  /** @param {PointerEvent} event */
  #move(event) {
    if (!this.#map.geometry) {
      return;
    }
    const before = this.#pointers.get(event.pointerId);
    const start = this.#start;
    if (!before || !start) {
      this.#hover(event);
      return;
    }
    const now = this.#at(event);
    this.#pointers.set(event.pointerId, now);
    if (this.#pointers.size === 2) {
      this.#pinch(before, now);
      start.moved = true;
      return;
    }
    if (!start.moved && Math.hypot(now.px - start.px, now.py - start.py) < CLICK_PX) {
      return;
    }
    start.moved = true;
    if (this.#corner) {
      this.#dragBlock(this.#corner, now);
    } else {
      this.#target.classList.add("dragging");
      this.#map.pan(before.px - now.px, before.py - now.py);
    }
    this.#events.hover(null);
  }

  /**
   * Two fingers pan by their middle and zoom by what is between them.
   * @param {Point} before where the finger that moved was
   * @param {Point} now
   */
  #pinch(before, now) {
    const spread = this.#distance();
    const [a, b] = [...this.#pointers.values()];
    const { px, py } = this.#inCells({ px: (a.px + b.px) / 2, py: (a.py + b.py) / 2 });
    this.#map.pan((before.px - now.px) / 2, (before.py - now.py) / 2);
    if (this.#spread && spread) {
      this.#map.setZoom(this.#map.zoom * (spread / this.#spread), px, py);
    }
    this.#spread = spread;
  }

  /**
   * @param {Cell} corner
   * @param {Point} now
   */
  #dragBlock(corner, now) {
    const cell = this.#map.cellAt(now.px, now.py);
    if (cell) {
      this.#map.block = {
        x0: Math.min(corner.x, cell.x),
        x1: Math.max(corner.x, cell.x) + 1,
        y0: Math.min(corner.y, cell.y),
        y1: Math.max(corner.y, cell.y) + 1,
      };
      this.#map.draw();
    }
  }

  /** @param {PointerEvent} event */
  #up(event) {
    if (!this.#pointers.delete(event.pointerId)) {
      return;
    }
    this.#target.classList.remove("dragging");
    const start = this.#start;
    const wasBlock = Boolean(this.#corner);
    if (this.#pointers.size || !start) {
      return;
    }
    this.#start = null;
    this.#corner = null;
    this.#spread = 0;
    if (event.type === "pointercancel") {
      return;
    }
    if (!start.moved) {
      this.#click(start);
    } else if (wasBlock) {
      this.#events.block(this.#map.block);
    }
  }

  /** @param {Point} point */
  #click({ px, py }) {
    const map = this.#map;
    const cell = map.cellAt(px, py);
    const span = map.spanAt(px, py);
    if (cell) {
      map.cursor = cell;
      map.draw();
      this.#events.pick(cell);
    } else if (span) {
      this.#events.span(span);
    }
  }

  #leave() {
    if (!this.#pointers.size) {
      this.#map.hover = null;
      this.#map.draw();
      this.#events.hover(null);
    }
  }

  /** @param {MouseEvent} event */
  #doubleClick(event) {
    const cell = this.#cellAt(event);
    if (cell) {
      this.#events.drill(cell);
    }
  }

  /** @param {MouseEvent} event */
  #hover(event) {
    const map = this.#map;
    const { px, py } = this.#at(event);
    const cell = map.cellAt(px, py);
    if (cell?.x !== map.hover?.x || cell?.y !== map.hover?.y) {
      map.hover = cell;
      map.draw();
    }
    this.#target.classList.toggle("on-axis", !cell && Boolean(map.spanAt(px, py)));
    this.#events.hover(cell, event);
  }

  /** px between the first two fingers. */
  #distance() {
    const [a, b] = [...this.#pointers.values()];
    return Math.hypot(a.px - b.px, a.py - b.py);
  }
}
