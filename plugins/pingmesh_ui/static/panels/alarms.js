/**
 * Alarms: incidents, and findings of the last day; one of them in detail; silences and channels. Acknowledging and
 * silencing start Airflow's Dag `alert_admin` with the reader's own session: the page itself only reads.
 */
import { address, get } from "../api.js";
import { h, name } from "../dom.js";
import { t } from "../i18n.js";
import { ruleName } from "../rule_names.js";
import { onChange, state, update } from "../state.js";
import { createAdmin } from "./admin.js";
import { FILTERS } from "./filters.js";
import { TAGS, drawIncident, moment, severityTag, tag } from "./incident.js";
import { active, drawChannels, drawSilences } from "./quiet.js";

const EVERY_MS = 15_000;
const SHOWN = 300;
/** The fields of the filters. */
const FIELDS = {
  ast: () =>
    select("alarms.status", [
      ["", t("alarms.all")],
      ...["open", "acknowledged", "silenced", "closed", "finding"].map((key) => [
        key,
        t(`incident.${key}`),
      ]),
    ]),
  asev: () =>
    select("alarms.severity", [
      ["", t("alarms.all")],
      ["critical", t("severity.critical")],
      ["warning", t("severity.warning")],
    ]),
  asrc: () =>
    select("alarms.source", [
      ["", t("alarms.all")],
      ["mesh", t("tab.mesh")],
      ["data", t("tab.data")],
    ]),
  aq: () =>
    h("input", {
      type: "search",
      placeholder: t("alarms.find"),
      "aria-label": t("alarms.find"),
      maxLength: 200,
    }),
};

export function open(panel, context) {
  const fields = Object.fromEntries(Object.entries(FIELDS).map(([key, make]) => [key, make()]));
  const table = h("div", {
    class: "scroll",
    tabIndex: 0,
    role: "region",
    "aria-label": t("tab.alarms"),
  });
  const detail = h("div", { class: "detail", hidden: true, "aria-live": "polite" });
  const silences = h("section", { class: "silences" });
  const channels = h("section", { class: "channels" });
  const admin = createAdmin(context, refresh);
  const file = (path, query) =>
    h(
      "a",
      {
        href: address(path, { ...query, format: "csv", download: 1 }),
        download: `pingmesh-${path}.csv`,
      },
      t(`alarms.csv.${path}`),
    );
  panel.replaceChildren(
    h(
      "div",
      { class: "panel-head" },
      h("h2", {}, t("tab.alarms")),
      ...Object.values(fields),
      h("span", { class: "grow" }),
      file("incidents", { state: "all" }),
      file("anomalies"),
    ),
    admin.said,
    h("div", { class: "split" }, table, detail),
    h("div", { class: "quieter" }, silences, channels),
  );
  let rows = [];
  let told = { silences: [] };

  const draw = () => {
    drawTable(table, rows.filter(wanted), rows.length);
    const row = rows.find((one) => one.key === state.inc);
    const seen =
      row &&
      JSON.stringify([
        row.key,
        row.state,
        row.detail,
        row.acknowledged_by,
        row.evidence?.length,
        row.traces?.length,
        active(told.silences).map((one) => one.id),
      ]);
    detail.hidden = !row;
    if (row && detail.dataset.key !== seen) {
      detail.dataset.key = seen;
      drawIncident(detail, row, { context, admin, silences: active(told.silences) });
    }
  };
  const wanted = (row) =>
    (!fields.ast.value || row.state === fields.ast.value) &&
    (!fields.asev.value || row.severity === fields.asev.value) &&
    (!fields.asrc.value || (fields.asrc.value === "mesh") === (row.source === "mesh")) &&
    `${row.subject} ${row.rule} ${ruleName(row.rule)} ${row.detail} ${row.source}`
      .toLowerCase()
      .includes(fields.aq.value.trim().toLowerCase());

  for (const key of FILTERS) {
    fields[key].oninput = () => update({ [key]: fields[key].value });
  }
  const readLink = () => {
    for (const key of FILTERS) {
      fields[key].value = state[key];
    }
  };
  onChange((changed) => {
    const narrowed = FILTERS.some((key) => changed.has(key));
    if (narrowed) {
      readLink();
    }
    if (narrowed || changed.has("inc")) {
      draw();
    }
  });

  async function refresh() {
    const [alarm, found] = await Promise.all([
      get("incidents", { state: "all" }).catch((error) => {
        if (error.status === 404) {
          return {};
        }
        throw error;
      }),
      get("anomalies", { limit: SHOWN }),
    ]);
    told = { silences: [], channels: [], ...alarm };
    rows = merge(alarm.incidents ?? [], found.anomalies ?? [], active(told.silences));
    context.countAlarms(rows.filter((row) => row.isIncident && row.state === "open").length);
    draw();
    drawSilences(
      silences,
      active(told.silences),
      rows.filter((row) => row.isIncident),
      admin,
    );
    drawChannels(channels, told);
  }
  setInterval(() => {
    if (!panel.hidden && !document.hidden) {
      refresh().catch((error) => context.report(error, refresh));
    }
  }, EVERY_MS);
  return {
    show: () => {
      readLink();
      return refresh();
    },
  };
}

