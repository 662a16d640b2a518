/** Light or dark: the reader's choice, else Airflow's around the frame, else the system's. */
import { keep, read } from "./i18n.js";

/** @typedef {"light" | "dark"} Theme */

const KEPT_AS = "pingmesh.theme";
/** Custom properties of page.css that canvases draw with. */
const COLOURS = /** @type {const} */ ([
  "paper",
  "panel",
  "ink",
  "muted",
  "rule",
  "grid",
  "accent",
  "bracket",
  "cross",
  "ring",
  "focus",
  "bad",
  "warn",
  "good",
  "bar",
  "s0",
  "s1",
  "s2",
  "s3",
]);
/** @typedef {Record<(typeof COLOURS)[number] | "onRing", string>} Colours */

const system = matchMedia("(prefers-color-scheme: dark)");
/** @type {Set<(theme: Theme) => void>} */
const listeners = new Set();
/** @type {Theme} */
export let theme = "light";
/** @type {Colours | null} */
let paint = null;

/** The document around the frame; null where there is none, or of another origin. */
function outerDocument() {
  try {
    return window.parent === window ? null : window.parent.document.documentElement;
  } catch {
    return null;
  }
}

/** @returns {Theme | null} */
function airflowsTheme() {
  const root = outerDocument();
  if (!root) {
    return null;
  }
  if (root.classList.contains("dark") || root.dataset.theme === "dark") {
    return "dark";
  }
  return root.classList.contains("light") ? "light" : null;
}

/** @returns {Theme} */
function chosenTheme() {
  const kept = read(KEPT_AS);
  if (kept === "light" || kept === "dark") {
    return kept;
  }
  return airflowsTheme() ?? (system.matches ? "dark" : "light");
}

/** @param {Theme} wanted */
function apply(wanted) {
  theme = wanted;
  document.documentElement.dataset.theme = theme;
  paint = null;
  for (const listener of listeners) {
    listener(theme);
  }
}

/** @param {(theme: Theme) => void} listener */
export const onTheme = (listener) => void listeners.add(listener);

export function toggleTheme() {
  const wanted = theme === "dark" ? "light" : "dark";
  keep(KEPT_AS, wanted);
  apply(wanted);
}

/**
 * The colours that canvases draw with. They are read once a theme: reading them lays out the page.
 * @returns {Colours}
 */
export function colours() {
  paint ??= readColours();
  return paint;
}

/** @returns {Colours} */
function readColours() {
  const style = getComputedStyle(document.documentElement);
  /** @param {string} name */
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  const named = Object.fromEntries(COLOURS.map((name) => [name, of(name)]));
  return /** @type {Colours} */ ({ ...named, onRing: of("on-ring") });
}

const follow = () => apply(chosenTheme());
follow();
system.addEventListener("change", follow);
const outer = outerDocument();
if (outer) {
  new MutationObserver(follow).observe(outer, { attributeFilter: ["class", "data-theme"] });
}
