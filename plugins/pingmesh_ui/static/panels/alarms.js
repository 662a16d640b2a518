/**
 * Alarms: incidents, and findings of the last day; one of them in detail; silences and channels.
 * Acknowledging and silencing start a run of Airflow's DAG `alert_admin`: the page itself only
 * reads.
 */
import { address, get } from "../api.js";
import { h, name } from "../dom.js";
import { t } from "../i18n.js";
import { ruleName } from "../id_names.js";
import { onChange, state, update } from "../state.js";
import { Admin } from "./admin.js";
import { activeSilences, alarmRows } from "./alarm_rows.js";
import { FILTERS } from "./filters.js";
import { TAGS, drawIncident, severityTag } from "./incident.js";
import { drawChannels, drawSilences } from "./silences.js";
import { moment, scrolled, tag, td, th } from "./tables.js";

/** @import { Alarms } from "../../types/api.js" */
/** @import { Context, Panel } from "../app.js" */
/** @import { AlarmRow } from "./alarm_rows.js" */

const POLL_MS = 15_000;
/** Findings that are asked for. */
const SHOWN = 300;
const STATES = ["open", "acknowledged", "silenced", "closed", "finding"];
const HEADS = ["alarms.status", "alarms.severity", "alarms.what", "alarms.who", "alarms.since"];

/**
 * @param {HTMLElement} panel
 * @param {Context} context
 * @returns {Panel}
 */
export function open(panel, context) {
  const alarms = new AlarmsPanel(panel, context);
  return {
    show() {
      alarms.readLink();
      return alarms.refresh();
    },
  };
}

class AlarmsPanel {
  #panel;
  #context;
  #admin;
  #fields = makeFields();
  #table = scrolled(t("tab.alarms"));
  #detail = h("div", { class: "detail", hidden: true, "aria-live": "polite" });
  #silenceBox = h("section", { class: "silences" });
  #channelBox = h("section", { class: "channels" });
  /** @type {AlarmRow[]} */
  #rows = [];
  /** @type {Alarms} */
  #alarms = {};

