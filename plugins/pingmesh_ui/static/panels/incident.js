/** One incident or finding in detail: what is wrong, the evidence, and what one can do. */
import { h, name } from "../dom.js";
import { formatCount, formatShare, formatUs } from "../format.js";
import { t } from "../i18n.js";
import { ruleName } from "../id_names.js";
import { update } from "../state.js";
import { evidenceTable, moreLine, traceTable } from "./evidence.js";
import { selectionOf, showOnMap } from "./on_map.js";
import { moment, tag } from "./tables.js";

/** @import { Evidence, Severity, Silence } from "../../types/api.js" */
/** @import { Context } from "../app.js" */
/** @import { Child } from "../dom.js" */
/** @import { Admin } from "./admin.js" */
/** @import { AlarmRow, AlarmState } from "./alarm_rows.js" */

/** Symptoms that are listed. */
const SYMPTOMS = 12;
/** Hours that an incident can be silenced. */
const HOURS = [1, 4, 24, 72];
/** What ends incidents, besides people. */
const PATHS = new Set(["hot", "window"]);

/**
 * The tag of a state.
 * @type {Record<AlarmState, string>}
 */
export const TAGS = {
  open: "bad",
  acknowledged: "warn",
  silenced: "",
  closed: "good",
  finding: "",
};

/** @param {Severity} severity */
export function severityTag(severity) {
  const isCritical = severity === "critical";
  const words = t(`severity.${severity}`);
  return tag(`${isCritical ? "▲" : "●"} ${words}`, isCritical ? "bad" : "warn");
}

/**
 * @param {HTMLElement} box
 * @param {AlarmRow} row
 * @param {Context} context
 * @param {Admin} admin
 * @param {Silence[]} silences that hold now
 */
export function drawIncident(box, row, context, admin, silences) {
  const evidence = evidenceOf(row);
  const close = () => update({ inc: "" });
  box.replaceChildren(
    h(
      "div",
      {},
      h("button", { class: "closer", "aria-label": t("close"), onclick: close }, "×"),
      h("h2", {}, ruleName(row.rule), ": ", name(row.subject)),
    ),
    h("p", {}, name(row.detail)),
    row.advice ? adviceLine(row.advice) : "",
    row.stale ? h("p", { class: "gone" }, t("alarms.stale")) : "",
    facts(row),
    row.source === "mesh" ? mapButton(context, row) : "",
    evidence.length
      ? h("section", {}, h("h3", {}, t("alarms.evidence")), evidenceTable(evidence, row, context))
      : "",
    ...(row.traces ?? []).map(traceTable),
    row.symptoms?.length ? symptomList(row) : "",
    row.isIncident && row.state !== "closed" ? actions(row, admin, silences) : "",
  );
}

/** @param {string} advice */
const adviceLine = (advice) => h("p", { class: "muted" }, `${t("alarms.advice")} `, name(advice));

/**
 * @param {Context} context
 * @param {AlarmRow} row
 */
function mapButton(context, row) {
  const onclick = () => showOnMap(context, row, selectionOf(row));
  return h("div", { class: "row" }, h("button", { onclick }, t("alarms.show")));
}

/**
 * Rows of evidence; those of a finding are JSON.
 * @param {AlarmRow} row
 * @returns {Evidence[]}
 */
function evidenceOf({ evidence }) {
  if (typeof evidence !== "string") {
    return evidence ?? [];
  }
  try {
    return JSON.parse(evidence);
  } catch {
    return [];
  }
}

// ---- facts --------------------------------------------------------------------------------------

/**
 * The facts of a row; those that are not given are left out.
 * @param {AlarmRow} row
 */
