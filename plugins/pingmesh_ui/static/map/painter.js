/** Paints a map on its two canvases, at most once a frame: cells below, everything else above. */
import { drawOverlay } from "./overlay.js";
import { marginFor } from "./overlay_axis.js";
import { buildLut, paperOf } from "./palette.js";
import { sample } from "./sampler.js";

/** @import { Axis } from "./axis.js" */
/** @import { MeshMap } from "./map.js" */
/** @import { Context2D, Geometry, MapWords } from "./overlay.js" */
/** @import { Lut } from "./palette.js" */

/** A frame that takes longer is drawn at half the resolution while the view moves. */
const SLOW_MS = 12;

/**
 * @param {HTMLCanvasElement} canvas
 * @param {CanvasRenderingContext2DSettings} [settings]
 */
const contextOf = (canvas, settings) =>
  /** @type {Context2D} */ (canvas.getContext("2d", settings));

const pixelRatio = () => devicePixelRatio || 1;

export class Painter {
  #map;
  #words;
  #cells;
  #overlay;
  #onCells;
  #onOverlay;
  #spare = document.createElement("canvas");
  #onSpare = contextOf(this.#spare, { alpha: false });
  /** @type {Lut | null} */
  #lut = null;
  #outside = 0;
  /** @type {ImageData | null} */
  #image = null;
  #areCellsStale = false;
  #isOverlayStale = false;
  /** The frame that is asked for; 0: none. */
  #frame = 0;
  /** Pixels of the screen a pixel that is drawn, while the view moves. */
  #coarse = 1;
  #width = 0;
  #height = 0;

  /**
   * @param {MeshMap} map what is painted
   * @param {HTMLCanvasElement} cells
   * @param {HTMLCanvasElement} overlay
   * @param {MapWords} words
   */
  constructor(map, cells, overlay, words) {
    this.#map = map;
    this.#words = words;
    this.#cells = cells;
    this.#overlay = overlay;
    this.#onCells = contextOf(cells, { alpha: false });
    this.#onOverlay = contextOf(overlay);
  }

  /** The room of the overlay, in px. */
  get room() {
    return { width: this.#overlay.clientWidth, height: this.#overlay.clientHeight };
  }

  /**
   * @param {Axis} axis
   * @param {number} fit
   */
  margin(axis, fit) {
    return marginFor(this.#onOverlay, axis, fit);
  }

  /**
   * Lay the canvases out anew.
   * @param {Geometry} geometry
   */
  resize({ margin, side }) {
    const { width, height } = this.room;
    const ratio = pixelRatio();
    const px = Math.round(side * ratio);
    const { style } = this.#cells;
    style.left = `${margin}px`;
    style.top = `${margin}px`;
    style.width = `${side}px`;
    style.height = `${side}px`;
    if (this.#cells.width !== px) {
      this.#cells.width = px;
      this.#cells.height = px;
    }
    this.#width = width;
    this.#height = height;
    this.#overlay.width = Math.round(width * ratio);
    this.#overlay.height = Math.round(height * ratio);
    this.#onOverlay.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.#image = null;
  }

  /** Take the scale and the theme of the map. */
  recolour() {
    const { scale, theme } = this.#map;
    this.#lut = buildLut(scale, theme);
    this.#outside = paperOf(theme);
  }

  /**
   * Paint in the next frame.
   * @param {boolean} withCells whether more changed than the overlay
   */
  request(withCells) {
    this.#isOverlayStale = true;
    this.#areCellsStale ||= withCells;
    this.#frame ||= requestAnimationFrame(() => this.#paint());
  }

  /** Paint now what waits for the next frame: for callers at the beginning of a frame. */
  paintNow() {
    if (this.#frame) {
      cancelAnimationFrame(this.#frame);
      this.#paint();
    }
  }

  /** The view is at rest: draw each pixel. */
  refine() {
    this.#coarse = 1;
    this.request(true);
  }

  #paint() {
    this.#frame = 0;
    if (!this.#map.geometry) {
      return;
    }
    const started = performance.now();
    if (this.#areCellsStale && this.#map.levels && this.#lut) {
      this.#paintCells(this.#map.levels, this.#lut);
    }
    if (this.#isOverlayStale && this.#map.colours) {
      this.#paintOverlay();
    }
    this.#areCellsStale = false;
    this.#isOverlayStale = false;
    if (this.#map.moving && performance.now() - started > SLOW_MS) {
      this.#coarse = 2;
    }
  }

  /**
   * @param {NonNullable<MeshMap["levels"]>} levels
   * @param {Lut} lut
   */
  #paintCells(levels, lut) {
    const { view, zoom, moving } = this.#map;
    const step = moving ? this.#coarse : 1;
    const px = Math.ceil(this.#cells.width / step);
    if (this.#image?.width !== px) {
      this.#image = new ImageData(px, px);
    }
    const image = /** @type {ImageData} */ (this.#image);
    const pixels = new Uint32Array(image.data.buffer);
    const scale = (zoom * pixelRatio()) / step;
    sample(pixels, px, px, levels, view, scale, lut, this.#outside);
    if (step === 1) {
      this.#onCells.putImageData(image, 0, 0);
      return;
    }
    this.#spare.width = px;
    this.#spare.height = px;
    this.#onSpare.putImageData(image, 0, 0);
    this.#onCells.imageSmoothingEnabled = false;
    this.#onCells.drawImage(this.#spare, 0, 0, px * step, px * step);
  }

  #paintOverlay() {
    const map = this.#map;
    const level = map.levels?.[0];
    drawOverlay(this.#onOverlay, this.#width, this.#height, {
      ...map,
      words: this.#words,
      codes: level && level.n === map.axis.n ? level.codes : null,
      geometry: { ...map.geometry, scale: map.zoom, view: map.view },
    });
  }

  /** The picture as it is, on a canvas of its own. */
  picture() {
    const out = document.createElement("canvas");
    out.width = this.#overlay.width;
    out.height = this.#overlay.height;
    const context = contextOf(out);
    context.fillStyle = this.#map.colours.paper;
    context.fillRect(0, 0, out.width, out.height);
    const margin = Math.round(this.#map.geometry.margin * pixelRatio());
    context.drawImage(this.#cells, margin, margin);
    context.drawImage(this.#overlay, 0, 0);
    return out;
  }
}
