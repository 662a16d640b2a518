/**
 * The scale of the map: from the state, the data and the theme; with its legend and its controls.
 */
import { $, find } from "../dom.js";
import { isChange } from "../map/codes.js";
import { fitScale } from "../map/palette.js";
import { state } from "../state.js";
import { colours, theme } from "../theme.js";
import { lodFor } from "../view.js";
import { drawLegend } from "./legend.js";

/** @import { Kind } from "../map/codes.js" */
/** @import { Ends, Mode, Scale } from "../map/palette.js" */
/** @import { View } from "../view.js" */

/** Thresholds of loss, and of round trips where the server has none. */
const LOSS_THRESHOLDS = { low: 0.001, high: 0.01 };
const SLOW_US = 1_000;
const BAD_US = 5_000;

/**
 * Draw the map with the scale and the colours that hold now.
 * @param {View} view
 */
export function look(view) {
  const scale = scaleOf(view);
  view.scale = scale;
  view.map.setLook(scale, theme, colours());
  // Loss that is drawn as colour needs no hatch.
  view.map.hatch = state.hatch === "1" && view.metric().code !== "share";
  drawLegend(view);
  mirrorEnds(scale);
}

/**
 * @param {View} view
 * @returns {Scale}
 */
function scaleOf(view) {
  const kind = view.kind();
  const mode = modeOf(kind);
  const usual = mode === "threshold" ? thresholds(view, kind) : fittedEnds(view, kind);
  if (isChange(kind)) {
    return { kind, mode, ...usual };
  }
  const isFromZero = mode === "linear" && state.lo === "";
  const low = isFromZero ? 0 : numberOr(state.lo, usual.low);
  const high = numberOr(state.hi, usual.high);
  return { kind, mode, low, high: high > low ? high : low * 10 || 1 };
}

/**
 * @param {Kind} kind
 * @returns {Mode}
 */
function modeOf(kind) {
  if (kind === "ratio") {
    return "log";
  }
  return kind === "points" ? "linear" : /** @type {Mode} */ (state.sc);
}

/**
 * @param {View} view
 * @param {Kind} kind
 * @returns {Ends}
 */
function thresholds(view, kind) {
  const { slow_us: slow, bad_us: bad } = view.context.boot;
  return kind === "share" ? LOSS_THRESHOLDS : { low: slow ?? SLOW_US, high: bad ?? BAD_US };
}

/**
 * The ends for the first matrix of a metric; they hold for all windows, so that colours can be
 * compared.
 * @param {View} view
 * @param {Kind} kind
 * @returns {Ends}
 */
function fittedEnds({ metric, levels, axis, fits }, kind) {
  const key = `${metric().name} ${kind} ${kind === "points" ? state.cmp : ""}`;
  if (levels && !fits.has(key)) {
    const drawn = Math.max(lodFor(axis.n), levels.findIndex(Boolean));
    const { codes } = levels[Math.min(levels.length - 1, drawn)];
    fits.set(key, fitScale(codes, kind));
  }
  return fits.get(key) ?? fitScale([], kind);
}

/**
 * @param {string} text
 * @param {number} usual
 */
const numberOr = (text, usual) => (text !== "" && Number(text) > 0 ? Number(text) : usual);

/**
 * The fields of the ends show the scale in ms or per cent.
 * @param {Scale} scale
 */
function mirrorEnds({ kind, low, high }) {
  const isShare = kind === "share";
  const factor = isShare ? 100 : 1 / 1000;
  showEnd($("low"), low * factor);
  showEnd($("high"), high * factor);
  $("ends-unit").textContent = isShare ? "%" : "ms";
  find(".ends").hidden = isChange(kind) || kind === "count";
  $("scale").disabled = isChange(kind);
}

/**
 * @param {HTMLInputElement} field
 * @param {number} value
 */
function showEnd(field, value) {
  if (document.activeElement !== field) {
    field.value = String(+value.toPrecision(3));
  }
}
