/** The evidence of an alarm: rows of figures, and the routers between two hosts. */
import { h, isolate, name } from "../dom.js";
import { formatCount, formatShare, formatUs } from "../format.js";
import { language, t } from "../i18n.js";
import { nameOf } from "../id_names.js";
import { showOnMap } from "./on_map.js";
import { moment, scrolled, tag, td, th } from "./tables.js";

/** @import { Evidence, Hop, Trace } from "../../types/api.js" */
/** @import { Context } from "../app.js" */
/** @import { Child } from "../dom.js" */
/** @import { AlarmRow } from "./alarm_rows.js" */

const MOST_COLUMNS = 12;
const MOST_ROWS = 20;
const MOST_HOPS = 30;
const PAIR = ["src", "dst"];
/** Columns of whole numbers that are names: they are not grouped. */
const IDENTIFIERS = /(^|_)(pid|port|shot)$/;
const MOMENT = /^\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)$/;

/** @param {number} count of rows that are not listed */
export const moreLine = (count) =>
  count > 0 ? h("p", { class: "keys" }, t("alarms.more", { n: count })) : "";

/**
 * Rows of evidence; pairs of hosts lead to the map.
 * @param {Evidence[]} rows
 * @param {AlarmRow} alarm
 * @param {Context} context
 */
export function evidenceTable(rows, alarm, context) {
  const hasPairs = alarm.source === "mesh" && rows.some(({ src, dst }) => src && dst);
  const columns = columnsOf(rows, hasPairs);
  const head = [
    hasPairs ? th(t("alarms.pair")) : "",
    columns.map((column) =>
      h("th", { scope: "col", class: kindOf(rows, column) }, name(nameOf("evidence", column))),
    ),
  ];
  const body = rows.slice(0, MOST_ROWS).map((row) => {
    const figures = columns.map((column) => td(cell(column, row[column]), kindOf(rows, column)));
    return h("tr", {}, hasPairs ? pairCell(row, alarm, context) : "", figures);
  });
  return scrolled(
    t("alarms.evidence"),
    h("table", {}, h("thead", {}, h("tr", {}, ...head)), h("tbody", {}, body)),
    moreLine(rows.length - MOST_ROWS),
  );
}

/**
 * @param {Evidence[]} rows
 * @param {boolean} hasPairs whether pairs have a column of their own
 */
function columnsOf(rows, hasPairs) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))];
  return columns.filter((column) => !hasPairs || !PAIR.includes(column)).slice(0, MOST_COLUMNS);
}

/**
 * "n" for a column of numbers.
 * @param {Evidence[]} rows
 * @param {string} column
 */
function kindOf(rows, column) {
  const values = rows.map((row) => row[column] ?? null);
  return values.every((value) => value === null || typeof value === "number") ? "n" : "";
}

/**
 * @param {Evidence} row
 * @param {AlarmRow} alarm
 * @param {Context} context
 */
function pairCell({ src, dst }, alarm, context) {
  if (!src || !dst) {
    return td(name(String(src ?? dst ?? "–")));
  }
  const onclick = () => showOnMap(context, alarm, `${src}>${dst}`);
  return td(
    h(
      "button",
      { class: "link", title: t("alarms.show"), onclick },
      name(String(src)),
      " → ",
      name(String(dst)),
    ),
  );
}

/**
 * @param {string} column
 * @param {unknown} value
 * @returns {Child}
 */
function cell(column, value) {
  if (value === undefined || value === null) {
    return "–";
  }
  if (typeof value === "boolean") {
    return value ? "✓" : "–";
  }
  if (typeof value === "number") {
    return number(column, value);
  }
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return MOMENT.test(text) ? moment(text) : name(text);
}

/**
 * @param {string} column
 * @param {number} value
 */
function number(column, value) {
  if (column.endsWith("_us")) {
    return formatUs(value);
  }
  if (column === "loss" || column.endsWith("share")) {
    return formatShare(value);
  }
  if (Number.isInteger(value) && IDENTIFIERS.test(column)) {
    return String(value);
  }
  return new Intl.NumberFormat(language, { maximumSignificantDigits: 4 }).format(value);
}

// ---- traces -------------------------------------------------------------------------------------

/**
 * The routers between two hosts, the nearest first: how many packets beyond each were not answered,
 * and where that starts.
 * @param {Trace} trace
 */
export function traceTable({ src, dst, verdict, after, hops = [] }) {
  const title = t("alarms.trace.of", { src: isolate(src), dst: isolate(dst) });
  const rows = [...hops]
    .sort((a, b) => a.hop - b.hop)
    .slice(0, MOST_HOPS)
    .map((hop) => hopRow(hop, Boolean(after) && hop.router === after));
  const head = h(
    "tr",
    {},
    th(t("trace.hop"), "n"),
    th(t("trace.router"), ""),
    ...["trace.ports", "trace.stop", "trace.loss"].map((key) => th(t(key), "n")),
  );
  const table = h("table", {}, h("thead", {}, head), h("tbody", {}, rows));
  return h(
    "section",
    {},
    h("h3", {}, t("alarms.trace"), ": ", name(src), " → ", name(dst)),
    h("p", {}, name(verdict ?? "")),
    rows.length ? scrolled(title, table) : "",
  );
}

/**
 * @param {Hop} hop
 * @param {boolean} isStart whether loss starts after this router
 */
function hopRow({ hop, router, ports, stop_here, sent_beyond, loss_beyond }, isStart) {
  const loss = `${formatShare(loss_beyond)} ${t("trace.of", { n: sent_beyond })}`;
  const start = isStart ? [" ", tag(t("trace.start"), "bad")] : [];
  return h(
    "tr",
    { class: isStart ? "start" : "" },
    td(formatCount(hop), "n"),
    td([name(String(router ?? "–")), ...start]),
    td(formatCount(ports), "n"),
    td(formatCount(stop_here), "n"),
    td(sent_beyond ? loss : "–", "n"),
  );
}
