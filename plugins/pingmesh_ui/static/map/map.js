/**
 * The map: two canvases over each other, one for cells, one for all that is drawn on and around
 * them. It has a matrix, an axis and a view; what a click means is up to its owner (`MapEvents`).
 */
import {
  MOST_FIT,
  cellAt,
  clampedView,
  limitZoom,
  placeOf,
  placeOnWay,
  seenCells,
  spanAt,
} from "./camera.js";
import { attachKeys } from "./keys.js";
import { Painter } from "./painter.js";
import { PointerInput } from "./pointer.js";

/** @import { Axis } from "./axis.js" */
/** @import { AxisSpan, Place } from "./camera.js" */
/** @import { AlarmBar, Block, Cell, Geometry, MapWords } from "./overlay.js" */
/** @import { Scale } from "./palette.js" */
/** @import { Level } from "./pyramid.js" */
/** @import { Colours, Theme } from "../theme.js" */

/**
 * What the reader does with the map.
 * @typedef {object} MapEvents
 * @property {(cell: Cell | null, event?: MouseEvent) => void} hover
 * @property {(cell: Cell) => void} pick
 * @property {(cell: Cell) => void} drill one step down at this cell
 * @property {(span: AxisSpan) => void} span a name or a bracket was clicked
 * @property {(block: Block | null) => void} block a block was dragged
 * @property {(cell: Cell) => void} cursor the cell cursor was moved
 * @property {() => void} whole show the whole mesh
 * @property {() => void} up one step up
 * @property {() => void} view the view came to rest
 */

/** After so long without a move, the view is at rest. */
const REST_MS = 140;
const FLIGHT_MS = 260;
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)");
/** What is set before anything is drawn. */
const unset = /** @type {any} */ (null);

export class MeshMap {
  /** @type {Axis} */
  axis = unset;
  /** @type {Level[] | null} */
  levels = null;
  /** @type {Level[] | null} the pyramid of loss */
  means = null;
  /** @type {Scale} */
  scale = unset;
  /** @type {Theme} */
  theme = "light";
  /** @type {Colours} */
  colours = unset;
  hatch = true;
  view = { x: 0, y: 0 };
  zoom = 1;
  fit = 1;
  /** @type {Geometry} */
  geometry = unset;
  /** @type {Cell | null} */
  hover = null;
  /** @type {Cell | null} */
  cursor = null;
  /** @type {Block | null} */
  block = null;
  /** @type {Block | null} */
  focus = null;
  /** @type {Block[]} */
  rings = [];
  /** @type {AlarmBar[]} */
  alarms = [];
  moving = false;
  /** Whether dragging selects a block. */
  blockMode = false;

  #events;
  #painter;
  #restTimer = 0;
  #flight = 0;
  /** Whether the flight ends where the whole mesh is seen. */
  #goesWhole = false;

  /**
   * @param {HTMLCanvasElement} cells
   * @param {HTMLCanvasElement} overlay over `cells`; takes the input
   * @param {MapEvents} events
   * @param {MapWords} words
   */
  constructor(cells, overlay, events, words) {
    this.#events = events;
    this.#painter = new Painter(this, cells, overlay, words);
    new PointerInput(this, overlay, events);
    attachKeys(this, overlay, events);
    const box = /** @type {HTMLElement} */ (overlay.parentElement);
    new ResizeObserver(() => this.layout()).observe(box);
  }

  // ---- what is shown ----------------------------------------------------------------------------

  /** @param {Axis} axis */
  setAxis(axis) {
    this.axis = axis;
    this.levels = null;
    this.means = null;
    this.hover = null;
    this.cursor = null;
    this.block = null;
    this.focus = null;
    this.rings = [];
    this.alarms = [];
    this.zoom = this.fit;
    this.layout();
  }

  /**
   * @param {Level[] | null} levels
   * @param {Level[] | null} [means] of loss; left as they are where they are not given
   */
  setLevels(levels, means) {
    this.levels = levels;
    if (means !== undefined) {
      this.means = means;
    }
    this.draw(true);
  }

  /**
   * @param {Scale} scale
   * @param {Theme} theme
   * @param {Colours} colours
   */
  setLook(scale, theme, colours) {
    Object.assign(this, { scale, theme, colours });
    this.#painter.recolour();
    this.draw(true);
  }

  /** Make room for the names of the axis, and keep the whole mesh in view where it was. */
  layout() {
    const { width, height } = this.#painter.room;
    if (!this.axis || !width || !height) {
      return;
    }
    const n = Math.max(1, this.axis.n);
    const square = Math.min(width, height);
    const rough = this.#painter.margin(this.axis, (square - 100) / n);
    const roughFit = Math.min(MOST_FIT, Math.max(1, square - rough.size - 2) / n);
    const { size, names } = this.#painter.margin(this.axis, roughFit);
    const isWhole = this.#goesWhole || Math.abs(this.zoom - this.fit) < this.fit * 1e-6;
    this.#land();
    this.#goesWhole = false;

    this.geometry = { margin: size, names, side: square - size - 1 };
    this.fit = Math.min(MOST_FIT, this.geometry.side / n);
    this.zoom = isWhole ? this.fit : Math.max(this.fit, this.zoom);
    this.view = clampedView(this);
    this.#painter.resize(this.geometry);
    this.draw(true);
  }

