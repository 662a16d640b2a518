/** The fleet: the outcome of every host at each stage of a window; hosts in trouble come first. */
import { address, get } from "../api.js";
import { h, isPlaying, isolate, name } from "../dom.js";
import { formatBytes, formatCount, formatUs, formatWindow } from "../format.js";
import { t } from "../i18n.js";
import { nameOf } from "../id_names.js";
import { onChange, state, update } from "../state.js";
import { showAlarmsOf } from "./filters.js";
import { scrolled, tag, td, th, tile } from "./tables.js";

/** @import { Fleet, HostStage, WindowEntry } from "../../types/api.js" */
/** @import { Context, Panel } from "../app.js" */
/** @import { Time } from "../time/windows.js" */

/** @typedef {{ host: string, stages: Record<string, HostStage>, isBad: boolean }} FleetHost */

const STAGES = ["keys", "dispatch", "collect"];
const GOOD = new Set(["ok", "unchanged", "no_data_yet"]);
const SHOWN = 500;
/** Clocks that are off by more are in trouble. */
const MOST_SKEW_US = 1e6;
const VERSION_CHARACTERS = 8;

/**
 * @param {HTMLElement} panel
 * @param {Context} context
 * @returns {Panel}
 */
export function open(panel, context) {
  if (!context.boot.newest) {
    panel.replaceChildren(h("p", { class: "blank" }, t("fleet.none")));
    return {};
  }
  const time = /** @type {Time} */ (context.time);
  const fleet = new FleetPanel(panel, context);
  time.follow((entry) => fleet.show(entry)).then(() => time.rest());
  return { show: () => fleet.show(time.now()) };
}

class FleetPanel {
  #panel;
  #context;
  #words = h("input", { type: "search", placeholder: t("search"), "aria-label": t("search") });
  #only = h("input", { type: "checkbox", id: "only-bad" });
  #head = h("h2", {}, t("tab.fleet"));
  #tiles = h("div", { class: "tiles" });
  #table = scrolled(t("tab.fleet"));
  #csv = h("a", { download: "pingmesh-fleet.csv" }, "CSV");
  /** @type {FleetHost[]} */
  #hosts = [];
  /** The window that is shown or asked for. */
  #asked = "";