  /**
   * @param {HTMLElement} panel
   * @param {Context} context
   */
  constructor(panel, context) {
    this.#panel = panel;
    this.#context = context;
    this.#admin = new Admin(context, () => this.refresh());
    panel.replaceChildren(
      this.#head(),
      this.#admin.line,
      h("div", { class: "split" }, this.#table, this.#detail),
      h("div", { class: "quieter" }, this.#silenceBox, this.#channelBox),
    );
    for (const key of FILTERS) {
      this.#fields[key].oninput = () => update({ [key]: this.#fields[key].value });
    }
    onChange((changed) => {
      const isFiltered = FILTERS.some((key) => changed.has(key));
      if (isFiltered) {
        this.readLink();
      }
      if (isFiltered || changed.has("inc")) {
        this.#draw();
      }
    });
    setInterval(() => this.#poll(), POLL_MS);
  }

  #head() {
    return h(
      "div",
      { class: "panel-head" },
      h("h2", {}, t("tab.alarms")),
      ...Object.values(this.#fields),
      h("span", { class: "grow" }),
      fileLink("incidents", { state: "all" }),
      fileLink("anomalies"),
    );
  }

  /** The fields show what the link says. */
  readLink() {
    for (const key of FILTERS) {
      this.#fields[key].value = state[key];
    }
  }

  async refresh() {
    const [alarms, found] = await Promise.all([
      get("incidents", { state: "all" }).catch((error) => {
        if (error.status === 404) {
          return {};
        }
        throw error;
      }),
      get("anomalies", { limit: SHOWN }),
    ]);
    this.#alarms = alarms;
    this.#rows = alarmRows(alarms.incidents ?? [], found.anomalies ?? [], this.#silences);
    const open = this.#rows.filter((row) => row.isIncident && row.state === "open");
    this.#context.countAlarms(open.length);
    this.#draw();
    const incidents = this.#rows.filter((row) => row.isIncident);
    drawSilences(this.#silenceBox, this.#silences, incidents, this.#admin);
    drawChannels(this.#channelBox, this.#alarms);
  }

  #poll() {
    if (!this.#panel.hidden && !document.hidden) {
      this.refresh().catch((error) => this.#context.report(error, () => this.refresh()));
    }
  }

  get #silences() {
    return activeSilences(this.#alarms.silences ?? []);
  }

  #draw() {
    drawTable(
      this.#table,
      this.#rows.filter((row) => isWanted(row, this.#fields)),
      this.#rows.length,
    );
    this.#drawDetail();
  }

  /** The detail is drawn anew only where it changed: the reader may be typing in it. */
  #drawDetail() {
    const row = this.#rows.find(({ key }) => key === state.inc);
    this.#detail.hidden = !row;
    if (!row) {
      return;
    }
    const silences = this.#silences;
    const drawn = JSON.stringify([
      row.key,
      row.state,
      row.detail,
      row.acknowledged_by,
      row.evidence?.length,
      row.traces?.length,
      silences.map(({ id }) => id),
    ]);
    if (this.#detail.dataset.key !== drawn) {
      this.#detail.dataset.key = drawn;
      drawIncident(this.#detail, row, this.#context, this.#admin, silences);
    }
  }
}

/**
 * @param {"incidents" | "anomalies"} path
 * @param {import("../api.js").Query} [query]
 */
function fileLink(path, query = {}) {
  const href = address(path, { ...query, format: "csv", download: 1 });
  return h("a", { href, download: `pingmesh-${path}.csv` }, t(`alarms.csv.${path}`));
}

// ---- filters ------------------------------------------------------------------------------------

/** @typedef {ReturnType<typeof makeFields>} Fields */

const makeFields = () => ({
  ast: select("alarms.status", [
    ["", t("alarms.all")],
    ...STATES.map((key) => /** @type {[string, string]} */ ([key, t(`incident.${key}`)])),
  ]),
  asev: select("alarms.severity", [
    ["", t("alarms.all")],
    ["critical", t("severity.critical")],
    ["warning", t("severity.warning")],
  ]),
  asrc: select("alarms.source", [
    ["", t("alarms.all")],
    ["mesh", t("tab.mesh")],
    ["data", t("tab.data")],
  ]),
  aq: h("input", {
    type: "search",
    placeholder: t("alarms.find"),
    "aria-label": t("alarms.find"),
    maxLength: 200,
  }),
});

/**
 * @param {string} label
 * @param {[value: string, text: string][]} options
 */
const select = (label, options) =>
  h(
    "select",
    { "aria-label": t(label), title: t(label) },
    options.map(([value, text]) => h("option", { value }, text)),
  );

/**
 * @param {AlarmRow} row
 * @param {Fields} fields
 */
function isWanted(row, fields) {
  const [ast, asev, asrc, aq] = FILTERS.map((key) => fields[key].value);
  const text = [row.subject, row.rule, ruleName(row.rule), row.detail, row.source].join(" ");
  return (
    (!ast || row.state === ast) &&
    (!asev || row.severity === asev) &&
    (!asrc || (asrc === "mesh") === (row.source === "mesh")) &&
    text.toLowerCase().includes(aq.trim().toLowerCase())
  );
}

// ---- the list -----------------------------------------------------------------------------------

/**
 * @param {HTMLElement} box
 * @param {AlarmRow[]} rows
 * @param {number} known rows without the filters
 */
function drawTable(box, rows, known) {
  if (!rows.length) {
    const words = t(known ? "alarms.filtered" : "alarms.none");
    box.replaceChildren(h("p", { class: "blank" }, words));
    return;
  }
  const head = h(
    "tr",
    {},
    HEADS.map((key) => th(t(key))),
  );
  box.replaceChildren(h("table", {}, h("thead", {}, head), h("tbody", {}, rows.map(alarmRow))));
}

/** @param {AlarmRow} row */
function alarmRow(row) {
  const pick = () => update({ inc: row.key }, { step: true });
  /** @param {KeyboardEvent} event */
  const onkeydown = (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      pick();
    }
  };
  const isSelected = row.key === state.inc;
  const where = row.source === "mesh" ? t(`scope.${row.scope}`) : name(row.source);
  return h(
    "tr",
    { tabIndex: 0, "aria-selected": isSelected, onclick: pick, onkeydown },
    td(tag(t(`incident.${row.state}`), TAGS[row.state])),
    td(severityTag(row.severity)),
    td([h("b", {}, ruleName(row.rule)), h("div", { class: "muted" }, name(row.detail))]),
    td([name(row.subject), h("div", { class: "muted" }, where)]),
    td(moment(row.since)),
  );
}
