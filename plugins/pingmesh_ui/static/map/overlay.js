/**
 * What lies over the cells: marks of loss, the grid, figures, the crosshair, boxes and rings. Names
 * and brackets around the cells are in overlay_axis.js. All of it is drawn anew each frame; only
 * what is in view costs anything.
 */
import { FAILED, HIGHEST, MISSING, decode, isValue } from "./codes.js";
import { FONT, SMALL, drawAxis } from "./overlay_axis.js";
import { colourAt, isLight } from "./palette.js";

/** @import { Axis } from "./axis.js" */
/** @import { Scale } from "./palette.js" */
/** @import { Level } from "./pyramid.js" */
/** @import { Colours } from "../theme.js" */

/** @typedef {{ x: number, y: number }} Cell column and row */
/**
 * @typedef {{ x0: number, x1: number, y0: number, y1: number }} Block cells; the ends are excluded
 */
/** @typedef {{ start: number, stop: number, critical: boolean }} AlarmBar positions on both axes */
/**
 * Words on the map.
 * @typedef {{ destination: string, source: string, value: (value: number) => string }} MapWords
 */
/**
 * Where the cells are on the overlay, in px.
 * @typedef {object} Geometry
 * @property {number} margin room for labels at the left and at the top
 * @property {number} names room for names within it
 * @property {number} side of the square of cells
 */
/**
 * What is drawn: the map with its geometry, of which `scale` is px a cell and `view` the upper
 * left.
 * @typedef {object} Scene
 * @property {Axis} axis
 * @property {Geometry & { scale: number, view: { x: number, y: number } }} geometry
 * @property {Colours} colours
 * @property {Scale} scale
 * @property {Uint16Array | null} codes of the full matrix
 * @property {Level[] | null} means the pyramid of loss
 * @property {boolean} hatch whether loss is marked
 * @property {Cell | null} hover
 * @property {Cell | null} cursor
 * @property {Block | null} block
 * @property {Block | null} focus the frame of the selection
 * @property {Block[]} rings around the worst
 * @property {AlarmBar[]} alarms
 * @property {MapWords} words
 */
/** @typedef {CanvasRenderingContext2D} Context2D */

/** From so many px a cell figures are written into cells. */
export const VALUED = 46;
/** From so many px a cell there are lines between cells. */
const GRID_PX = 9;
/** From so many px a group there are lines between groups; thicker ones from `WIDE_GROUP_PX`. */
const GROUP_PX = 14;
const WIDE_GROUP_PX = 60;
const GROUP_LINES = [1, 2, 3];
/** A mark of loss needs so many px to be seen. */
const LOSS_PX = 8;
/** Mean loss of a block from which there are one, two and three diagonals, and crossed ones. */
const LOSS_LINES = [0.001, 0.01, 0.05];
const HEAVY_LOSS = 0.5;
const MOST_MARKS = 12_000;

/**
 * @param {Context2D} context
 * @param {number} width
 * @param {number} height
 * @param {Scene} scene
 */
export function drawOverlay(context, width, height, scene) {
  const { geometry: g, axis } = scene;
  context.clearRect(0, 0, width, height);
  context.save();
  context.beginPath();
  context.rect(g.margin, g.margin, g.side, g.side);
  context.clip();
  if (scene.hatch && scene.means) {
    drawLoss(context, scene, scene.means);
  }
  drawGrid(context, scene);
  if (g.scale >= VALUED && scene.codes) {
    drawValues(context, scene, scene.codes);
  }
  drawBoxes(context, scene);
  context.restore();

  drawAxis(context, scene, false);
  drawAxis(context, scene, true);
  drawRings(context, scene);
  if (axis.n) {
    drawCorner(context, scene);
  }
}

/**
 * What rows and columns are, in the corner.
 * @param {Context2D} context
 * @param {Scene} scene
 */
function drawCorner(context, { geometry: g, colours, words }) {
  context.font = SMALL;
  context.fillStyle = colours.muted;
  context.textBaseline = "alphabetic";
  context.textAlign = "right";
  context.fillText(words.destination, g.margin - 8, 16);
  context.fillText(words.source, g.margin - 8, 32);
}

