/** The list "Worst now", and rings around its first on the map. */
import { $, h, name } from "../dom.js";
import { formatValue } from "../format.js";
import { t } from "../i18n.js";
import { FAILED, MIDDLE, MISSING, UNCLEAN, decode, isChange } from "../map/codes.js";
import { update } from "../state.js";

/** @import { Cell } from "../map/overlay.js" */
/** @import { GoneHost, WorstCell } from "../map/worst.js" */
/** @import { View } from "../view.js" */

/** @typedef {{ who: string, what: string, isBad: boolean, sel: string, cell: Cell }} Item */

const LISTED = 12;
const RINGS = 3;
const HALF = 0.5;
/** @type {Record<number, string>} */
const STATES = {
  [FAILED]: "state.failed.short",
  [MISSING]: "state.missing.short",
  [UNCLEAN]: "state.unclean.short",
};

/**
 * List the worst of the full matrix; pooled cells name no pairs.
 * @param {View} view
 */
export function listWorst(view) {
  if (!view.worst) {
    return;
  }
  const { hosts, cells } = view.worst;
  const items = [
    ...hosts.map((host) => hostItem(view, host)),
    ...worseCells(view, cells).map((cell) => cellItem(view, cell)),
  ].slice(0, LISTED);

  view.map.rings = items
    .slice(0, RINGS)
    .map(({ cell: { x, y } }) => ({ x0: x, x1: x + 1, y0: y, y1: y + 1 }));
  const none = h("li", { class: "keys" }, t("worst.none"));
  $("worst").replaceChildren(
    ...(items.length ? items.map((item, i) => row(view, item, i)) : [none]),
  );
  view.map.draw();
}

/**
 * Of a change, only what became worse is listed.
 * @param {View} view
 * @param {WorstCell[]} cells worst first
 */
function worseCells(view, cells) {
  return isChange(view.kind()) ? cells.filter(({ code }) => code > MIDDLE) : cells;
}

/**
 * @param {View} view
 * @param {GoneHost} host
 * @returns {Item}
 */
function hostItem(view, { at, failedFrom, failedTo }) {
  const who = view.axis.hosts[at].name;
  const isDead = Math.max(failedFrom, failedTo) >= HALF;
  return {
    who,
    what: t(isDead ? "worst.unreachable" : "worst.silent"),
    isBad: true,
    sel: `${who}>`,
    cell: { x: at, y: at },
  };
}

/**
 * @param {View} view
 * @param {WorstCell} cell
 * @returns {Item}
 */
function cellItem(view, { x, y, code }) {
  const src = view.axis.hosts[y].name;
  const dst = view.axis.hosts[x].name;
  const kind = view.kind();
  return {
    who: `${src} → ${dst}`,
    what: code in STATES ? t(STATES[code]) : formatValue(decode(code, kind), kind),
    isBad: code === FAILED,
    sel: `${src}>${dst}`,
    cell: { x, y },
  };
}

/**
 * @param {View} view
 * @param {Item} item
 * @param {number} i
 */
function row(view, { who, what, isBad, sel, cell }, i) {
  const onclick = () => {
    view.map.cursor = cell;
    view.flying = true;
    update({ sel }, { step: true });
  };
  return h(
    "li",
    { class: i < RINGS ? "ringed" : "" },
    h(
      "button",
      { onclick },
      h("i", {}, String(i + 1)),
      name(who, { class: "who" }),
      h("span", { class: `what${isBad ? " bad" : ""}` }, what),
    ),
  );
}
