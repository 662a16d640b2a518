/**
 * The tooltip of the cell under the pointer: its figure at once, the exact figures after a moment.
 */
import { $, h, isPlaying, name } from "../dom.js";
import { formatClock, formatValue } from "../format.js";
import { t } from "../i18n.js";
import { state } from "../state.js";
import { codeAt, mayHaveFigures, sharpen, figureOf, windowKey } from "../view.js";
import { stateWords } from "./cell_text.js";
import { askPair, figuresList, knownPair } from "./pair_figures.js";

/** @import { Pair } from "../../types/api.js" */
/** @import { Host } from "../map/axis.js" */
/** @import { Cell } from "../map/overlay.js" */
/** @import { View } from "../view.js" */

/** The pointer rests so long before the server is asked. */
const PATIENCE_MS = 140;
/**
 * Between the pointer and the tooltip, and between the tooltip and the edge of the window, in px.
 */
const GAP = 16;
const EDGE = 4;

let timer = 0;
/** The key of the cell that the tooltip is of; "" where it is hidden. */
let shown = "";

/**
 * @param {View} view
 * @param {Cell | null} pointed
 * @param {MouseEvent} [event]
 */
export function showTip(view, pointed, event) {
  const tip = $("tip");
  if (!pointed || !event || !view.levels) {
    clearTimeout(timer);
    tip.hidden = true;
    shown = "";
    return;
  }
  const cell = sharpen(view, pointed);
  const key = `${windowKey(view)} ${view.metric().name} ${cell.x},${cell.y}`;
  if (key !== shown) {
    shown = key;
    describe(view, cell, pointed);
  }
  tip.hidden = false;
  moveTo(tip, event);
}

/**
 * @param {View} view
 * @param {Cell} cell
 * @param {Cell} pointed
 */
function describe(view, cell, pointed) {
  const key = shown;
  const { hosts } = view.axis;
  const src = hosts[cell.y].name;
  const dst = hosts[cell.x].name;
  const pair = knownPair(view, src, dst);
  fillTip(view, cell, pointed, pair);
  clearTimeout(timer);
  if (pair || isPlaying() || !mayHaveFigures(view, cell)) {
    return;
  }
  timer = setTimeout(async () => {
    const answer = await askPair(view, src, dst).catch(() => null);
    if (shown === key && answer) {
      fillTip(view, cell, pointed, answer);
    }
  }, PATIENCE_MS);
}

/**
 * Next to the pointer, on the side where there is room.
 * @param {HTMLElement} tip
 * @param {MouseEvent} event
 */
function moveTo(tip, { clientX, clientY }) {
  const { width, height } = tip.getBoundingClientRect();
  const left = beside(clientX, width, innerWidth);
  const top = beside(clientY, height, innerHeight);
  tip.style.transform = `translate(${left}px, ${top}px)`;
}

/**
 * @param {number} at
 * @param {number} size
 * @param {number} room
 */
function beside(at, size, room) {
  const fits = at + GAP + size <= room;
  return Math.max(EDGE, fits ? at + GAP : at - GAP - size);
}

/**
 * @param {View} view
 * @param {Cell} cell
 * @param {Cell} pointed the cell under the pointer: another where `cell` is the worst of many
 * @param {Pair | null} pair
 */
function fillTip(view, cell, pointed, pair) {
  const a = view.axis.hosts[cell.y];
  const b = view.axis.hosts[cell.x];
  const code = codeAt(view, cell);
  const kind = view.kind();
  const value = figureOf(view, code);
  const isWorst = cell.x !== pointed.x || cell.y !== pointed.y;
  const remarks = [
    t(`metric.${view.metric().name}`),
    isWorst ? t("tip.worst_here") : "",
    view.compares() ? t("tip.against", { window: formatClock(state.cmp) }) : "",
  ];
  const places = h("div", { class: "place" }, `${placeOf(a)} → ${placeOf(b)}`);
  $("tip").replaceChildren(
    h("div", { class: "pair" }, name(a.name), " → ", name(b.name), view.topology ? places : ""),
    h(
      "div",
      { class: value === null && code ? "big gone" : "big" },
      value === null ? stateWords(code, kind) : formatValue(value, kind),
    ),
    h("div", { class: "place" }, remarks.filter(Boolean).join(" · ")),
    pair ? figuresList(pair) : "",
  );
}

/** @param {Host} host */
const placeOf = ({ dc, podset, tor }) => [dc, podset, tor].filter(Boolean).join("/");