  /**
   * @param {HTMLElement} panel
   * @param {Context} context
   */
  constructor(panel, context) {
    this.#panel = panel;
    this.#context = context;
    const head = h(
      "div",
      { class: "panel-head" },
      this.#head,
      this.#words,
      h("label", { class: "check" }, this.#only, " ", t("fleet.only_bad")),
      h("span", { class: "grow" }),
      this.#csv,
    );
    panel.replaceChildren(head, this.#tiles, this.#table);
    this.#words.oninput = () => update({ fq: this.#words.value });
    this.#only.onchange = () => update({ fbad: this.#only.checked ? "1" : "" });
    onChange((changed) => {
      if (changed.has("fq") || changed.has("fbad")) {
        this.#draw();
      }
    });
  }

  /**
   * Show a window, where another is shown.
   * @param {WindowEntry | undefined} entry
   */
  async show(entry) {
    if (this.#panel.hidden || isPlaying()) {
      // The window that is asked for is shown when the panel is seen again, or play ends.
      this.#asked = this.#asked === entry?.id ? "" : this.#asked;
      return;
    }
    if (!entry || this.#asked === entry.id) {
      return;
    }
    this.#asked = entry.id;
    try {
      // Hours and days have no fleet of their own: the newest window is shown.
      await this.#load(state.lv ? "" : entry.id);
    } catch (error) {
      this.#asked = "";
      if (error.status === 404) {
        this.#hosts = [];
        this.#tiles.replaceChildren();
        this.#table.replaceChildren(h("p", { class: "blank" }, t("fleet.none")));
      } else {
        this.#context.report(error, () => this.show(entry));
      }
    }
  }

  /** @param {string} window */
  async #load(window) {
    this.#csv.href = address("fleet", { window, format: "csv", download: 1 });
    /** @type {Fleet} */
    const answer = await get("fleet", { window });
    const clock = formatWindow(answer.window, this.#context.boot.window_s);
    this.#head.textContent = `${t("tab.fleet")} · ${clock}`;
    this.#hosts = byHost(answer.hosts);
    this.#tiles.replaceChildren(...tilesOf(this.#hosts));
    this.#draw();
  }

  #draw() {
    this.#words.value = state.fq;
    this.#only.checked = state.fbad === "1";
    const words = state.fq.trim().toLowerCase();
    const hosts = this.#hosts.filter(
      ({ host, isBad }) => (isBad || !this.#only.checked) && host.toLowerCase().includes(words),
    );
    drawTable(this.#table, hosts, this.#context);
  }
}

/**
 * The stages of each host, hosts in trouble first.
 * @param {HostStage[]} rows
 */
function byHost(rows) {
  /** @type {Map<string, FleetHost>} */
  const hosts = new Map();
  for (const row of rows) {
    const host = hosts.get(row.host) ?? { host: row.host, stages: {}, isBad: false };
    host.stages[row.stage] = row;
    host.isBad ||= !GOOD.has(row.outcome);
    hosts.set(row.host, host);
  }
  return [...hosts.values()].sort(
    (a, b) =>
      Number(b.isBad) - Number(a.isBad) ||
      a.host.localeCompare(b.host, undefined, { numeric: true }),
  );
}

/**
 * The last contact with a host's agent.
 * @param {FleetHost} host
 * @returns {HostStage | undefined}
 */
const lastStage = ({ stages }) => stages.dispatch ?? stages.collect;

/**
 * @param {(number | null | undefined)[]} values
 */
const sumOf = (values) =>
  values.reduce((/** @type {number} */ sum, value) => sum + (value ?? 0), 0);

/** @param {FleetHost[]} hosts */
function tilesOf(hosts) {
  const bad = hosts.filter(({ isBad }) => isBad).length;
  const versions = new Set(hosts.map((host) => lastStage(host)?.agent_version).filter(Boolean));
  const stages = hosts.flatMap(({ stages }) => Object.values(stages));
  const skew = Math.max(0, ...stages.map((stage) => Math.abs(stage.clock_offset_us ?? 0)));
  const bytes = sumOf(hosts.map(({ stages }) => stages.collect?.segment_bytes));
  const skipped = sumOf(hosts.map(({ stages }) => stages.collect?.skipped));
  return [
    tile(formatCount(hosts.length), t("fleet.hosts")),
    tile(formatCount(bad), t("fleet.bad"), bad > 0),
    tile(formatCount(versions.size), t("fleet.versions"), versions.size > 1),
    tile(formatUs(skew), t("fleet.skew"), skew > MOST_SKEW_US),
    tile(formatBytes(bytes), t("fleet.bytes")),
    tile(formatCount(skipped), t("fleet.skipped"), skipped > 0),
  ];
}

// ---- the table ----------------------------------------------------------------------------------

/**
 * @param {HTMLElement} box
 * @param {FleetHost[]} hosts
 * @param {Context} context
 */
function drawTable(box, hosts, context) {
  if (!hosts.length) {
    box.replaceChildren(h("p", { class: "blank" }, t("nobody")));
    return;
  }
  const heads = ["fleet.host", ...STAGES.map((stage) => `stage.${stage}`), "fleet.agent"];
  const head = h(
    "tr",
    {},
    heads.map((key) => th(t(key))),
    h("th", { class: "n", scope: "col" }, t("fleet.clock")),
    th(t("fleet.detail")),
  );
  const rows = hosts.slice(0, SHOWN).map((host) => hostRow(host, context));
  const more = t("more.rows", { n: hosts.length - SHOWN });
  box.replaceChildren(
    h("table", {}, h("thead", {}, head), h("tbody", {}, rows)),
    hosts.length > SHOWN ? h("p", { class: "keys" }, more) : "",
  );
}

/**
 * @param {FleetHost} host
 * @param {Context} context
 */
function hostRow(host, context) {
  const last = lastStage(host);
  const onclick = () => {
    context.arrive?.();
    update({ tab: "mesh", sel: `${host.host}>`, at: "" }, { step: true });
  };
  return h(
    "tr",
    {},
    td(h("button", { class: "link", onclick }, name(host.host))),
    STAGES.map((stage) => td(outcomeTag(host.stages[stage]))),
    td((last?.agent_version ?? "").slice(0, VERSION_CHARACTERS), "muted"),
    td(clockOffset(last?.clock_offset_us), "n"),
    td([name(troubleOf(host)), ...(host.isBad ? [" ", alarmsButton(host.host)] : [])], "muted"),
  );
}

/** @param {number | null | undefined} us */
function clockOffset(us) {
  if (us === null || us === undefined) {
    return "–";
  }
  return `${us < 0 ? "−" : "+"}${formatUs(Math.abs(us))}`;
}

/** @param {FleetHost} host */
function troubleOf({ stages }) {
  const bad = Object.values(stages).filter(({ outcome }) => !GOOD.has(outcome));
  return bad.map(({ detail }) => detail).find(Boolean) ?? "";
}

/** @param {HostStage | undefined} row */
function outcomeTag(row) {
  if (!row) {
    return h("span", { class: "muted" }, "–");
  }
  const isGood = GOOD.has(row.outcome);
  const element = tag(
    `${isGood ? "✓" : "✕"} ${nameOf("outcome", row.outcome)}`,
    isGood ? "good" : "bad",
  );
  element.title = row.detail ?? "";
  return element;
}

/** @param {string} host */
function alarmsButton(host) {
  const title = t("alarms.of.host", { host: isolate(host) });
  const onclick = () => showAlarmsOf(host);
  return h("button", { class: "link", title, onclick }, t("tab.alarms"));
}
