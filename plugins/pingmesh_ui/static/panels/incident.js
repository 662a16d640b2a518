/** One incident or finding: what is wrong, the evidence, where packets get lost on the way, and what one can do. */
import { h, isolate, name } from "../dom.js";
import { formatCount, formatId, formatMoment, formatShare, formatUs, parseId } from "../format.js";
import { language, t } from "../i18n.js";
import { ruleName } from "../rule_names.js";
import { update } from "../state.js";

const COLUMNS = 12;
const ROWS = 20;
const HOPS = 30;
const HOURS = [1, 4, 24, 72];
/** What ended it, where nobody did. */
const LANES = new Set(["hot", "window"]);

export const tag = (text, kind) => h("span", { class: `tag ${kind ?? ""}` }, text);
export const severityTag = (severity) =>
  tag(
    `${severity === "critical" ? "▲" : "●"} ${t(`severity.${severity}`)}`,
    severity === "critical" ? "bad" : "warn",
  );
export const moment = (text) => {
  const date = new Date(text ?? NaN);
  return Number.isNaN(+date) ? String(text ?? "–") : `${formatMoment(date)} UTC`;
};

export function drawIncident(box, row, { context, admin, silences }) {
  const traces = row.traces ?? [];
  const evidence = typeof row.evidence === "string" ? safeJson(row.evidence) : (row.evidence ?? []);
  const rows = [
    [t("alarms.status"), tag(t(`incident.${row.state}`), TAGS[row.state])],
    [t("alarms.severity"), severityTag(row.severity)],
    [t("alarms.since"), moment(row.since)],
    [t("alarms.value"), measured(row.value, row.unit)],
    [t("alarms.threshold"), measured(row.threshold, row.unit)],
  ];
  const add = (key, value) => {
    if (value !== null && value !== undefined && value !== "") {
      rows.push([t(key), value]);
    }
  };
  add(
    "alarms.normal",
    row.normal === null || row.normal === undefined ? "" : measured(row.normal, row.unit),
  );
  add("alarms.affected", row.affected ? formatCount(row.affected) : "");
  add("alarms.returns", row.returns ? formatCount(row.returns) : "");
  add("alarms.seen", row.last_seen ? moment(row.last_seen) : "");
  add("incident.closed", row.closed_at ? moment(row.closed_at) : "");
  add(
    "alarms.by",
    row.closed_at && row.closed_by && !LANES.has(row.closed_by) ? name(row.closed_by) : "",
  );
  add("incident.acknowledged", row.acknowledged_by ? name(row.acknowledged_by) : "");
  add("alarms.confidence", row.confidence ? formatShare(row.confidence) : "");
  box.replaceChildren(
    h(
      "div",
      {},
      h(
        "button",
        { class: "closer", "aria-label": t("close"), onclick: () => update({ inc: "" }) },
        "×",
      ),
      h("h2", {}, ruleName(row.rule), ": ", name(row.subject)),
    ),
    h("p", {}, name(row.detail)),
    row.advice ? h("p", { class: "muted" }, `${t("alarms.advice")} `, name(row.advice)) : "",
    row.stale ? h("p", { class: "gone" }, t("alarms.stale")) : "",
    h(
      "dl",
      {},
      rows.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]),
    ),
    row.source === "mesh"
      ? h(
          "div",
          { class: "row" },
          h(
            "button",
            { onclick: () => showOnMap(context, row, selectionOf(row)) },
            t("alarms.show"),
          ),
        )
      : "",
    evidence.length
      ? h("section", {}, h("h3", {}, t("alarms.evidence")), evidenceTable(evidence, row, context))
      : "",
    ...traces.map((trace) => traceTable(trace)),
    row.symptoms?.length
      ? h(
          "section",
          {},
          h("h3", {}, t("alarms.symptoms")),
          h(
            "ul",
            {},
            row.symptoms
              .slice(0, 12)
              .map((one) => h("li", {}, `${ruleName(one.rule)}: `, name(one.subject ?? ""))),
          ),
          more(row.symptoms.length - 12 + (row.unlisted ?? 0)),
        )
      : "",
    row.isIncident && row.state !== "closed" ? actions(row, admin, silences) : "",
  );
}

export const TAGS = {
  open: "bad",
  acknowledged: "warn",
  silenced: "",
  closed: "good",
  finding: "",
};
const safeJson = (text) => {
  try {
    return JSON.parse(text);
  } catch {
    return [];
  }
};
const more = (count) =>
  count > 0 ? h("p", { class: "keys" }, t("alarms.more", { n: count })) : "";

function measured(value, unit) {
  if (value === null || value === undefined) {
    return "–";
  }
  if (unit === "us" || unit === "µs") {
    return formatUs(value);
  }
  if (unit === "share" || unit === "ratio") {
    return formatShare(value);
  }
  return `${formatCount(value)} ${unit ?? ""}`;
}

// ---- the map at that time -------------------------------------------------------------------------------------------

const selectionOf = ({ scope, subject }) =>
  ({
    pair: subject,
    host: `${subject}>`,
    tor: `${subject}>${subject}`,
    podset: `${subject}>${subject}`,
    dc: `${subject}>${subject}`,
  })[scope] ?? "";

/** The heatmap of the window in which it opened; live where that window is not over yet. */
function showOnMap(context, row, sel) {
  const lengthMs = 1000 * context.boot.window_s;
  const at = new Date(row.since ?? row.at);
  const id = Number.isNaN(+at) ? "" : formatId(new Date(Math.floor(at / lengthMs) * lengthMs));
  const newest =
    context.boot.newest &&
    Math.max(
      ...[context.boot.newest, context.time?.windows.at(-1)]
        .filter(Boolean)
        .map((entry) => parseId(entry.id)),
    );
  context.arrive?.();
  update(
    { tab: "mesh", lv: "", w: id && parseId(id) <= newest ? id : "", sel, blk: "", at: "" },
    { step: true },
  );
}

