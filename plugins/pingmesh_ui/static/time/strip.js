/**
 * Above the slider: the mesh's p99 over the range as a line, failed and missing pairs as bars, and
 * the window that is shown.
 */
import { $ } from "../dom.js";
import { colours } from "../theme.js";

/** @import { SeriesPoint } from "../../types/api.js" */
/** @import { Time } from "./windows.js" */

/** Space at both sides and at the foot, in px. */
const SIDE = 4;
const FOOT = 2;
/** A bar is at least so high, and grows so fast with the share of bad pairs. */
const LEAST_BAR = 0.15;
const BAR_GROWTH = 4;
/** The line's scale spans at least so much, so that noise does not fill it. */
const LEAST_FACTOR = 2.5;

/** @typedef {SeriesPoint & { i: number }} Placed a point at a place of the slider */
/**
 * @typedef {object} Strip
 * @property {CanvasRenderingContext2D} context
 * @property {number} width
 * @property {number} height
 * @property {number} base y of the foot
 * @property {(i: number) => number} x of a place of the slider
 */

/**
 * @param {Time} time
 * @param {number} at the place of the slider; −1 where the window is not under it
 */
export function drawStrip(time, at) {
  const canvas = $("strip");
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  if (!width) {
    return;
  }
  const n = time.windows.length;
  const context = cleared(canvas, width, height);
  /** @type {Strip} */
  const strip = {
    context,
    width,
    height,
    base: height - FOOT,
    x: (i) => (n > 1 ? SIDE + (i * (width - 2 * SIDE)) / (n - 1) : width / 2),
  };
  context.fillStyle = colours().grid;
  context.fillRect(0, strip.base, width, 1);
  const points = placedPoints(time);
  if (points.length) {
    drawBars(strip, points, Math.max(1.5, Math.min(8, width / n - 1)));
    drawLine(strip, points);
  }
  if (at >= 0) {
    context.fillStyle = colours().ink;
    context.fillRect(strip.x(at) - 0.75, 0, 1.5, height);
  }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {number} width
 * @param {number} height
 */
function cleared(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  const wide = Math.round(width * ratio);
  const tall = Math.round(height * ratio);
  if (canvas.width !== wide || canvas.height !== tall) {
    canvas.width = wide;
    canvas.height = tall;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

/**
 * The points whose windows are under the slider.
 * @param {Time} time
 * @returns {Placed[]}
 */
function placedPoints({ windows, points }) {
  const places = new Map(windows.map((entry, i) => [entry.id, i]));
  return (points ?? []).flatMap((point) => {
    const i = places.get(point.window);
    return i === undefined ? [] : [{ ...point, i }];
  });
}

/**
 * @param {Strip} strip
 * @param {Placed[]} points
 * @param {number} width
 */
function drawBars({ context, base, x }, points, width) {
  context.fillStyle = colours().bad;
  context.globalAlpha = 0.5;
  for (const { i, failed, missing, pairs } of points) {
    const bad = ((failed ?? 0) + (missing ?? 0)) / Math.max(1, pairs ?? 0);
    if (bad) {
      const tall = Math.min(1, LEAST_BAR + bad * BAR_GROWTH) * (base - 6);
      context.fillRect(x(i) - width / 2, base - 3 - tall, width, tall + 3);
    }
  }
  context.globalAlpha = 1;
}

/**
 * The p99 on a logarithmic scale; windows without one interrupt the line.
 * @param {Strip} strip
 * @param {Placed[]} points
 */
function drawLine({ context, base, x }, points) {
  const values = points.map(({ p99_us: us }) => us ?? 0);
  const measured = values.filter((us) => us > 0);
  const low = Math.min(...measured) / 1.2;
  const high = Math.max(...measured, low * LEAST_FACTOR) * 1.05;
  context.strokeStyle = colours().s0;
  context.lineWidth = 1.6;
  context.beginPath();
  points.forEach(({ i }, k) => {
    if (values[k] > 0) {
      const y = base - 3 - (base - 6) * (Math.log(values[k] / low) / Math.log(high / low));
      context[values[k - 1] > 0 ? "lineTo" : "moveTo"](x(i), y);
    }
  });
  context.stroke();
}
