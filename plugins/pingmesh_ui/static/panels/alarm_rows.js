/** The list of alarms: incidents, and the findings that no incident is about. */

/** @import { Finding, Incident, Silence } from "../../types/api.js" */

/** @typedef {"open" | "acknowledged" | "silenced" | "closed" | "finding"} AlarmState */
/**
 * An incident or a finding, as a row of the list.
 * @typedef {Partial<Incident> & Finding & { key: string, state: AlarmState, isIncident: boolean }}
 *   AlarmRow
 */

/**
 * Open incidents first, closed ones last.
 * @type {Record<AlarmState, number>}
 */
const WEIGHTS = { open: 0, acknowledged: 1, silenced: 2, finding: 3, closed: 4 };

/**
 * The silences that hold now.
 * @param {Silence[]} silences
 */
export const activeSilences = (silences) =>
  silences.filter((silence) => +new Date(silence.until) > Date.now());

/**
 * Incidents and findings in the order of their weight, severity and age.
 * @param {Incident[]} incidents
 * @param {Finding[]} findings newest first
 * @param {Silence[]} [silences]
 * @returns {AlarmRow[]}
 */
export function alarmRows(incidents, findings, silences = []) {
  const rows = incidents.map((incident) => incidentRow(incident, silences));
  const known = new Set(rows.map(whatOf));
  for (const finding of findings) {
    const what = whatOf(finding);
    if (!known.has(what)) {
      known.add(what);
      rows.push(findingRow(finding));
    }
  }
  return rows.sort(
    (a, b) =>
      WEIGHTS[a.state] - WEIGHTS[b.state] ||
      Number(b.severity === "critical") - Number(a.severity === "critical") ||
      String(b.since).localeCompare(String(a.since)),
  );
}

/** @param {Finding} row */
const whatOf = ({ source, rule, subject }) => `${source} ${rule} ${subject}`;

/**
 * @param {Incident} incident
 * @param {Silence[]} silences
 * @returns {AlarmRow}
 */
const incidentRow = (incident, silences) => ({
  ...incident,
  key: incident.id,
  isIncident: true,
  state: stateOf(incident, silences),
  since: incident.opened_at ?? incident.since,
});

/**
 * @param {Finding} finding
 * @returns {AlarmRow}
 */
const findingRow = (finding) => ({
  ...finding,
  key: `${finding.at} ${finding.rule} ${finding.subject}`,
  isIncident: false,
  state: "finding",
});

/**
 * A silence of an incident counts at once, although the alarm notes it only with its next
 * evaluation.
 * @param {Incident} incident
 * @param {Silence[]} silences
 * @returns {AlarmState}
 */
function stateOf({ id, state, closed_at, silenced, acknowledged_by }, silences) {
  if (state === "closed" || closed_at) {
    return "closed";
  }
  if (silenced || silences.some((silence) => silence.incident === id)) {
    return "silenced";
  }
  return acknowledged_by ? "acknowledged" : "open";
}
