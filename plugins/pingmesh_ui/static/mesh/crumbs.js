/** The crumbs above the map: from the whole mesh down to the selection. */
import { $, h, name } from "../dom.js";
import { t } from "../i18n.js";
import { lineage } from "../map/axis.js";
import { update } from "../state.js";
import { ends } from "../view.js";

/** @import { Axis } from "../map/axis.js" */

/** @typedef {[sel: string, label: string]} Crumb */

/** With more crumbs, those in between are shortened. */
const WHOLE = 3;

/**
 * @param {Axis} axis
 * @param {() => void} beforeStep called when a crumb is clicked
 */
export function drawCrumbs(axis, beforeStep) {
  const crumbs = crumbsOf(axis);
  const last = crumbs.length - 1;
  /** @type {Node[]} */
  const out = [];
  crumbs.forEach(([sel, text], i) => {
    if (i) {
      out.push(h("span", { "aria-hidden": "true" }, "›"));
    }
    if (i === last) {
      out.push(h("b", { "aria-current": "location" }, name(text)));
      return;
    }
    const label = i && crumbs.length > WHOLE ? brief(text) : text;
    const onclick = () => {
      beforeStep();
      update(sel ? { sel } : { sel: "", at: "", blk: "" }, { step: true });
    };
    out.push(h("button", { onclick }, name(label)));
  });
  $("crumbs").replaceChildren(...out);
}

/**
 * "podset4" → "p4", of each word.
 * @param {string} label
 */
const brief = (label) => label.replace(/\b(\p{L})\p{L}{2,}(\d+)\b/gu, "$1$2");

/**
 * One crumb a level of the two ends; where an end is all hosts, the crumbs are of the other.
 * @param {Axis} axis
 * @returns {Crumb[]}
 */
function crumbsOf(axis) {
  const [src, dst] = ends();
  const rows = lineage(axis, src);
  const columns = lineage(axis, dst);
  /** @type {Crumb[]} */
  const crumbs = [["", t("crumbs.all")]];
  for (let i = 0; i < Math.max(rows.length, columns.length); i++) {
    crumbs.push(crumbAt(rows, columns, i));
  }
  return crumbs;
}

/**
 * A lineage that is shorter than the other stays at its last.
 * @param {string[]} rows
 * @param {string[]} columns
 * @param {number} i
 * @returns {Crumb}
 */
function crumbAt(rows, columns, i) {
  const row = rows[i] ?? rows.at(-1);
  const column = columns[i] ?? columns.at(-1);
  if (row && column) {
    return [`${row}>${column}`, pairLabel(row, column)];
  }
  const path = row ?? column ?? "";
  const isLast = i === Math.max(rows.length, columns.length) - 1;
  const end = row ? `${path}>` : `>${path}`;
  return [isLast ? end : `${path}>${path}`, lastPart(path)];
}

/**
 * @param {string} row
 * @param {string} column
 */
const pairLabel = (row, column) =>
  row === column ? lastPart(row) : `${lastPart(row)} → ${lastPart(column)}`;

/** @param {string} path */
const lastPart = (path) => path.slice(path.lastIndexOf("/") + 1);
