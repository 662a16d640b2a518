/** Around the cells: names, brackets of groups, and bars of findings, on both axes. */
import { shortLabel, shortName } from "./axis.js";

/** @import { Axis, Bracket, Measure, Span } from "./axis.js" */
/** @import { Context2D, Scene } from "./overlay.js" */

export const FONT = "12px system-ui, 'DejaVu Sans', sans-serif";
export const SMALL = "11px system-ui, 'DejaVu Sans', sans-serif";
/** Room of one level of brackets, in px. */
export const STRIP = 21;
/** From so many px a cell names are written. */
export const NAMED = 12;
/** Between the cells and what is written beside them; bars of findings lie there. */
export const GAP = 5;
/** Names are cut to so many px, so that the cells keep their room. */
const MOST_NAME = 84;
const LEAST_MARGIN = 84;
/** Names that are measured to find the widest. */
const MEASURED = 200;
const BAR = 4;

/** How the two axes differ: rows are written from left to right, columns upwards. */
/**
 * @typedef {object} Side
 * @property {boolean} isRow
 * @property {Context2D} context
 * @property {Scene} scene
 * @property {number} from the first position in view
 * @property {(i: number) => number} at px of a position
 * @property {number} low px at which the cells begin
 * @property {number} high px at which they end
 */

/**
 * Room for the labels at the left and at the top, in px.
 * @param {Context2D} context
 * @param {Axis} axis
 * @param {number} fitScale px a cell when the whole mesh is seen
 */
export function marginFor(context, axis, fitScale) {
  context.font = FONT;
  let widest = 0;
  const step = Math.max(1, Math.floor(axis.n / MEASURED));
  for (let i = 0; i < axis.n; i += step) {
    widest = Math.max(widest, context.measureText(axis.hosts[i].name).width);
  }
  const names = Math.min(MOST_NAME, widest) + 12;
  const strips = STRIP * axis.brackets.length;
  const room = fitScale >= NAMED ? names + strips : Math.max(strips, names);
  return { names, size: Math.ceil(Math.max(LEAST_MARGIN, room + 6)) };
}

/**
 * Names next to the cells where they fit; brackets outside of them from fine to coarse, as many as
 * there is room for.
 * @param {Context2D} context
 * @param {Scene} scene
 * @param {boolean} isRow
 */
export function drawAxis(context, scene, isRow) {
  const { geometry: g } = scene;
  const from = isRow ? g.view.y : g.view.x;
  /** @type {Side} */
  const side = {
    isRow,
    context,
    scene,
    from,
    at: (i) => g.margin + (i - from) * g.scale,
    low: g.margin,
    high: g.margin + g.side,
  };
  drawAlarms(side);
  let edge = g.margin - GAP;
  if (g.scale >= NAMED) {
    drawNames(side, edge);
    edge -= g.names;
  }
  context.font = FONT;
  for (const bracket of scene.axis.brackets) {
    if (edge < STRIP - 6) {
      break;
    }
    if (drawBracket(side, bracket, edge)) {
      edge -= STRIP;
    }
  }
}

/**
 * Bars of findings, between the cells and the names; at least as wide as they are seen.
 * @param {Side} side
 */
function drawAlarms({ context, scene, isRow, at, low, high }) {
  for (const { start, stop, critical } of scene.alarms) {
    const a = Math.max(low, at(start));
    const b = Math.min(high, Math.max(at(stop), at(start) + 5));
    if (b <= a) {
      continue;
    }
    context.fillStyle = critical ? scene.colours.bad : scene.colours.warn;
    if (isRow) {
      context.fillRect(low - BAR, a, BAR, b - a);
    } else {
      context.fillRect(a, low - BAR, b - a, BAR);
    }
  }
}

/**
 * @param {Side} side
 * @param {number} edge px
 */
function drawNames(side, edge) {
  const { context, scene, isRow, from, at, high } = side;
  const { geometry: g, axis, colours, hover, cursor } = scene;
  context.font = g.scale < 14 ? SMALL : FONT;
  const pointed = [hover, cursor].map((cell) => cell && (isRow ? cell.y : cell.x));
  for (let i = Math.max(0, Math.ceil(from - 0.5)); i < axis.n && at(i + 0.5) <= high; i++) {
    context.fillStyle = pointed.includes(i) ? colours.accent : colours.ink;
    const text = shortName(axis.hosts[i].name, g.names - 10, measureIn(context));
    write(side, text, at(i + 0.5), edge, isRow ? "right" : "left", "middle", !isRow);
  }
}

/**
 * One level of groups; returns false, and draws nothing, where groups are too narrow.
 * @param {Side} side
 * @param {Bracket} bracket
 * @param {number} edge px
 */
function drawBracket(side, { spans }, edge) {
  const { context, scene } = side;
  const widest = Math.max(...spans.slice(0, 3).map((span) => span.stop - span.start));
  const room = widest * scene.geometry.scale;
  if (room < 5) {
    return false;
  }
  context.strokeStyle = scene.colours.bracket;
  context.lineWidth = 1.5;
  for (const span of spans) {
    drawSpan(side, span, edge, room > 12 ? 1.5 : 0.75);
  }
  return true;
}

/**
 * @param {Side} side
 * @param {Span} span
 * @param {number} edge px
 * @param {number} pad px between neighbours
 */
function drawSpan(side, { start, stop, label }, edge, pad) {
  const { context, scene, isRow, at, low, high } = side;
  const a = Math.max(low, at(start)) + pad;
  const b = Math.min(high, at(stop)) - pad;
  if (b - a < 2) {
    return;
  }
  context.beginPath();
  if (isRow) {
    context.moveTo(edge, a);
    context.lineTo(edge, b);
  } else {
    context.moveTo(a, edge);
    context.lineTo(b, edge);
  }
  context.stroke();
  const text = shortLabel(label, b - a - 2, measureIn(context));
  context.fillStyle = scene.colours.muted;
  if (text) {
    write(side, text, (a + b) / 2, edge - 4, "center", "bottom", isRow);
  }
}

/**
 * @param {Context2D} context
 * @returns {Measure}
 */
const measureIn = (context) => (text) => context.measureText(text).width;

/**
 * Write at `along` the axis and `across` it.
 * @param {Side} side
 * @param {string} text
 * @param {number} along
 * @param {number} across
 * @param {CanvasTextAlign} align
 * @param {CanvasTextBaseline} baseline
 * @param {boolean} isTurned upwards
 */
function write({ context, isRow }, text, along, across, align, baseline, isTurned) {
  context.save();
  context.translate(isRow ? across : along, isRow ? along : across);
  if (isTurned) {
    context.rotate(-Math.PI / 2);
  }
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillText(text, 0, 0);
  context.restore();
}