const select = (label, options) =>
  h(
    "select",
    { "aria-label": t(label), title: t(label) },
    options.map(([value, text]) => h("option", { value }, text)),
  );

/** A silence of its own counts at once, although the alarm notes it only when it looks again. */
const stateOf = (incident, silences) =>
  incident.state === "closed" || incident.closed_at
    ? "closed"
    : incident.silenced || silences.some((one) => one.incident === incident.id)
      ? "silenced"
      : incident.acknowledged_by
        ? "acknowledged"
        : "open";

/** Incidents first; then the findings that no incident of the list is about. */
export function merge(incidents, anomalies, silences = []) {
  const mine = incidents.map((incident) => ({
    ...incident,
    key: incident.id,
    isIncident: true,
    state: stateOf(incident, silences),
    since: incident.opened_at ?? incident.since,
  }));
  const told = new Set(mine.map((row) => `${row.source} ${row.rule} ${row.subject}`));
  const seen = new Set();
  const rest = anomalies
    .map((row) => ({
      ...row,
      key: `${row.at} ${row.rule} ${row.subject}`,
      state: "finding",
      isIncident: false,
    }))
    .filter((row) => {
      const what = `${row.source} ${row.rule} ${row.subject}`;
      return !told.has(what) && !seen.has(what) && seen.add(what);
    });
  const weight = { open: 0, acknowledged: 1, silenced: 2, finding: 3, closed: 4 };
  return [...mine, ...rest].sort(
    (a, b) =>
      (weight[a.state] ?? 3) - (weight[b.state] ?? 3) ||
      (b.severity === "critical") - (a.severity === "critical") ||
      String(b.since).localeCompare(String(a.since)),
  );
}

function drawTable(box, rows, known) {
  if (!rows.length) {
    box.replaceChildren(h("p", { class: "blank" }, t(known ? "alarms.filtered" : "alarms.none")));
    return;
  }
  const pick = (row) => update({ inc: row.key }, { step: true });
  box.replaceChildren(
    h(
      "table",
      {},
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          ["alarms.status", "alarms.severity", "alarms.what", "alarms.who", "alarms.since"].map(
            (key) => h("th", { scope: "col" }, t(key)),
          ),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {
              tabIndex: 0,
              "aria-selected": row.key === state.inc,
              onclick: () => pick(row),
              onkeydown: (event) => {
                if (event.key === "Enter" || event.key === " ") {
                  event.preventDefault();
                  pick(row);
                }
              },
            },
            h("td", {}, tag(t(`incident.${row.state}`), TAGS[row.state])),
            h("td", {}, severityTag(row.severity)),
            h(
              "td",
              {},
              h("b", {}, ruleName(row.rule)),
              h("div", { class: "muted" }, name(row.detail)),
            ),
            h(
              "td",
              {},
              name(row.subject),
              h(
                "div",
                { class: "muted" },
                row.source === "mesh" ? t(`scope.${row.scope}`) : name(row.source),
              ),
            ),
            h("td", {}, moment(row.since)),
          ),
        ),
      ),
    ),
  );
}
