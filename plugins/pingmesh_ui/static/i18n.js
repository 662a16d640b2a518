/**
 * Words by key, in the language of the reader. `t("probes", { n: 3 })` fills `{n}`; where a key has
 * the forms `.one` and `.other`, `n` chooses between them.
 */
/** @type {Record<string, string>} */
export const LANGUAGES = { en: "English", zh: "中文" };
/** @type {Record<string, string>} */
let words = {};
let plural = new Intl.PluralRules("en");
let numbers = new Intl.NumberFormat("en");
export let language = "en";

/** The language that the reader chose, else the first of the browser's that there are words in. */
export function preferredLanguage() {
  const kept = read("pingmesh.language");
  if (kept && kept in LANGUAGES) {
    return kept;
  }
  const tags = navigator.languages ?? [navigator.language];
  return tags.map((tag) => tag.slice(0, 2)).find((tag) => tag in LANGUAGES) ?? "en";
}

/** @param {string} wanted a key of `LANGUAGES` */
export async function loadLanguage(wanted) {
  const response = await fetch(new URL(`./i18n/${wanted}.json`, import.meta.url));
  words = await response.json();
  language = wanted;
  plural = new Intl.PluralRules(wanted);
  numbers = new Intl.NumberFormat(wanted);
  document.documentElement.lang = wanted === "zh" ? "zh-Hans" : wanted;
}

/**
 * The words of a key; the key itself where there are none.
 * @param {string} key
 * @param {Record<string, any>} [values]
 */
export function t(key, values = {}) {
  const text = words[key] ?? counted(key, values) ?? key;
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    name === "n" ? numbers.format(values.n) : (values[name] ?? ""),
  );
}

/**
 * @param {string} key
 * @param {Record<string, any>} values
 */
function counted(key, values) {
  if (!("n" in values)) {
    return undefined;
  }
  return words[`${key}.${plural.select(values.n)}`] ?? words[`${key}.other`];
}

/**
 * The words of `<prefix>.<id>`, null where there are none: for ids that the page may not know yet.
 * @param {string} prefix
 * @param {string} id
 */
export const wordsOf = (prefix, id) => words[`${prefix}.${id}`] ?? null;

/** Fill index.html: `data-t` is the key of a text, `data-t-<attribute>` that of an attribute. */
export function translate(root = document) {
  for (const element of /** @type {NodeListOf<HTMLElement>} */ (
    root.querySelectorAll("[data-t]")
  )) {
    element.textContent = t(element.dataset.t ?? "");
  }
  for (const attribute of ["aria-label", "title", "placeholder"]) {
    for (const element of root.querySelectorAll(`[data-t-${attribute}]`)) {
      element.setAttribute(attribute, t(element.getAttribute(`data-t-${attribute}`) ?? ""));
    }
  }
}

/**
 * Read what the browser keeps. A frame may be forbidden to; then nothing is remembered.
 * @param {string} key
 */
export function read(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

/**
 * @param {string} key
 * @param {string} value
 */
export function keep(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Forbidden: the choice lasts as long as the page.
  }
}
