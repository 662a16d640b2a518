/** Selecting: a click, steps down and up, and what follows from it on the map and beside it. */
import { $ } from "../dom.js";
import { lineage } from "../map/axis.js";
import { state, update } from "../state.js";
import { ends, selectedRanges } from "../view.js";
import { describeCell } from "./cell_text.js";
import { drawCrumbs } from "./crumbs.js";
import { fillPicked } from "./picked.js";

/** @import { Range } from "../map/axis.js" */
/** @import { Block, Cell } from "../map/overlay.js" */
/** @import { View } from "../view.js" */

/** A step down goes to groups that are so much smaller than what is seen. */
const SMALLER = 0.7;
/**
 * From so many px a cell a pair is near enough; else it is brought near, with so many cells around
 * it.
 */
const NEAR_PX = 14;
const AROUND = 10;
/**
 * A host of a mesh of so many is marked by the cell cursor; its row is found without it otherwise.
 */
const SMALL_MESH = 60;

/**
 * Select the pair of a cell; the diagonal is the host.
 * @param {View} view
 * @param {Cell} cell
 */
export function select(view, cell) {
  const { hosts } = view.axis;
  const src = hosts[cell.y].name;
  const dst = hosts[cell.x].name;
  view.map.cursor = cell;
  update({ sel: cell.x === cell.y ? `${src}>` : `${src}>${dst}` }, { step: true });
  $("cell").textContent = describeCell(view, cell);
}

/**
 * One step down at a cell: to the widest groups around it that are smaller than what is seen, at
 * last to the pair.
 * @param {View} view
 * @param {Cell} cell
 */
export function drill(view, cell) {
  const { axis, map } = view;
  const sel = groupsAround(view, cell);
  map.cursor = cell;
  view.flying = true;
  if (sel) {
    update({ sel }, { step: true });
    return;
  }
  const { hosts } = axis;
  update({ sel: `${hosts[cell.y].name}>${hosts[cell.x].name}` }, { step: true });
  if (view.flying) {
    showSelection(view, true); // it was selected already
  }
}

/**
 * @param {View} view
 * @param {Cell} cell
 */
function groupsAround({ axis, map }, { x, y }) {
  const { x0, x1 } = map.seen;
  for (const { kind, spans } of [...axis.brackets].reverse()) {
    const sizes = [x, y].map((i) => {
      const span = spans.find(({ start, stop }) => i >= start && i < stop);
      return span ? span.stop - span.start : 0;
    });
    if (Math.max(...sizes) < SMALLER * (x1 - x0)) {
      return `${axis.path(y, kind)}>${axis.path(x, kind)}`;
    }
  }
  return null;
}

/**
 * One step up: the block away, else the groups around the selection, at last the whole mesh.
 * @param {View} view
 */
export function goUp(view) {
  if (view.map.block) {
    view.map.block = null;
    update({ blk: "" });
    return;
  }
  const [src, dst] = ends();
  const rows = lineage(view.axis, src).at(-2);
  const columns = lineage(view.axis, dst || src).at(-2);
  view.flying = true;
  update(rows ? { sel: `${rows}>${columns ?? rows}` } : { sel: "", at: "" }, { step: true });
}

/**
 * Show the selection: its frame on the map, the crumbs and the panel.
 * @param {View} view
 * @param {boolean} flies whether it is brought into view
 */
export function showSelection(view, flies) {
  const { axis, map } = view;
  const { isKnown, rows, columns } = selectedRanges(view);
  const isPair = isKnown && rows.kind === "host" && columns.kind === "host";
  map.focus = isKnown && !isPair ? blockOf(rows, columns) : null;
  if (isPair) {
    map.cursor = { x: columns.start, y: rows.start };
  }
  if (flies && isKnown) {
    flyTo(view, rows, columns);
  } else if (flies && !state.sel && !map.isWhole) {
    map.flyToAll();
  }
  map.block = blockOfLink();
  drawCrumbs(axis, () => {
    view.flying = true;
  });
  fillPicked(view);
  map.draw();
}

/**
 * @param {Range} rows
 * @param {Range} columns
 * @returns {Block}
 */
const blockOf = (rows, columns) => ({
  x0: columns.start,
  x1: columns.stop,
  y0: rows.start,
  y1: rows.stop,
});

/**
 * Bring the selection into view: groups and pairs by flying there; a single host, of which all
 * pairs are selected, only by the cursor.
 * @param {View} view
 * @param {Range} rows
 * @param {Range} columns
 */
function flyTo({ axis, map }, rows, columns) {
  const isHost = rows.kind === "host";
  if (!isHost && rows.kind !== "all") {
    map.fly(blockOf(rows, columns));
  } else if (isHost && columns.kind === "host") {
    const cell = { x: columns.start, y: rows.start };
    if (map.zoom < NEAR_PX) {
      map.fly(around(cell, axis.n));
    } else {
      map.reveal(cell);
    }
  } else if (axis.n <= SMALL_MESH) {
    const at = isHost ? rows.start : columns.start;
    map.cursor = { x: at, y: at };
  }
}

/**
 * @param {Cell} cell
 * @param {number} n
 * @returns {Block}
 */
function around({ x, y }, n) {
  const radius = Math.min(AROUND, n / 2);
  return {
    x0: Math.max(0, x - radius),
    x1: Math.min(n, x + radius + 1),
    y0: Math.max(0, y - radius),
    y1: Math.min(n, y + radius + 1),
  };
}

/**
 * The block that the link names.
 * @returns {Block | null}
 */
function blockOfLink() {
  const numbers = state.blk.split(",").map(Number);
  const [x0, y0, x1, y1] = numbers;
  const isBlock = state.blk && [x0, y0, x1, y1].every(Number.isFinite);
  return isBlock ? { x0, y0, x1, y1 } : null;
}