/**
 * @param {Scene["geometry"]} g
 * @param {number} i
 */
const cellX = (g, i) => g.margin + (i - g.view.x) * g.scale;

/**
 * @param {Scene["geometry"]} g
 * @param {number} i
 */
const cellY = (g, i) => g.margin + (i - g.view.y) * g.scale;

// ---- grid ---------------------------------------------------------------------------------------

/**
 * Lines between cells, and thicker ones between groups.
 * @param {Context2D} context
 * @param {Scene} scene
 */
function drawGrid(context, scene) {
  const { geometry: g, axis } = scene;
  if (g.scale >= GRID_PX) {
    const inside = positionsInView(g).filter((i) => i > 0 && i < axis.n);
    drawLines(context, scene, inside, 1);
  }
  axis.brackets.forEach(({ spans }, depth) => {
    const size = (spans[0].stop - spans[0].start) * g.scale;
    if (size < GROUP_PX) {
      return;
    }
    const starts = spans.slice(1).map((span) => span.start);
    drawLines(context, scene, starts, GROUP_LINES[depth] * (size > WIDE_GROUP_PX ? 1 : 0.75));
  });
}

/**
 * Positions at which a row or a column in view begins.
 * @param {Scene["geometry"]} g
 */
function positionsInView(g) {
  const first = Math.floor(Math.min(g.view.x, g.view.y));
  const far = Math.floor(Math.max(g.view.x, g.view.y));
  const count = Math.ceil(g.side / g.scale) + 2;
  /** @type {Set<number>} */
  const positions = new Set();
  for (let i = 0; i < count; i++) {
    positions.add(first + i);
    positions.add(far + i);
  }
  return [...positions];
}

/**
 * @param {Context2D} context
 * @param {Scene} scene
 * @param {number[]} positions
 * @param {number} lineWidth
 */
function drawLines(context, { geometry: g, axis, colours }, positions, lineWidth) {
  const low = g.margin;
  const high = g.margin + g.side;
  /** @param {number} from the end of the axis, or of the cells in view */
  const end = (from) => g.margin + Math.min(g.side, (axis.n - from) * g.scale);
  context.strokeStyle = colours.paper;
  context.lineWidth = lineWidth;
  context.beginPath();
  for (const i of positions) {
    const x = Math.round(cellX(g, i));
    const y = Math.round(cellY(g, i));
    if (x > low && x < high) {
      context.moveTo(x, low);
      context.lineTo(x, end(g.view.y));
    }
    if (y > low && y < high) {
      context.moveTo(low, y);
      context.lineTo(end(g.view.x), y);
    }
  }
  context.stroke();
}

// ---- loss ---------------------------------------------------------------------------------------

/**
 * Loss as diagonals over blocks of at least LOSS_PX: the more is lost, the denser; crossed where
 * most is.
 * @param {Context2D} context
 * @param {Scene} scene
 * @param {Level[]} means
 */
function drawLoss(context, { geometry: g, axis }, means) {
  const k = lossLevel(means, g.scale);
  const { n, codes } = means[k];
  const size = 2 ** k;
  const px = g.scale * size;
  const end = axis.n * g.scale;
  const cells = g.side / g.scale;
  const x1 = Math.min(n, Math.ceil((g.view.x + cells) / size));
  const y1 = Math.min(n, Math.ceil((g.view.y + cells) / size));
  const strokes = new Path2D();
  let count = 0;
  for (let y = Math.max(0, Math.floor(g.view.y / size)); y < y1; y++) {
    for (let x = Math.max(0, Math.floor(g.view.x / size)); x < x1; x++) {
      const code = codes[y * n + x];
      const share = isValue(code) ? decode(code, "share") : 0;
      if (share < LOSS_LINES[0] || count >= MOST_MARKS) {
        continue;
      }
      count++;
      const side = Math.min(px, end - x * size * g.scale, end - y * size * g.scale);
      markLoss(strokes, cellX(g, x * size), cellY(g, y * size), side, share);
    }
  }
  strokeTwice(context, strokes, Math.min(3, Math.max(1, px / 14)));
}

