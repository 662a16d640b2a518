/**
 * What lies over and around the cells: brackets and names on both axes, marks of loss, the crosshair, the cell cursor,
 * rings around the worst. Drawn anew each frame; only what is in view costs anything.
 */
import { HIGHEST, decode, isValue } from "./codes.js";
import { colourAt, isLight } from "./palette.js";
import { shortLabel, shortName } from "./axis.js";

const FONT = "12px system-ui, 'DejaVu Sans', sans-serif";
const SMALL = "11px system-ui, 'DejaVu Sans', sans-serif";
export const STRIP = 21,
  NAMED = 12,
  VALUED = 46;
/** A hatch needs at least so many px to be seen as one; and the shares from which a block is hatched, and crossed. */
const BLOCK = 8;
const SOME_LOSS = 0.001;
const HEAVY_LOSS = 0.5;
const MOST_MARKS = 12_000;

/** Room for the labels at the left and at the top, in px. */
export function marginFor(context, axis, fitScale) {
  context.font = FONT;
  let widest = 0;
  const step = Math.max(1, Math.floor(axis.n / 200));
  for (let i = 0; i < axis.n; i += step) {
    widest = Math.max(widest, context.measureText(axis.hosts[i].name).width);
  }
  const names = Math.min(84, widest) + 12;
  const strips = STRIP * axis.brackets.length;
  return {
    names,
    size: Math.ceil(
      Math.max(84, fitScale >= NAMED ? names + strips + 6 : Math.max(strips, names) + 6),
    ),
  };
}

/**
 * `scene`: { axis, geometry: { margin, names, side, scale, view }, colours, scale, codes (level 0 or null), means, hatch, hover,
 * cursor, block, focus, rings, words }.
 */
export function drawOverlay(context, width, height, scene) {
  const { geometry: g, axis } = scene;
  context.clearRect(0, 0, width, height);
  context.save();
  context.beginPath();
  context.rect(g.margin, g.margin, g.side, g.side);
  context.clip();
  if (scene.hatch && scene.means) {
    drawLoss(context, scene);
  }
  drawGrid(context, scene);
  if (g.scale >= VALUED && scene.codes) {
    drawValues(context, scene);
  }
  drawBoxes(context, scene);
  context.restore();
  for (const isRow of [false, true]) {
    drawAxis(context, scene, isRow);
  }
  drawRings(context, scene);
  context.font = SMALL;
  context.fillStyle = scene.colours.muted;
  context.textBaseline = "alphabetic";
  context.textAlign = "right";
  if (axis.n) {
    context.fillText(scene.words.destination, g.margin - 8, 16);
    context.fillText(scene.words.source, g.margin - 8, 32);
  }
}

const cellX = (g, i) => g.margin + (i - g.view.x) * g.scale;
const cellY = (g, i) => g.margin + (i - g.view.y) * g.scale;

function drawGrid(context, { geometry: g, axis, colours }) {
  const lines = (at, width, colour) => {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (const i of at) {
      const x = Math.round(cellX(g, i));
      const y = Math.round(cellY(g, i));
      const end = (k) => g.margin + Math.min(g.side, (axis.n - k) * g.scale);
      if (x > g.margin && x < g.margin + g.side) {
        context.moveTo(x, g.margin);
        context.lineTo(x, end(g.view.y));
      }
      if (y > g.margin && y < g.margin + g.side) {
        context.moveTo(g.margin, y);
        context.lineTo(end(g.view.x), y);
      }
    }
    context.stroke();
  };
  if (g.scale >= 9) {
    const first = Math.floor(Math.min(g.view.x, g.view.y));
    const count = Math.ceil(g.side / g.scale) + 2;
    const far = Math.floor(Math.max(g.view.x, g.view.y));
    const all = new Set();
    for (let i = 0; i < count; i++) {
      all.add(first + i);
      all.add(far + i);
    }
    lines(
      [...all].filter((i) => i > 0 && i < axis.n),
      1,
      colours.paper,
    );
  }
  axis.brackets.forEach(({ spans }, depth) => {
    const size = (spans[0].stop - spans[0].start) * g.scale;
    if (size >= 14) {
      lines(
        spans.slice(1).map((span) => span.start),
        [1, 2, 3][depth] * (size > 60 ? 1 : 0.75),
        colours.paper,
      );
    }
  });
}

