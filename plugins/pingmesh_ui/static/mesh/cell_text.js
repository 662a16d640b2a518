/** A cell in words. */
import { isolate } from "../dom.js";
import { formatShare, formatValue } from "../format.js";
import { t } from "../i18n.js";
import { FAILED, MISSING, NOT_PLANNED, UNCLEAN, decode, isChange, isValue } from "../map/codes.js";
import { codeAt, figureOf } from "../view.js";

/** @import { Kind } from "../map/codes.js" */
/** @import { Cell } from "../map/overlay.js" */
/** @import { View } from "../view.js" */

/** @type {Record<number, string>} */
const STATES = {
  [NOT_PLANNED]: "state.not_planned",
  [UNCLEAN]: "state.unclean",
  [MISSING]: "state.missing",
  [FAILED]: "state.failed",
};

/**
 * The words of a state.
 * @param {number | null} code null: the full matrix is still to come
 * @param {Kind} kind
 */
export function stateWords(code, kind) {
  if (code === null) {
    return t("state.loading");
  }
  return t(code === NOT_PLANNED && isChange(kind) ? "state.nothing" : STATES[code]);
}

/**
 * One sentence, for the screen reader: from whom to whom, the figure, and the loss.
 * @param {View} view
 * @param {Cell} cell
 */
export function describeCell(view, cell) {
  const { hosts } = view.axis;
  return t("cell", {
    src: isolate(hosts[cell.y].name),
    dst: isolate(hosts[cell.x].name),
    what: figureWords(view, cell) + lossWords(view, cell),
  });
}

/**
 * @param {View} view
 * @param {Cell} cell
 */
function figureWords(view, cell) {
  const code = codeAt(view, cell);
  const kind = view.kind();
  const value = figureOf(view, code);
  if (value === null) {
    return stateWords(code, kind);
  }
  return `${t(`metric.${view.metric().name}`)} ${formatValue(value, kind)}`;
}

/**
 * @param {View} view
 * @param {Cell} cell
 */
function lossWords({ axis, loss, metric }, { x, y }) {
  const code = loss?.n === axis.n ? loss.codes[y * axis.n + x] : NOT_PLANNED;
  if (!isValue(code) || metric().name === "loss") {
    return "";
  }
  return `, ${t("metric.loss")} ${formatShare(Math.min(1, decode(code, "share")))}`;
}