  /**
   * Draw in the next frame.
   * @param {boolean} [withCells] whether more changed than the overlay
   */
  draw(withCells = false) {
    this.#painter.request(withCells);
  }

  /** Draw now what waits for the next frame: for callers at the beginning of a frame. */
  drawNow() {
    this.#painter.paintNow();
  }

  /** The picture as it is, for saving. */
  picture() {
    return this.#painter.picture();
  }

  // ---- where it is looked at --------------------------------------------------------------------

  get isWhole() {
    return this.zoom <= this.fit * 1.001;
  }

  /** The cells that are seen. */
  get seen() {
    return seenCells(this);
  }

  /** The whole mesh as a block. */
  get all() {
    return { x0: 0, x1: this.axis.n, y0: 0, y1: this.axis.n };
  }

  /**
   * The cell under a point of the overlay.
   * @param {number} px
   * @param {number} py
   */
  cellAt(px, py) {
    return cellAt(this, px, py);
  }

  /**
   * The name or bracket under a point of the overlay.
   * @param {number} px
   * @param {number} py
   */
  spanAt(px, py) {
    return spanAt(this, px, py);
  }

  /**
   * Zoom, keeping the cell at a point of the cells where it is.
   * @param {number} zoom
   * @param {number} px
   * @param {number} py
   */
  setZoom(zoom, px, py) {
    const limited = limitZoom(this, zoom);
    this.view.x += px / this.zoom - px / limited;
    this.view.y += py / this.zoom - py / limited;
    this.zoom = limited;
    this.#move();
  }

  /**
   * Zoom about the middle.
   * @param {number} factor
   */
  zoomBy(factor) {
    const middle = this.geometry.side / 2;
    this.setZoom(this.zoom * factor, middle, middle);
  }

  /**
   * @param {number} dx px
   * @param {number} dy px
   */
  pan(dx, dy) {
    this.view.x += dx / this.zoom;
    this.view.y += dy / this.zoom;
    this.#move();
  }

  /**
   * Go to a place at once.
   * @param {number} x cells
   * @param {number} y cells
   * @param {number} zoom
   */
  place(x, y, zoom) {
    this.#land();
    this.view = { x, y };
    this.zoom = limitZoom(this, zoom);
    this.view = clampedView(this);
    this.draw(true);
  }

  /**
   * Bring a cell into view.
   * @param {Cell} cell
   */
  reveal({ x, y }) {
    const seen = this.geometry.side / this.zoom;
    if (x < this.view.x || x + 1 > this.view.x + seen) {
      this.view.x = x + 0.5 - seen / 2;
    }
    if (y < this.view.y || y + 1 > this.view.y + seen) {
      this.view.y = y + 0.5 - seen / 2;
    }
    this.view = clampedView(this);
    this.draw(true);
  }

  /**
   * Fly to where a block is seen, with some air around it.
   * @param {Block} block
   */
  fly(block) {
    this.#goesWhole = false;
    this.#glide(placeOf(this, block, false));
  }

  /** Fly to where the whole mesh is seen. */
  flyToAll() {
    this.#goesWhole = true;
    this.#glide(placeOf(this, this.all, true));
  }

  /** @param {Place} to */
  #glide(to) {
    this.#land();
    const from = { ...this.view, zoom: this.zoom };
    const started = performance.now();
    const length = reducedMotion.matches ? 0 : FLIGHT_MS;
    /** @param {number} now */
    const step = (now) => {
      const part = length ? Math.min(1, Math.max(0, (now - started) / length)) : 1;
      const { x, y, zoom } = placeOnWay(from, to, this.geometry.side, part);
      this.view = { x, y };
      this.zoom = zoom;
      this.#move();
      if (part < 1) {
        this.#flight = requestAnimationFrame(step);
      } else {
        this.#goesWhole = false;
      }
    };
    step(started);
  }

  /** End a flight where it is. */
  #land() {
    cancelAnimationFrame(this.#flight);
  }

  /** The view has moved: draw, and come to rest after a while without a move. */
  #move() {
    this.view = clampedView(this);
    this.moving = true;
    clearTimeout(this.#restTimer);
    this.#restTimer = setTimeout(() => {
      this.moving = false;
      this.#painter.refine();
      this.#events.view();
    }, REST_MS);
    this.draw(true);
  }
}