/** Loss as diagonals over blocks of at least BLOCK px whose mean loss is some: the more is lost, the denser; crossed where most is. */
function drawLoss(context, { geometry: g, means, axis }) {
  let k = 0;
  while (k + 1 < means.length && g.scale * 2 ** k < BLOCK) {
    k++;
  }
  while (!means[k] && k + 1 < means.length) {
    k++;
  }
  const { n, codes } = means[k];
  const size = 2 ** k;
  const px = g.scale * size;
  const x0 = Math.max(0, Math.floor(g.view.x / size));
  const x1 = Math.min(n, Math.ceil((g.view.x + g.side / g.scale) / size));
  const y0 = Math.max(0, Math.floor(g.view.y / size));
  const y1 = Math.min(n, Math.ceil((g.view.y + g.side / g.scale) / size));
  const strokes = new Path2D();
  const far = axis.n * g.scale;
  let count = 0;
  for (let y = y0; y < y1; y++) {
    for (let x = x0; x < x1; x++) {
      const code = codes[y * n + x];
      const share = isValue(code) ? decode(code, "share") : 0;
      if (share < SOME_LOSS || ++count > MOST_MARKS) {
        continue;
      }
      const left = g.margin + (x * size - g.view.x) * g.scale;
      const top = g.margin + (y * size - g.view.y) * g.scale;
      const side = Math.min(px, far - x * size * g.scale, far - y * size * g.scale);
      const lines = share >= 0.05 ? 3 : share >= 0.01 ? 2 : 1;
      for (let i = 1; i <= lines; i++) {
        const d = (2 * side * i) / (lines + 1);
        strokes.moveTo(left + Math.max(0, d - side), top + Math.min(side, d));
        strokes.lineTo(left + Math.min(side, d), top + Math.max(0, d - side));
        if (share < HEAVY_LOSS) {
          continue;
        }
        strokes.moveTo(left + Math.max(0, d - side), top + side - Math.min(side, d));
        strokes.lineTo(left + Math.min(side, d), top + side - Math.max(0, d - side));
      }
    }
  }
  const bold = Math.min(3, Math.max(1, px / 14));
  context.lineWidth = 1.6 + bold;
  context.strokeStyle = "#00000070";
  context.stroke(strokes);
  context.lineWidth = bold;
  context.strokeStyle = "#ffffff";
  context.stroke(strokes);
}

function drawValues(context, scene) {
  const { geometry: g, axis, codes, scale, words } = scene;
  context.font = g.scale > 64 ? FONT : SMALL;
  context.textAlign = "center";
  context.textBaseline = "middle";
  const x1 = Math.min(axis.n, g.view.x + g.side / g.scale);
  const y1 = Math.min(axis.n, g.view.y + g.side / g.scale);
  for (let y = Math.max(0, Math.floor(g.view.y)); y < y1; y++) {
    for (let x = Math.max(0, Math.floor(g.view.x)); x < x1; x++) {
      const code = codes[y * axis.n + x];
      if (!isValue(code)) {
        if (code > HIGHEST) {
          drawState(context, cellX(g, x), cellY(g, y), g.scale, code);
        }
        continue;
      }
      const value = decode(code, scale.kind);
      context.fillStyle = isLight(colourAt(scale, value)) ? "#18212f" : "#ffffff";
      context.fillText(words.value(value), cellX(g, x + 0.5), cellY(g, y + 0.5));
    }
  }
}

/** A cross for "failed", a bar for "no data", two for "answered late": a state is never told by its colour alone. */
function drawState(context, x, y, s, code) {
  const a = s * 0.3;
  const b = s - a;
  context.beginPath();
  context.strokeStyle =
    code === HIGHEST + 3 ? "#ffffff" : code === HIGHEST + 2 ? "#5b6675" : "#7a3fa0";
  context.lineWidth = Math.min(5, s / 10);
  if (code === HIGHEST + 3) {
    context.moveTo(x + a, y + a);
    context.lineTo(x + b, y + b);
    context.moveTo(x + a, y + b);
    context.lineTo(x + b, y + a);
  } else if (code === HIGHEST + 2) {
    context.moveTo(x + a, y + s / 2);
    context.lineTo(x + b, y + s / 2);
  } else {
    for (const f of [0.42, 0.58]) {
      context.moveTo(x + a, y + s * f);
      context.lineTo(x + b, y + s * f);
    }
  }
  context.stroke();
}

function drawBoxes(context, { geometry: g, colours, hover, cursor, block, focus }) {
  if (hover) {
    context.fillStyle = colours.cross;
    const w = Math.max(1, g.scale);
    const x = cellX(g, hover.x);
    const y = cellY(g, hover.y);
    context.fillRect(g.margin, y, x - g.margin, w);
    context.fillRect(x + w, y, g.margin + g.side - x - w, w);
    context.fillRect(x, g.margin, w, y - g.margin);
    context.fillRect(x, y + w, w, g.margin + g.side - y - w);
    box(context, x, y, w, w, 1.5, colours);
  }
  if (focus) {
    box(
      context,
      cellX(g, focus.x0),
      cellY(g, focus.y0),
      (focus.x1 - focus.x0) * g.scale,
      (focus.y1 - focus.y0) * g.scale,
      2,
      colours,
      colours.accent,
    );
  }
  if (block) {
    box(
      context,
      cellX(g, block.x0),
      cellY(g, block.y0),
      (block.x1 - block.x0) * g.scale,
      (block.y1 - block.y0) * g.scale,
      2,
      colours,
      colours.focus,
      [6, 4],
    );
  }
  if (cursor) {
    const w = Math.max(6, g.scale);
    const pad = (w - g.scale) / 2;
    box(
      context,
      cellX(g, cursor.x) - pad,
      cellY(g, cursor.y) - pad,
      w,
      w,
      2.5,
      colours,
      colours.focus,
    );
  }
}

