/** The panel of the selection beside the map: a pair, groups, or a block that was dragged. */
import { smallCharts } from "../charts/small_charts.js";
import { $, h, isPlaying, isolate, name } from "../dom.js";
import { formatCount, formatValue } from "../format.js";
import { t } from "../i18n.js";
import { CODES, FAILED, HIGHEST, MISSING, UNCLEAN, decode, isValue } from "../map/codes.js";
import { quantileCode } from "../map/palette.js";
import { state, update } from "../state.js";
import { codeAt, ends, fullLevel, selectedRanges, windowKey } from "../view.js";
import { stateWords } from "./cell_text.js";
import { askPair, definitionList, figuresList } from "./pair_figures.js";

/** @import { ApiError } from "../../types/api.js" */
/** @import { Range } from "../map/axis.js" */
/** @import { Block, Cell } from "../map/overlay.js" */
/** @import { Level } from "../map/pyramid.js" */
/** @import { Changes } from "../state.js" */
/** @import { View } from "../view.js" */

/** The small charts are asked for when the selection has rested so long. */
const PATIENCE_MS = 140;

/**
 * The small charts of the selected groups: kept while the panel is filled anew, drawn again for
 * another window. `key` is what they are of.
 */
const pictures = { key: "", sel: "", timer: 0, box: h("div", {}) };

/** @param {View} view */
export async function fillPicked(view) {
  const box = $("picked");
  if (state.blk && view.map.block) {
    box.hidden = false;
    box.replaceChildren(...blockPanel(view, view.map.block));
    return;
  }
  box.hidden = !state.sel;
  if (!state.sel) {
    return;
  }
  const { isKnown, rows, columns } = selectedRanges(view);
  if (!isKnown) {
    const words = h("p", { class: "gone" }, t("unknown", { what: state.sel }));
    box.replaceChildren(closer({ sel: "" }), words);
  } else if (rows.kind === "host" && columns.kind === "host") {
    await fillPair(view, { x: columns.start, y: rows.start });
  } else {
    fillGroups(view, rows, columns);
  }
}

/** @param {Changes} changes that take the selection back */
const closer = (changes) =>
  h(
    "button",
    { class: "closer", "aria-label": t("close"), onclick: () => update(changes, { step: true }) },
    "×",
  );

/** Between which ends. */
function title() {
  const [src, dst] = ends();
  return h(
    "div",
    { class: "pair" },
    src ? name(src) : t("everyone"),
    " → ",
    dst ? name(dst) : t("everyone"),
  );
}

/**
 * @param {string} sel
 * @param {string} text
 */
const selectButton = (sel, text) =>
  h("button", { onclick: () => update({ sel }, { step: true }) }, text);

/**
 * A button to the alarms of a host or a group.
 * @param {string} what
 */
function alarmsButton(what) {
  const onclick = async () => (await import("../panels/filters.js")).showAlarmsOf(what);
  return h("button", { onclick }, t("alarms.of.host", { host: isolate(what) }));
}

// ---- a pair -------------------------------------------------------------------------------------

/**
 * @param {View} view
 * @param {Cell} cell
 */
async function fillPair(view, cell) {
  const box = $("picked");
  const [src, dst] = ends();
  const { sel } = state;
  const window = windowKey(view);
  const isStill = () => state.sel === sel && windowKey(view) === window;
  const head = [closer({ sel: "" }), title()];
  box.replaceChildren(...head, h("p", { class: "keys" }, t("state.loading")));
  try {
    const pair = await askPair(view, src, dst);
    if (isStill()) {
      box.replaceChildren(...head, stateLine(view, cell), figuresList(pair), pairButtons(src, dst));
    }
  } catch (error) {
    if (isStill()) {
      box.replaceChildren(...head, h("p", { class: "keys" }, reason(error)));
    }
  }
}

/** @param {ApiError} error */
const reason = ({ code, status, message }) =>
  code === "not_found" || status === 404 ? t("state.not_planned") : message;

/**
 * @param {View} view
 * @param {Cell} cell
 */
function stateLine(view, cell) {
  const code = codeAt(view, cell);
  if (code === null || isValue(code)) {
    return "";
  }
  return h("p", { class: code ? "gone" : "keys" }, stateWords(code, view.kind()));
}

/**
 * @param {string} src
 * @param {string} dst
 */
