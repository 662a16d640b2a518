/**
 * Elements of the page. Text is always set as text: names come from hosts and logs and are never
 * markup.
 */
/** @import { PageElements } from "../types/page.js" */

/**
 * What an element can be given as a child; nothing, and false, are left out.
 * @typedef {Node | string | false | null | undefined} Child
 */

/** Keys that are set as attributes although elements have a property of that name. */
const ATTRIBUTES = new Set(["list", "role"]);

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, any>} [props] `onclick` and the like are listeners, `class` is the class;
 *   any other key is a property of the element where it has one, else an attribute.
 * @param {...(Child | Child[])} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, props = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (isGiven(value)) {
      setProp(element, key, value);
    }
  }
  element.append(...children.flat().filter(isGiven));
  return element;
}

/**
 * @template T
 * @param {T | false | null | undefined} value
 * @returns {value is T}
 */
const isGiven = (value) => value !== undefined && value !== null && value !== false;

/**
 * @param {HTMLElement} element
 * @param {string} key
 * @param {any} value
 */
function setProp(element, key, value) {
  if (key.startsWith("on")) {
    element.addEventListener(key.slice(2), value);
  } else if (key === "class") {
    element.className = value;
  } else if (key in element && !ATTRIBUTES.has(key)) {
    Object.assign(element, { [key]: value });
  } else {
    element.setAttribute(key, value === true ? "" : value);
  }
}

/**
 * The element of index.html with this id.
 * @template {keyof PageElements} K
 * @param {K} id
 */
export const $ = (id) =>
  /** @type {PageElements[K]} */ (/** @type {unknown} */ (document.getElementById(id)));

/**
 * The first element of the page that a selector matches; index.html has it.
 * @param {string} selector
 */
export const find = (selector) => /** @type {HTMLElement} */ (document.querySelector(selector));

/**
 * A name from a host or a log, isolated so that right-to-left letters change nothing around it.
 * @param {string} text
 * @param {Record<string, any>} [props]
 */
export const name = (text, props = {}) => h("bdi", { title: text, ...props }, text);

/**
 * The same isolation as characters, for names within sentences.
 * @param {string} text
 */
export const isolate = (text) => `\u2068${text}\u2069`;

/**
 * Call after the next frame is painted: for work that must not delay the picture.
 * @param {() => void} then
 */
export const afterFrame = (then) => requestAnimationFrame(() => setTimeout(then));

/** Whether windows are played one after the other. */
export const isPlaying = () => Boolean(document.documentElement.dataset.playing);