function box(context, x, y, w, h, line, colours, stroke = colours.ink, dash = []) {
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

/** Numbered rings around the worst, so that they are found from afar. */
function drawRings(context, { geometry: g, rings, colours }) {
  rings.forEach(({ x0, x1, y0, y1 }, i) => {
    const x = g.margin + ((x0 + x1) / 2 - g.view.x) * g.scale;
    const y = g.margin + ((y0 + y1) / 2 - g.view.y) * g.scale;
    const radius = Math.max(
      11,
      Math.min(64, ((Math.max(x1 - x0, y1 - y0) * g.scale) / 2) * 1.3 + 4),
    );
    if (x < g.margin || y < g.margin || x > g.margin + g.side || y > g.margin + g.side) {
      return;
    }
    for (const [width, colour] of [
      [5, colours.paper],
      [2.5, colours.ring],
    ]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      context.arc(x, y, radius, 0, 7);
      context.stroke();
    }
    const bx = Math.min(g.margin + g.side - 9, Math.max(g.margin + 9, x + radius * 0.72));
    const by = Math.min(g.margin + g.side - 9, Math.max(g.margin + 9, y - radius * 0.72));
    context.fillStyle = colours.ring;
    context.beginPath();
    context.arc(bx, by, 8, 0, 7);
    context.fill();
    context.fillStyle = colours.onRing;
    context.font = `bold ${SMALL}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillText(String(i + 1), bx, by + 0.5);
  });
}

/** Names next to the cells where they fit, brackets outside of them: from fine to coarse, as many as there is room. */
function drawAxis(context, { geometry: g, axis, colours, hover, cursor, alarms }, isRow) {
  const from = isRow ? g.view.y : g.view.x;
  const at = (i) => g.margin + (i - from) * g.scale;
  const low = g.margin;
  const high = g.margin + g.side;
  const named = g.scale >= NAMED;
  const measure = (text) => context.measureText(text).width;
  let edge = g.margin - 5;
  for (const { start, stop, critical } of alarms) {
    const a = Math.max(low, at(start));
    const b = Math.min(high, Math.max(at(stop), at(start) + 5));
    if (b <= a) {
      continue;
    }
    context.fillStyle = critical ? colours.bad : colours.warn;
    if (isRow) {
      context.fillRect(g.margin - 4, a, 4, b - a);
    } else {
      context.fillRect(a, g.margin - 4, b - a, 4);
    }
  }
  if (named) {
    context.font = g.scale < 14 ? SMALL : FONT;
    context.textBaseline = "middle";
    for (let i = Math.max(0, Math.ceil(from - 0.5)); i < axis.n && at(i + 0.5) <= high; i++) {
      const active = [hover, cursor].some((cell) => cell && (isRow ? cell.y : cell.x) === i);
      context.fillStyle = active ? colours.accent : colours.ink;
      label(
        context,
        shortName(axis.hosts[i].name, g.names - 10, measure),
        isRow,
        at(i + 0.5),
        edge,
        isRow ? "right" : "left",
        !isRow,
      );
    }
    edge -= g.names;
  }
  context.font = FONT;
  for (const { spans } of axis.brackets) {
    if (edge < STRIP - 6) {
      break;
    }
    const room = Math.max(...spans.slice(0, 3).map((span) => span.stop - span.start)) * g.scale;
    if (room < 5) {
      continue;
    }
    context.strokeStyle = colours.bracket;
    context.lineWidth = 1.5;
    for (const { start, stop, label: text } of spans) {
      const a = Math.max(low, at(start)) + (room > 12 ? 1.5 : 0.75);
      const b = Math.min(high, at(stop)) - (room > 12 ? 1.5 : 0.75);
      if (b - a < 2) {
        continue;
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
      const brief = shortLabel(text, b - a - 2, measure);
      context.fillStyle = colours.muted;
      if (brief) {
        label(context, brief, isRow, (a + b) / 2, edge - 4, "center", isRow, "bottom");
      }
    }
    edge -= STRIP;
  }
}

/** Text at `along` the axis and `across` it; `turned` is upright text on its side. */
function label(context, text, isRow, along, across, align, turned, baseline = "middle") {
  context.save();
  context.translate(isRow ? across : along, isRow ? along : across);
  if (turned) {
    context.rotate(-Math.PI / 2);
  }
  context.textAlign = align;
  context.textBaseline = baseline;
  context.fillText(text, 0, 0);
  context.restore();
}
