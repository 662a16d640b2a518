/**
 * Alarms: incidents that are open, and findings of the last day; one of them in detail. Acknowledging and silencing start
 * Airflow's Dag `alert_admin` with the reader's own session: the page itself only reads.
 */
import { get, triggerAdmin } from "../api.js";
import { h, name } from "../dom.js";
import { formatCount, formatMoment, formatShare, formatUs } from "../format.js";
import { t } from "../i18n.js";
import { ruleName } from "../rules.js";
import { onChange, state, update } from "../state.js";

const EVERY_MS = 15_000, SHOWN = 300;

export function open(panel, context) {
  const status = select("alarms.status", ["", "open", "acknowledged", "silenced", "closed"].map((key) => [key, key ? t(`incident.${key}`) : t("alarms.all")]));
  const severity = select("alarms.severity", [["", t("alarms.all")], ["critical", t("severity.critical")], ["warning", t("severity.warning")]]);
  const source = select("alarms.source", [["", t("alarms.all")], ["mesh", t("tab.mesh")], ["data", t("tab.data")]]);
  const words = h("input", { type: "search", placeholder: t("alarms.find"), "aria-label": t("alarms.find") });
  const table = h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("tab.alarms") }), detail = h("div", { class: "detail", hidden: true, "aria-live": "polite" });
  panel.replaceChildren(
    h("div", { class: "panel-head" }, h("h2", {}, t("tab.alarms")), status, severity, source, words, h("span", { class: "grow" }),
      h("a", { href: new URL("api/v1/anomalies?format=csv&download=1", document.baseURI).href, download: "pingmesh-anomalies.csv" }, "CSV")),
    h("div", { class: "split" }, table, detail),
  );
  let rows = [];
  const draw = () => { drawTable(table, rows.filter(wanted), detail); const row = rows.find((one) => one.key === state.inc); detail.hidden = !row; if (row && detail.dataset.key !== row.key + row.state) drawDetail(detail, row, context, refresh); };
  const wanted = (row) => (!status.value || row.state === status.value) && (!severity.value || row.severity === severity.value)
    && (!source.value || (source.value === "mesh") === (row.source === "mesh")) && `${row.subject} ${row.rule} ${row.detail} ${row.source}`.toLowerCase().includes(words.value.trim().toLowerCase());
  for (const control of [status, severity, source, words]) control.oninput = draw;
  onChange((changed) => { if (changed.has("inc")) draw(); });

  async function refresh() {
    const [incidents, anomalies] = await Promise.all([get("incidents", { state: "all" }).catch((error) => { if (error.status === 404) return { incidents: [] }; throw error; }), get("anomalies", { limit: SHOWN })]);
    rows = merge(incidents.incidents ?? [], anomalies.anomalies ?? []);
    context.countAlarms(rows.filter((row) => row.isIncident && row.state === "open").length);
    draw();
  }
  setInterval(() => { if (!panel.hidden && !document.hidden) refresh().catch((error) => context.report(error, refresh)); }, EVERY_MS);
  return { show: refresh };
}

const select = (label, options) => h("select", { "aria-label": t(label), title: t(label) }, options.map(([value, text]) => h("option", { value }, text)));

const stateOf = (incident) => (incident.state === "closed" || incident.closed_at ? "closed" : incident.silenced ? "silenced" : incident.acknowledged_by ? "acknowledged" : "open");

/** Incidents first; then the findings that no incident of the list is about. */
export function merge(incidents, anomalies) {
  const mine = incidents.map((incident) => ({ ...incident, key: incident.id, isIncident: true, state: stateOf(incident), since: incident.opened_at ?? incident.since }));
  const told = new Set(mine.map((row) => `${row.source} ${row.rule} ${row.subject}`)), seen = new Set();
  const rest = anomalies.map((row) => ({ ...row, key: `${row.at} ${row.rule} ${row.subject}`, state: "finding", isIncident: false }))
    .filter((row) => { const what = `${row.source} ${row.rule} ${row.subject}`; return !told.has(what) && !seen.has(what) && seen.add(what); });
  const weight = { open: 0, acknowledged: 1, silenced: 2, finding: 3, closed: 4 };
  return [...mine, ...rest].sort((a, b) => (weight[a.state] ?? 3) - (weight[b.state] ?? 3) || (b.severity === "critical") - (a.severity === "critical") || String(b.since).localeCompare(String(a.since)));
}

const TAGS = { open: "bad", acknowledged: "warn", silenced: "", closed: "good", finding: "" };
const tag = (text, kind) => h("span", { class: `tag ${kind ?? ""}` }, text);
const severityTag = (severity) => tag(`${severity === "critical" ? "▲" : "●"} ${t(`severity.${severity}`)}`, severity === "critical" ? "bad" : "warn");
const moment = (text) => { const date = new Date(text); return Number.isNaN(+date) ? String(text ?? "–") : `${formatMoment(date)} UTC`; };

