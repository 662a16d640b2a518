/** Tables and tags of the panels. */
import { h } from "../dom.js";
import { formatMoment } from "../format.js";

/** @import { Child } from "../dom.js" */

/**
 * @param {string} text
 * @param {string} [kind]
 */
export const tag = (text, kind = "") => h("span", { class: `tag ${kind}` }, text);

/**
 * A cell of a table.
 * @param {Child | Child[]} children
 * @param {string} [kind] "n" is a number
 */
export const td = (children, kind) => h("td", { class: kind }, children);

/**
 * The head of a column.
 * @param {string} text
 * @param {string} [kind]
 */
export const th = (text, kind) => h("th", { scope: "col", class: kind }, text);

/**
 * A table that scrolls within its box, which has a name and takes focus.
 * @param {string} label
 * @param {...(Child | Child[])} children
 */
export const scrolled = (label, ...children) =>
  h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": label }, ...children);

/**
 * A button that looks like a link.
 * @param {() => void} onclick
 * @param {...Child} children
 */
export const linkButton = (onclick, ...children) =>
  h("button", { class: "link", onclick }, ...children);

/**
 * A figure with its words.
 * @param {string} figure
 * @param {string} words
 * @param {boolean} [isBad]
 */
export const tile = (figure, words, isBad = false) =>
  h("div", { class: `tile${isBad ? " bad" : ""}` }, h("b", {}, figure), h("span", {}, words));

/**
 * A moment of ISO 8601 in UTC; what is none is shown as it is.
 * @param {string | null | undefined} text
 */
export function moment(text) {
  const date = new Date(text ?? Number.NaN);
  return Number.isNaN(+date) ? String(text ?? "–") : `${formatMoment(date)} UTC`;
}