function facts(row) {
  const isByPerson = row.closed_at && row.closed_by && !PATHS.has(row.closed_by);
  /** @type {[key: string, value: Child][]} */
  const rows = [
    ["alarms.status", tag(t(`incident.${row.state}`), TAGS[row.state])],
    ["alarms.severity", severityTag(row.severity)],
    ["alarms.since", moment(row.since)],
    ["alarms.value", measured(row.value, row.unit) ?? "–"],
    ["alarms.threshold", measured(row.threshold, row.unit) ?? "–"],
    ["alarms.normal", measured(row.normal, row.unit)],
    ["alarms.affected", row.affected ? formatCount(row.affected) : null],
    ["alarms.returns", row.returns ? formatCount(row.returns) : null],
    ["alarms.seen", row.last_seen ? moment(row.last_seen) : null],
    ["incident.closed", row.closed_at ? moment(row.closed_at) : null],
    ["alarms.by", isByPerson ? name(row.closed_by ?? "") : null],
    ["incident.acknowledged", row.acknowledged_by ? name(row.acknowledged_by) : null],
    ["alarms.confidence", row.confidence ? formatShare(row.confidence) : null],
  ];
  const given = rows.filter(([, value]) => value !== null);
  return h(
    "dl",
    {},
    given.flatMap(([key, value]) => [h("dt", {}, t(key)), h("dd", {}, value)]),
  );
}

/**
 * A figure in its unit; null where there is none.
 * @param {number | null | undefined} value
 * @param {string} [unit]
 */
function measured(value, unit = "") {
  if (value === null || value === undefined) {
    return null;
  }
  switch (unit) {
    case "us":
    case "µs":
      return formatUs(value);
    case "share":
    case "ratio":
      return formatShare(value);
    default:
      return `${formatCount(value)} ${unit}`;
  }
}

/** @param {AlarmRow} row */
function symptomList({ symptoms = [], unlisted = 0 }) {
  const items = symptoms
    .slice(0, SYMPTOMS)
    .map(({ rule, subject }) => h("li", {}, `${ruleName(rule)}: `, name(subject ?? "")));
  return h(
    "section",
    {},
    h("h3", {}, t("alarms.symptoms")),
    h("ul", {}, items),
    moreLine(symptoms.length - SYMPTOMS + unlisted),
  );
}

// ---- acknowledge, silence -----------------------------------------------------------------------

/** @typedef {{ currentTarget: HTMLButtonElement }} Click */

/**
 * @param {AlarmRow} row
 * @param {Admin} admin
 * @param {Silence[]} silences
 */
function actions(row, admin, silences) {
  const label = t("alarms.comment");
  const comment = h("input", { placeholder: label, "aria-label": label, maxLength: 200 });
  const options = HOURS.map((n) => h("option", { value: n }, t("hours", { n })));
  const hours = h("select", { "aria-label": t("alarms.hours") }, options);
  /**
   * @param {string} action
   * @returns {(click: Click) => Promise<void>}
   */
  const act =
    (action) =>
    ({ currentTarget }) => {
      const conf = { incident: row.id, hours: Number(hours.value), comment: comment.value };
      return admin.act({ action, ...conf }, currentTarget);
    };
  const acknowledge = h(
    "button",
    { class: "primary", onclick: act("acknowledge") },
    t("alarms.acknowledge"),
  );
  const silence = silences.find(({ incident }) => incident === row.id);
  return h(
    "div",
    { class: "acts" },
    h("div", { class: "row" }, comment),
    h(
      "div",
      { class: "row" },
      row.acknowledged_by ? "" : acknowledge,
      silence
        ? unsilenceButton(silence, admin, comment)
        : [h("button", { onclick: act("silence") }, t("alarms.silence")), hours],
    ),
  );
}

/**
 * @param {Silence} silence
 * @param {Admin} admin
 * @param {HTMLInputElement} comment
 */
function unsilenceButton(silence, admin, comment) {
  /** @param {Click} click */
  const onclick = ({ currentTarget }) => {
    const conf = { action: "unsilence", silence_id: silence.id, comment: comment.value };
    return admin.act(conf, currentTarget);
  };
  return h("button", { onclick }, t("alarms.unsilence"));
}