function drawTable(box, rows) {
  if (!rows.length) { box.replaceChildren(h("p", { class: "blank" }, t("alarms.none"))); return; }
  const pick = (row) => update({ inc: row.key }, { step: true });
  box.replaceChildren(h("table", {},
    h("thead", {}, h("tr", {}, ["alarms.status", "alarms.severity", "alarms.what", "alarms.who", "alarms.since"].map((key) => h("th", { scope: "col" }, t(key))))),
    h("tbody", {}, rows.map((row) => h("tr", { tabIndex: 0, "aria-selected": row.key === state.inc, onclick: () => pick(row), onkeydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick(row); } } },
      h("td", {}, tag(t(`incident.${row.state}`), TAGS[row.state])), h("td", {}, severityTag(row.severity)),
      h("td", {}, h("b", {}, ruleName(row.rule)), h("div", { class: "muted" }, name(row.detail))), h("td", {}, name(row.subject), h("div", { class: "muted" }, row.source === "mesh" ? t(`scope.${row.scope}`) : name(row.source))), h("td", {}, moment(row.since)))))));
}

function measured(value, unit) {
  if (value === null || value === undefined) return "–";
  if (unit === "us" || unit === "µs") return formatUs(value);
  if (unit === "share" || unit === "ratio") return formatShare(value);
  return `${formatCount(value)} ${unit ?? ""}`;
}

function drawDetail(box, row, context, refresh) {
  box.dataset.key = row.key + row.state;
  const evidence = typeof row.evidence === "string" ? safeJson(row.evidence) : row.evidence ?? [], traces = row.traces ?? row.trace ?? [];
  const done = h("p", { role: "status" }), field = h("input", { placeholder: t("alarms.comment"), "aria-label": t("alarms.comment"), maxLength: 200 });
  const hours = h("select", { "aria-label": t("alarms.hours") }, [1, 4, 24, 72].map((n) => h("option", { value: n }, t("hours", { n }))));
  const act = async (action) => {
    done.textContent = t("alarms.asking");
    try {
      await triggerAdmin({ action, incident: row.key, hours: Number(hours.value), by: context.boot.user ?? "", comment: field.value });
      done.textContent = t(`alarms.done.${action}`);
      setTimeout(() => refresh().catch(() => {}), 8_000);
    } catch (error) {
      done.textContent = error.code === "expired" ? t("error.expired") : error.status === 403 ? t("alarms.forbidden") : error.status === 404 ? t("alarms.no_dag") : error.message;
      if (error.code === "expired") context.report(error);
    }
  };
  const rows = [[t("alarms.severity"), severityTag(row.severity)], [t("alarms.since"), moment(row.since)], [t("alarms.value"), measured(row.value, row.unit)], [t("alarms.threshold"), measured(row.threshold, row.unit)]];
  if (row.normal !== null && row.normal !== undefined) rows.push([t("normal"), measured(row.normal, row.unit)]);
  if (row.affected) rows.push([t("alarms.affected"), formatCount(row.affected)]);
  if (row.last_seen) rows.push([t("alarms.seen"), moment(row.last_seen)]);
  if (row.closed_at) rows.push([t("incident.closed"), moment(row.closed_at)]);
  if (row.acknowledged_by) rows.push([t("incident.acknowledged"), name(row.acknowledged_by)]);
  if (row.confidence) rows.push([t("alarms.confidence"), formatShare(row.confidence)]);
  box.replaceChildren(
    h("div", {}, h("button", { class: "closer", "aria-label": t("close"), onclick: () => update({ inc: "" }) }, "×"), h("h2", {}, ruleName(row.rule), ": ", name(row.subject))),
    h("p", {}, name(row.detail)), row.advice ? h("p", { class: "muted" }, `${t("alarms.advice")} `, name(row.advice)) : "",
    h("dl", {}, rows.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)])),
    onMap(row, context),
    evidence.length ? h("div", {}, h("h3", {}, t("alarms.evidence")), evidenceTable(evidence)) : "",
    row.symptoms?.length > 1 ? h("div", {}, h("h3", {}, t("alarms.symptoms")), h("ul", {}, row.symptoms.slice(0, 12).map((one) => h("li", {}, `${ruleName(one.rule)}: `, name(one.subject ?? ""))))) : "",
    traces.length ? h("div", {}, h("h3", {}, t("alarms.trace")), h("pre", {}, typeof traces === "string" ? traces : JSON.stringify(traces, null, 1))) : "",
    row.isIncident && row.state !== "closed" ? h("div", {}, h("div", { class: "row" }, field), h("div", { class: "row" }, h("button", { class: "primary", onclick: () => act("acknowledge") }, t("alarms.acknowledge")), h("button", { onclick: () => act("silence") }, t("alarms.silence")), hours), done) : "",
  );
}

/** A link to the suspect on the map, at the time. */
function onMap(row, context) {
  const sel = { pair: row.subject, host: `${row.subject}>`, tor: `${row.subject}>${row.subject}`, podset: `${row.subject}>${row.subject}`, dc: `${row.subject}>${row.subject}` }[row.scope];
  return row.source === "mesh" && sel ? h("button", { onclick: () => { context.arrive?.(); update({ tab: "mesh", sel, at: "" }, { step: true }); } }, t("alarms.show")) : "";
}

function evidenceTable(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))].slice(0, 8);
  return h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, columns.map((column) => h("th", {}, name(column))))), h("tbody", {}, rows.slice(0, 20).map((row) => h("tr", {}, columns.map((column) => h("td", {}, cell(column, row[column]))))))));
}

const cell = (column, value) => (value === undefined || value === null ? "–" : typeof value === "number" ? (column.endsWith("_us") ? formatUs(value) : column === "loss" || column.endsWith("share") ? formatShare(value) : String(+value.toPrecision(4))) : name(typeof value === "object" ? JSON.stringify(value) : String(value)));
const safeJson = (text) => { try { return JSON.parse(text); } catch { return []; } };
