/** Light or dark: the reader's choice, else Airflow's around the frame, else the system's. */
import { keep, read } from "./i18n.js";

const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
export let theme = "light";
let paint = null;

function airflows() {
  try {
    if (window.parent === window) {
      return null;
    }
    const root = window.parent.document.documentElement;
    return root.classList.contains("dark") || root.dataset.theme === "dark"
      ? "dark"
      : root.classList.contains("light")
        ? "light"
        : null;
  } catch {
    return null;
  }
}

function apply() {
  const chosen = read("pingmesh.theme");
  theme = ["light", "dark"].includes(chosen)
    ? chosen
    : (airflows() ?? (system.matches ? "dark" : "light"));
  changed();
}

function changed() {
  document.documentElement.dataset.theme = theme;
  paint = null;
  for (const listener of listeners) {
    listener(theme);
  }
}

export const onTheme = (listener) => listeners.add(listener);
export function toggleTheme() {
  keep("pingmesh.theme", theme === "dark" ? "light" : "dark");
  theme = theme === "dark" ? "light" : "dark";
  changed();
}

/** The custom properties that canvases draw with; they are read once a theme, for to read them is to lay out the page. */
export const colours = () => (paint ??= readColours());

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const of = (name) => style.getPropertyValue(`--${name}`).trim();
  return Object.fromEntries(
    [
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
    ]
      .map((name) => [name, of(name)])
      .concat([["onRing", of("on-ring")]]),
  );
}

apply();
system.addEventListener("change", apply);
try {
  if (window.parent !== window) {
    new MutationObserver(apply).observe(window.parent.document.documentElement, {
      attributeFilter: ["class", "data-theme"],
    });
  }
} catch {
  // A parent of another origin keeps its theme to itself.
}