// ---- evidence and traces --------------------------------------------------------------------------------------------

const isNumber = (rows, column) =>
  rows.every(
    (row) => row[column] === undefined || row[column] === null || typeof row[column] === "number",
  );
const heading = (column) => {
  const key = `evidence.${column}`;
  const text = t(key);
  return text === key ? String(column).replaceAll("_", " ") : text;
};
const cellOf = (rows, column) => (isNumber(rows, column) ? "n" : "");

function evidenceTable(rows, row, context) {
  const pairs = row.source === "mesh" && rows.some((one) => one.src && one.dst);
  const columns = [...new Set(rows.flatMap((one) => Object.keys(one)))]
    .filter((column) => !pairs || !["src", "dst"].includes(column))
    .slice(0, COLUMNS);
  const pair = (one) =>
    h(
      "td",
      {},
      one.src && one.dst
        ? h(
            "button",
            {
              class: "link",
              title: t("alarms.show"),
              onclick: () => showOnMap(context, row, `${one.src}>${one.dst}`),
            },
            name(one.src),
            " → ",
            name(one.dst),
          )
        : name(String(one.src ?? one.dst ?? "–")),
    );
  return scrolled(
    t("alarms.evidence"),
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          pairs ? h("th", { scope: "col" }, t("alarms.pair")) : "",
          columns.map((column) =>
            h("th", { scope: "col", class: cellOf(rows, column) }, name(heading(column))),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.slice(0, ROWS).map((one) =>
          h(
            "tr",
            {},
            pairs ? pair(one) : "",
            columns.map((column) =>
              h("td", { class: cellOf(rows, column) }, cell(column, one[column])),
            ),
          ),
        ),
      ),
    ),
    more(rows.length - ROWS),
  );
}

function cell(column, value) {
  if (value === undefined || value === null) {
    return "–";
  }
  if (typeof value === "boolean") {
    return value ? "✓" : "–";
  }
  if (typeof value === "number") {
    if (column.endsWith("_us")) {
      return formatUs(value);
    }
    if (column === "loss" || column.endsWith("share")) {
      return formatShare(value);
    }
    return Number.isInteger(value) && /(^|_)(pid|port|shot)$/.test(column)
      ? String(value)
      : new Intl.NumberFormat(language, { maximumSignificantDigits: 4 }).format(value);
  }
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  return /^\d{4}-\d\d-\d\dT[\d:.]+(Z|\+00:00)$/.test(text) ? moment(text) : name(text);
}

/** The routers between two hosts, the nearest first: how many packets beyond each nobody answered, and where that starts. */
function traceTable({ src, dst, verdict, after, hops = [] }) {
  const rows = [...hops].sort((a, b) => a.hop - b.hop);
  const title = t("alarms.trace.of", { src: isolate(src), dst: isolate(dst) });
  return h(
    "section",
    {},
    h("h3", {}, t("alarms.trace"), ": ", name(src), " → ", name(dst)),
    h("p", {}, name(verdict ?? "")),
    rows.length
      ? scrolled(
          title,
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                [
                  ["trace.hop", "n"],
                  ["trace.router", ""],
                  ["trace.ports", "n"],
                  ["trace.stop", "n"],
                  ["trace.loss", "n"],
                ].map(([key, kind]) => h("th", { scope: "col", class: kind }, t(key))),
              ),
            ),
            h(
              "tbody",
              {},
              rows
                .slice(0, HOPS)
                .map((hop) =>
                  h(
                    "tr",
                    { class: after && hop.router === after ? "start" : "" },
                    h("td", { class: "n" }, formatCount(hop.hop)),
                    h(
                      "td",
                      {},
                      name(String(hop.router ?? "–")),
                      after && hop.router === after ? [" ", tag(t("trace.start"), "bad")] : "",
                    ),
                    h("td", { class: "n" }, formatCount(hop.ports)),
                    h("td", { class: "n" }, formatCount(hop.stop_here)),
                    h(
                      "td",
                      { class: "n" },
                      hop.sent_beyond
                        ? `${formatShare(hop.loss_beyond)} ${t("trace.of", { n: hop.sent_beyond })}`
                        : "–",
                    ),
                  ),
                ),
            ),
          ),
        )
      : "",
  );
}

const scrolled = (label, ...children) =>
  h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": label }, ...children);

// ---- acknowledge, silence -------------------------------------------------------------------------------------------

function actions(row, admin, silences) {
  const comment = h("input", {
    placeholder: t("alarms.comment"),
    "aria-label": t("alarms.comment"),
    maxLength: 200,
  });
  const hours = h(
    "select",
    { "aria-label": t("alarms.hours") },
    HOURS.map((n) => h("option", { value: n }, t("hours", { n }))),
  );
  const act =
    (action) =>
    ({ currentTarget }) =>
      admin.act(
        { action, incident: row.id, hours: Number(hours.value), comment: comment.value },
        currentTarget,
      );
  const mine = silences.find((one) => one.incident === row.id);
  return h(
    "div",
    { class: "acts" },
    h("div", { class: "row" }, comment),
    h(
      "div",
      { class: "row" },
      row.acknowledged_by
        ? ""
        : h("button", { class: "primary", onclick: act("acknowledge") }, t("alarms.acknowledge")),
      mine
        ? h(
            "button",
            {
              onclick: ({ currentTarget }) =>
                admin.act(
                  { action: "unsilence", silence_id: mine.id, comment: comment.value },
                  currentTarget,
                ),
            },
            t("alarms.unsilence"),
          )
        : [h("button", { onclick: act("silence") }, t("alarms.silence")), hours],
    ),
  );
}
