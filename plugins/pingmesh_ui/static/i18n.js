/** Words by key, in the language of the reader. `t("probes", { n: 3 })` fills {n}; a key with .one/.other forms is chosen by n. */
export const LANGUAGES = { en: "English", zh: "中文" };
let words = {};
let plural = new Intl.PluralRules("en");
let numbers = new Intl.NumberFormat("en");
export let language = "en";

export function preferredLanguage() {
  const kept = read("pingmesh.language");
  if (kept in LANGUAGES) {
    return kept;
  }
  return (
    (navigator.languages ?? [navigator.language])
      .map((tag) => tag.slice(0, 2))
      .find((tag) => tag in LANGUAGES) ?? "en"
  );
}

export async function loadLanguage(wanted) {
  const response = await fetch(new URL(`./i18n/${wanted}.json`, import.meta.url));
  words = await response.json();
  language = wanted;
  plural = new Intl.PluralRules(wanted);
  numbers = new Intl.NumberFormat(wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : wanted;
}

export function t(key, values = {}) {
  const text =
    words[key] ??
    ("n" in values
      ? (words[`${key}.${plural.select(values.n)}`] ?? words[`${key}.other`])
      : undefined) ??
    key;
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    name === "n" ? numbers.format(values.n) : (values[name] ?? ""),
  );
}

export const has = (key) => key in words;

/** Fill what index.html says by key: data-t for text, data-t-<attribute> for attributes. */
export function translate(root = document) {
  for (const element of root.querySelectorAll("[data-t]")) {
    element.textContent = t(element.dataset.t);
  }
  for (const attribute of ["aria-label", "title", "placeholder"]) {
    for (const element of root.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`)));
    }
  }
}

/** Storage may be forbidden in a frame; then nothing is remembered. */
export function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}
export function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Forbidden: the choice lasts as long as the page.
  }
}