const pairButtons = (src, dst) =>
  h(
    "div",
    { class: "row" },
    selectButton(`${dst}>${src}`, t("reverse")),
    selectButton(`${src}>`, t("from.host", { host: isolate(src) })),
    selectButton(`>${dst}`, t("to.host", { host: isolate(dst) })),
    alarmsButton(src),
    alarmsButton(dst),
  );

// ---- groups -------------------------------------------------------------------------------------

/**
 * @param {View} view
 * @param {Range} rows
 * @param {Range} columns
 */
function fillGroups(view, rows, columns) {
  const { windows } = view.time;
  const range = [windows[0].id, windows.at(-1)?.id];
  const key = [windowKey(view), state.sel, ...range].join();
  const isNew = pictures.key !== key;
  if (isNew && pictures.sel !== state.sel) {
    pictures.box.replaceChildren();
  }
  const block = { x0: columns.start, x1: columns.stop, y0: rows.start, y1: rows.stop };
  const names = [...new Set(ends())].filter(Boolean);
  $("picked").replaceChildren(
    closer({ sel: "" }),
    title(),
    blockSummary(view, block),
    pictures.box,
    h("p", { class: "keys" }, t("drill.hint")),
    h("div", { class: "row" }, names.map(alarmsButton)),
  );
  if (isNew && !isPlaying()) {
    drawPictures(view, key);
  }
}

/**
 * @param {View} view
 * @param {string} key
 */
function drawPictures(view, key) {
  Object.assign(pictures, { key, sel: state.sel });
  clearTimeout(pictures.timer);
  pictures.timer = setTimeout(async () => {
    const drawn = await smallCharts(view);
    if (pictures.key === key) {
      pictures.box.replaceChildren(...drawn);
    }
  }, PATIENCE_MS);
}

// ---- a block ------------------------------------------------------------------------------------

/**
 * The figures of a block, and the way to compare it with another time.
 * @param {View} view
 * @param {Block} block
 */
function blockPanel(view, block) {
  const { axis, map } = view;
  /** @param {number} i */
  const nameAt = (i) => isolate(axis.hosts[Math.min(axis.n - 1, Math.max(0, i))].name);
  const rows = `${nameAt(block.y0)} … ${nameAt(block.y1 - 1)}`;
  const columns = `${nameAt(block.x0)} … ${nameAt(block.x1 - 1)}`;
  const size = { rows: block.y1 - block.y0, columns: block.x1 - block.x0 };
  return [
    closer({ blk: "" }),
    h(
      "div",
      { class: "pair" },
      t("block.title", size),
      h("div", { class: "place" }, `${rows} → ${columns}`),
    ),
    blockSummary(view, block),
    h(
      "div",
      { class: "row" },
      h("button", { onclick: () => map.fly(block) }, t("block.zoom")),
      h("button", { onclick: () => $("compare").focus() }, t("block.compare")),
    ),
  ];
}

/**
 * Counts and quantiles of a block of the matrix that is there.
 * @param {View} view
 * @param {Block} block
 */
function blockSummary(view, block) {
  const level = fullLevel(view);
  if (!level) {
    return h("p", { class: "keys" }, t("state.loading"));
  }
  const kind = view.kind();
  const counts = countCodes(level, block);
  const total = counts.subarray(1, HIGHEST + 1).reduce((sum, count) => sum + count, 0);
  /** @param {number} q */
  const at = (q) => formatValue(decode(quantileCode(counts, total, q), kind), kind);

  const pairs = total + counts[UNCLEAN] + counts[MISSING] + counts[FAILED];
  /** @type {[string, string][]} */
  const rows = [[t("pairs"), formatCount(pairs)]];
  if (total) {
    rows.push([t("block.middle"), at(0.5)], [t("block.p99"), at(0.99)], [t("block.worst"), at(1)]);
  }
  /** @type {[number, string][]} */
  const states = [
    [FAILED, "state.failed.short"],
    [MISSING, "state.missing.short"],
    [UNCLEAN, "state.unclean.short"],
  ];
  for (const [code, words] of states.filter(([code]) => counts[code])) {
    rows.push([t(words), formatCount(counts[code])]);
  }
  return definitionList(rows);
}

/**
 * How many cells of a block have each code.
 * @param {Level} level
 * @param {Block} block
 */
function countCodes({ n, codes }, { x0, x1, y0, y1 }) {
  const counts = new Uint32Array(CODES);
  for (let y = Math.max(0, y0); y < Math.min(n, y1); y++) {
    for (let x = Math.max(0, x0); x < Math.min(n, x1); x++) {
      counts[codes[y * n + x]]++;
    }
  }
  return counts;
}
