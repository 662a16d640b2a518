/**
 * Saving what is seen: the picture as PNG, the cells in view as CSV or JSON. Files are made here;
 * nothing is uploaded.
 */
import { pageError } from "./api_error.js";
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { FAILED, MISSING, NOT_PLANNED, UNCLEAN, decode, isValue } from "./map/codes.js";

/** @import { View } from "./view.js" */

/** @typedef {"csv" | "json"} Format */
/** @typedef {string | number | null} Field */

const MOST_ROWS = 250_000;
/** @type {Record<number, string>} */
const STATES = { [UNCLEAN]: "unclean", [MISSING]: "missing", [FAILED]: "failed" };

/**
 * Have the browser save a file.
 * @param {Blob} blob
 * @param {string} fileName
 */
export function saveBlob(blob, fileName) {
  const link = h("a", { href: URL.createObjectURL(blob), download: fileName });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}

/**
 * @param {HTMLCanvasElement | null} canvas
 * @param {string} fileName without ".png"
 */
export const savePicture = (canvas, fileName) =>
  canvas?.toBlob((blob) => blob && saveBlob(blob, `${fileName}.png`));

/**
 * Save src, dst, state and value (µs, share or ratio) of the cells in view, or of the selected
 * block.
 * @param {View} view
 * @param {Format} format
 * @param {string} fileName without its ending
 */
export function saveCells(view, format, fileName) {
  const kind = view.kind();
  const rows = cellRows(view, kind);
  if (!rows) {
    return;
  }
  const metric = view.metric().name;
  const head = ["src", "dst", "state", `${metric}_${kind}`];
  const text =
    format === "csv" ? csvText([head, ...rows]) : jsonText(view.window.id, metric, head, rows);
  const type = format === "csv" ? "text/csv" : "application/json";
  saveBlob(new Blob([text], { type }), `${fileName}.${format}`);
}

/**
 * @param {View} view
 * @param {import("./map/codes.js").Kind} kind
 * @returns {Field[][] | null} null where the full matrix is not there
 */
function cellRows(view, kind) {
  const { axis, map } = view;
  const level = view.levels?.[0];
  if (!level || level.n !== axis.n) {
    return null;
  }
  const seen = map.block ?? map.focus ?? map.seen;
  const x1 = Math.min(axis.n, Math.ceil(seen.x1));
  const y1 = Math.min(axis.n, Math.ceil(seen.y1));
  /** @type {Field[][]} */
  const rows = [];
  for (let y = Math.floor(seen.y0); y < y1; y++) {
    for (let x = Math.floor(seen.x0); x < x1; x++) {
      const code = level.codes[y * level.n + x];
      if (code === NOT_PLANNED) {
        continue;
      }
      if (rows.length === MOST_ROWS) {
        view.context.report(pageError(t("export.cut", { n: MOST_ROWS }), "cut"));
        return rows;
      }
      rows.push([axis.hosts[y].name, axis.hosts[x].name, ...stateAndValue(code, kind)]);
    }
  }
  return rows;
}

/**
 * @param {number} code
 * @param {import("./map/codes.js").Kind} kind
 * @returns {[state: string, value: number | null]}
 */
const stateAndValue = (code, kind) => [
  STATES[code] ?? "measured",
  isValue(code) ? +decode(code, kind).toPrecision(4) : null,
];

/** @param {Field[][]} rows */
const csvText = (rows) => `${rows.map((row) => row.map(csvField).join(",")).join("\r\n")}\r\n`;

/**
 * @param {string} window
 * @param {string} metric
 * @param {string[]} head
 * @param {Field[][]} rows
 */
const jsonText = (window, metric, head, rows) =>
  JSON.stringify({
    window,
    metric,
    rows: rows.map((row) => Object.fromEntries(row.map((value, i) => [head[i], value]))),
  });

/**
 * A field of a CSV file, quoted where it must be; no spreadsheet takes it for a formula.
 * @param {Field | undefined} value
 */
export function csvField(value) {
  if (value === null || value === undefined) {
    return "";
  }
  const isFormula = typeof value !== "number" && /^[=+\-@\t\r]/.test(value);
  const text = isFormula ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
