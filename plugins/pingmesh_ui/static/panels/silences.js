/** What is silenced, by whom and until when; and whether the channels take what the alarm sends. */
import { h, name } from "../dom.js";
import { formatDuration } from "../format.js";
import { t } from "../i18n.js";
import { ruleName } from "../id_names.js";
import { update } from "../state.js";
import { linkButton, moment, scrolled, tag, td, th } from "./tables.js";

/** @import { Alarms, Channel, Silence } from "../../types/api.js" */
/** @import { Child } from "../dom.js" */
/** @import { Admin } from "./admin.js" */
/** @import { AlarmRow } from "./alarm_rows.js" */

const HEADS = ["silence.what", "silence.by", "silence.until", "alarms.comment"];
/** What a silence of no one incident matches by pattern. */
const PATTERNS = /** @type {const} */ (["source", "scope", "subject", "rule"]);

/**
 * @param {HTMLElement} box
 * @param {Silence[]} silences
 * @param {AlarmRow[]} incidents
 * @param {Admin} admin
 */
export function drawSilences(box, silences, incidents, admin) {
  box.hidden = !silences.length && !incidents.length;
  const head = h(
    "tr",
    {},
    HEADS.map((key) => th(t(key))),
    h("td"),
  );
  const rows = [...silences]
    .sort((a, b) => String(a.until).localeCompare(String(b.until)))
    .map((silence) => silenceRow(silence, incidents, admin));
  const table = h("table", {}, h("thead", {}, head), h("tbody", {}, rows));
  box.replaceChildren(
    h("h2", {}, t("silences")),
    silences.length
      ? scrolled(t("silences"), table)
      : h("p", { class: "keys" }, t("silences.none")),
  );
}

/**
 * @param {Silence} silence
 * @param {AlarmRow[]} incidents
 * @param {Admin} admin
 */
function silenceRow(silence, incidents, admin) {
  const leftS = (+new Date(silence.until) - Date.now()) / 1000;
  const left = t("silence.left", { time: formatDuration(leftS) });
  /** @param {{ currentTarget: HTMLButtonElement }} event */
  const onclick = ({ currentTarget }) =>
    admin.act({ action: "unsilence", silence_id: silence.id }, currentTarget);
  return h(
    "tr",
    {},
    td(whatOf(silence, incidents)),
    td([name(silence.by || "–"), h("div", { class: "muted" }, moment(silence.made_at))]),
    td([moment(silence.until), h("div", { class: "muted" }, left)]),
    td(name(silence.reason || "–")),
    td(h("button", { onclick }, t("silence.end"))),
  );
}

/**
 * One incident, by its name where it is still known, or what the patterns match.
 * @param {Silence} silence
 * @param {AlarmRow[]} incidents
 * @returns {Child | Child[]}
 */
function whatOf(silence, incidents) {
  if (!silence.incident) {
    return patternLines(silence);
  }
  const incident = incidents.find(({ key }) => key === silence.incident);
  if (!incident) {
    return name(silence.incident);
  }
  const show = () => update({ inc: incident.key }, { step: true });
  return linkButton(show, `${ruleName(incident.rule)}: `, name(incident.subject));
}

/**
 * @param {Silence} silence
 * @returns {Child[]}
 */
function patternLines(silence) {
  const given = PATTERNS.filter((key) => silence[key] !== "*");
  if (!given.length) {
    return [t("silence.everything")];
  }
  return given.map((key) =>
    h("div", {}, h("span", { class: "muted" }, `${t(`silence.${key}`)} `), name(silence[key])),
  );
}

/**
 * @param {HTMLElement} box
 * @param {Alarms} alarms
 */
export function drawChannels(box, { channels = [], looked_at: evaluated = {} }) {
  const newest = Object.values(evaluated).sort().at(-1);
  box.hidden = !channels.length;
  box.replaceChildren(
    h("h2", {}, t("channels")),
    channels.some(({ on }) => on) ? "" : h("p", { class: "gone" }, t("channels.none")),
    h("table", {}, h("tbody", {}, channels.map(channelRow))),
    newest ? h("p", { class: "keys" }, t("alarms.looked", { time: moment(newest) })) : "",
  );
}

/** @param {Channel} channel */
const channelRow = ({ channel, on, failures, since }) =>
  h(
    "tr",
    {},
    h("th", { scope: "row" }, name(channel)),
    td(healthTag(on, failures)),
    td(since ? t("channel.since", { time: moment(since) }) : "", "muted"),
  );

/**
 * @param {boolean} isOn
 * @param {number} failures
 */
function healthTag(isOn, failures) {
  if (!isOn) {
    return tag(t("channel.off"));
  }
  const failing = `✕ ${t("channel.failing", { n: failures })}`;
  return failures ? tag(failing, "bad") : tag(`✓ ${t("channel.on")}`, "good");
}
