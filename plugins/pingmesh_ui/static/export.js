/** Saving what is seen: the picture as PNG, the cells in view as CSV or JSON. Files are made here, nothing is uploaded. */
import { h } from "./dom.js";
import { t } from "./i18n.js";
import { FAILED, MISSING, NOT_PLANNED, UNCLEAN, decode, isValue } from "./map/codes.js";

const MOST_ROWS = 250_000;
const STATES = { [UNCLEAN]: "unclean", [MISSING]: "missing", [FAILED]: "failed" };

export function saveBlob(blob, fileName) {
  const link = h("a", { href: URL.createObjectURL(blob), download: fileName });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 30_000);
}

export const savePicture = (canvas, fileName) =>
  canvas.toBlob((blob) => saveBlob(blob, `${fileName}.png`));

/** Rows src, dst, state, value (µs, share or ratio) of the cells in view, or of the selected block. */
export function saveCells(view, format, fileName) {
  const { axis, map } = view;
  const level = view.levels?.[0];
  if (!level || level.n !== axis.n) {
    return;
  }
  const seen = map.block ?? map.focus ?? map.seen;
  const rows = [];
  const kind = view.kind();
  const unit = kind === "us" ? "us" : kind === "share" ? "share" : kind;
  for (let y = Math.floor(seen.y0); y < Math.min(axis.n, Math.ceil(seen.y1)); y++) {
    for (let x = Math.floor(seen.x0); x < Math.min(axis.n, Math.ceil(seen.x1)); x++) {
      const code = level.codes[y * level.n + x];
      if (code === NOT_PLANNED) {
        continue;
      }
      if (rows.length === MOST_ROWS) {
        view.context.report(
          Object.assign(new Error(t("export.cut", { n: MOST_ROWS })), { code: "cut" }),
        );
        y = axis.n;
        break;
      }
      rows.push([
        axis.hosts[y].name,
        axis.hosts[x].name,
        STATES[code] ?? "measured",
        isValue(code) ? +decode(code, kind).toPrecision(4) : null,
      ]);
    }
  }
  const head = ["src", "dst", "state", `${view.metric().name}_${unit}`];
  const text =
    format === "csv"
      ? [head, ...rows].map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n"
      : JSON.stringify({
          window: view.window.id,
          metric: view.metric().name,
          rows: rows.map((row) => Object.fromEntries(row.map((value, i) => [head[i], value]))),
        });
  saveBlob(
    new Blob([text], { type: format === "csv" ? "text/csv" : "application/json" }),
    `${fileName}.${format}`,
  );
}

/** A field that no spreadsheet takes for a formula, quoted where it must be. */
export function csvField(value) {
  if (value === null || value === undefined) {
    return "";
  }
  let text = String(value);
  if (typeof value !== "number" && /^[=+\-@\t\r]/.test(text)) {
    text = `'${text}`;
  }
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