/**
 * The first level, of those that are there, whose blocks have at least LOSS_PX.
 * @param {Level[]} means
 * @param {number} scale
 */
function lossLevel(means, scale) {
  let k = 0;
  while (k + 1 < means.length && scale * 2 ** k < LOSS_PX) {
    k++;
  }
  while (!means[k] && k + 1 < means.length) {
    k++;
  }
  return k;
}

/**
 * Diagonals over one block.
 * @param {Path2D} strokes
 * @param {number} left
 * @param {number} top
 * @param {number} side
 * @param {number} share
 */
function markLoss(strokes, left, top, side, share) {
  const lines = LOSS_LINES.filter((least) => share >= least).length;
  for (let i = 1; i <= lines; i++) {
    const d = (2 * side * i) / (lines + 1);
    const near = Math.max(0, d - side);
    const far = Math.min(side, d);
    strokes.moveTo(left + near, top + far);
    strokes.lineTo(left + far, top + near);
    if (share >= HEAVY_LOSS) {
      strokes.moveTo(left + near, top + side - far);
      strokes.lineTo(left + far, top + side - near);
    }
  }
}

/**
 * White lines on dark ones: seen on any colour.
 * @param {Context2D} context
 * @param {Path2D} strokes
 * @param {number} width
 */
function strokeTwice(context, strokes, width) {
  context.lineWidth = 1.6 + width;
  context.strokeStyle = "#00000070";
  context.stroke(strokes);
  context.lineWidth = width;
  context.strokeStyle = "#ffffff";
  context.stroke(strokes);
}

// ---- figures and states in cells ----------------------------------------------------------------

/**
 * @param {Context2D} context
 * @param {Scene} scene
 * @param {Uint16Array} codes
 */
function drawValues(context, { geometry: g, axis, scale, words }, codes) {
  context.font = g.scale > 64 ? FONT : SMALL;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const x1 = Math.min(axis.n, g.view.x + g.side / g.scale);
  const y1 = Math.min(axis.n, g.view.y + g.side / g.scale);
  for (let y = Math.max(0, Math.floor(g.view.y)); y < y1; y++) {
    for (let x = Math.max(0, Math.floor(g.view.x)); x < x1; x++) {
      const code = codes[y * axis.n + x];
      if (isValue(code)) {
        const value = decode(code, scale.kind);
        context.fillStyle = isLight(colourAt(scale, value)) ? "#18212f" : "#ffffff";
        context.fillText(words.value(value), cellX(g, x + 0.5), cellY(g, y + 0.5));
      } else if (code > HIGHEST) {
        drawState(context, cellX(g, x), cellY(g, y), g.scale, code);
      }
    }
  }
}

/**
 * A cross where failed, a bar where there is no data, two where answered only after retransmits: a
 * state is never shown by its colour alone.
 * @param {Context2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} side
 * @param {number} code
 */
function drawState(context, x, y, side, code) {
  const near = side * 0.3;
  const far = side - near;
  /** @param {number} down */
  const bar = (down) => {
    context.moveTo(x + near, y + side * down);
    context.lineTo(x + far, y + side * down);
  };
  context.beginPath();
  context.lineWidth = Math.min(5, side / 10);
  if (code === FAILED) {
    context.strokeStyle = "#ffffff";
    context.moveTo(x + near, y + near);
    context.lineTo(x + far, y + far);
    context.moveTo(x + near, y + far);
    context.lineTo(x + far, y + near);
  } else if (code === MISSING) {
    context.strokeStyle = "#5b6675";
    bar(0.5);
  } else {
    context.strokeStyle = "#7a3fa0";
    bar(0.42);
    bar(0.58);
  }
  context.stroke();
}

// ---- crosshair, boxes, rings --------------------------------------------------------------------

/**
 * The crosshair at the pointer, and frames of the selection, the block and the cell cursor.
 * @param {Context2D} context
 * @param {Scene} scene
 */
function drawBoxes(context, { geometry: g, colours, hover, cursor, block, focus }) {
  if (hover) {
    drawCrosshair(context, g, colours, hover);
  }
  if (focus) {
    frame(context, areaOf(g, focus), 2, colours, colours.accent);
  }
  if (block) {
    frame(context, areaOf(g, block), 2, colours, colours.focus, [6, 4]);
  }
  if (cursor) {
    const side = Math.max(6, g.scale);
    const pad = (side - g.scale) / 2;
    const x = cellX(g, cursor.x) - pad;
    const y = cellY(g, cursor.y) - pad;
    frame(context, { x, y, w: side, h: side }, 2.5, colours, colours.focus);
  }
}

/** @typedef {{ x: number, y: number, w: number, h: number }} Area px of the overlay */

/**
 * @param {Scene["geometry"]} g
 * @param {Block} block
 * @returns {Area}
 */
const areaOf = (g, { x0, x1, y0, y1 }) => ({
  x: cellX(g, x0),
  y: cellY(g, y0),
  w: (x1 - x0) * g.scale,
  h: (y1 - y0) * g.scale,
});

/**
 * @param {Context2D} context
 * @param {Scene["geometry"]} g
 * @param {Colours} colours
 * @param {Cell} hover
 */
function drawCrosshair(context, g, colours, hover) {
  const w = Math.max(1, g.scale);
  const x = cellX(g, hover.x);
  const y = cellY(g, hover.y);
  const end = g.margin + g.side;
  context.fillStyle = colours.cross;
  context.fillRect(g.margin, y, x - g.margin, w);
  context.fillRect(x + w, y, end - x - w, w);
  context.fillRect(x, g.margin, w, y - g.margin);
  context.fillRect(x, y + w, w, end - y - w);
  frame(context, { x, y, w, h: w }, 1.5, colours, colours.ink);
}

/**
 * A frame with an edge of the ground, seen on any colour.
 * @param {Context2D} context
 * @param {Area} area
 * @param {number} line
 * @param {Colours} colours
 * @param {string} stroke
 * @param {number[]} [dash]
 */
function frame(context, { x, y, w, h }, line, colours, stroke, dash = []) {
  context.setLineDash([]);
  context.strokeStyle = colours.paper;
  context.lineWidth = line + 2;
  context.strokeRect(x - 1, y - 1, w + 2, h + 2);
  context.setLineDash(dash);
  context.strokeStyle = stroke;
  context.lineWidth = line;
  context.strokeRect(x - 1, y - 1, w + 2, h + 2);
  context.setLineDash([]);
}

/**
 * Numbered rings around the worst, which are found from afar.
 * @param {Context2D} context
 * @param {Scene} scene
 */
function drawRings(context, { geometry: g, rings, colours }) {
  const low = g.margin;
  const high = g.margin + g.side;
  rings.forEach((block, i) => {
    const x = cellX(g, (block.x0 + block.x1) / 2);
    const y = cellY(g, (block.y0 + block.y1) / 2);
    if (x < low || y < low || x > high || y > high) {
      return;
    }
    const size = Math.max(block.x1 - block.x0, block.y1 - block.y0) * g.scale;
    const radius = Math.max(11, Math.min(64, (size / 2) * 1.3 + 4));
    context.strokeStyle = colours.paper;
    context.lineWidth = 5;
    circle(context, x, y, radius);
    context.stroke();
    context.strokeStyle = colours.ring;
    context.lineWidth = 2.5;
    circle(context, x, y, radius);
    context.stroke();

    /** @param {number} at the number stays within the cells */
    const inside = (at) => Math.min(high - 9, Math.max(low + 9, at));
    drawNumber(context, colours, inside(x + radius * 0.72), inside(y - radius * 0.72), i + 1);
  });
}

/**
 * @param {Context2D} context
 * @param {number} x
 * @param {number} y
 * @param {number} radius
 */
function circle(context, x, y, radius) {
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
}

/**
 * @param {Context2D} context
 * @param {Colours} colours
 * @param {number} x
 * @param {number} y
 * @param {number} number
 */
function drawNumber(context, colours, x, y, number) {
  context.fillStyle = colours.ring;
  circle(context, x, y, 8);
  context.fill();
  context.fillStyle = colours.onRing;
  context.font = `bold ${SMALL}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(String(number), x, y + 0.5);
}
