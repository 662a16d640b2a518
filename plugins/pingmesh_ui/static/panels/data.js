/** Data servers: who is there and from where, the longest sessions, what is read. */
import { address, get } from "../api.js";
import { Card } from "../charts/card.js";
import { h, isPlaying, name } from "../dom.js";
import { formatCount, formatDuration, formatMoment, formatWindow } from "../format.js";
import { t } from "../i18n.js";
import { onChange, state, update } from "../state.js";
import { colours, onTheme } from "../theme.js";
import { scrolled, tag, td, th, tile } from "./tables.js";
import { TOP, figuresOf, mergeByKey } from "./usage.js";

/** @import { Session, Sessions, Usage, UsageFigure } from "../../types/api.js" */
/** @import { ApiError } from "../../types/api.js" */
/** @import { Context, Panel } from "../app.js" */
/** @import { Ranking } from "./usage.js" */

const POLL_MS = 30_000;
/** Sessions that are shown, and in the file. */
const SESSIONS = 100;
const MOST_SESSIONS = 5_000;
/** Lines of logs that were rejected, above which the tile is marked. */
const MANY_REJECTED = 100;
const TILES = ["users_online", "sessions_online", "operations", "connects", "refused", "rejected"];
/**
 * The lists, by the key of their title.
 * @type {Record<string, Ranking>}
 */
const LISTS = {
  users: { dimension: "user", measure: "operations" },
  countries: { dimension: "country", measure: "connects" },
  nodes: { dimension: "node", measure: "operations" },
  trees: { dimension: "tree", measure: "operations" },
  longest: { dimension: "user", measure: "longest_online_s" },
  types: { dimension: "hook_type", measure: "operations" },
};
const HEADS = [
  "session.user",
  "session.host",
  "session.address",
  "session.server",
  "session.start",
  "session.duration",
  "session.operations",
  "session.state",
];

/**
 * @param {HTMLElement} panel
 * @param {Context} context
 * @returns {Panel}
 */
export function open(panel, context) {
  const data = new DataPanel(panel, context);
  return { show: () => data.show() };
}

/**
 * The window that the link names, else the newest that was read, which comes later than its map.
 * Hours and days have none.
 */
const wantedWindow = () => (state.lv ? "" : state.w);

/**
 * No access log was read in the window.
 * @param {ApiError} error
 */
function noWindow(error) {
  if (error.status === 404) {
    return { window: null };
  }
  throw error;
}

class DataPanel {
  #panel;
  #context;
  #server = h("select", { "aria-label": t("data.server") });
  #words = h("input", {
    type: "search",
    placeholder: t("data.find"),
    "aria-label": t("data.find"),
  });
  #head = h("h2", {}, t("tab.data"));
  #files = { usage: fileLink("usage"), sessions: fileLink("sessions") };
  #tiles = h("div", { class: "tiles" });
  #lists = h("div", { class: "lists" });
  #sessions = h("section", {});
  #chart = new Card("usage");
  /** @type {Usage | null} */
  #usage = null;
  /** @type {Sessions | null} */
  #online = null;
  /**
   * The window that was asked for last; null before the first.
   * @type {string | null}
   */
  #asked = null;
  #isFollowing = false;

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
      this.#server,
      this.#words,
      h("span", { class: "grow" }),
      this.#files.usage,
      this.#files.sessions,
    );
    const charts = h("div", { class: "lists" }, this.#chart.element);
    panel.replaceChildren(head, this.#tiles, charts, this.#lists, this.#sessions);
    this.#server.onchange = () => update({ srv: this.#server.value }, { step: true });
    this.#words.oninput = () => update({ dq: this.#words.value });
    onChange((changed) => {
      if (changed.has("srv") || changed.has("dq")) {
        this.#draw();
      }
    });
    onTheme(() => {
      if (!panel.hidden) {
        this.#draw();
      }
    });
    setInterval(() => {
      if (!panel.hidden && !document.hidden) {
        this.#refresh();
      }
    }, POLL_MS);
  }

  show() {
    const shown = this.#refresh();
    const { time } = this.#context;
    if (time && !this.#isFollowing) {
      this.#isFollowing = true;
      time.follow(() => this.#follow()).then(() => time.rest());
    }
    return shown;
  }

  #follow() {
    const isOther = this.#asked !== wantedWindow();
    return isOther && !this.#panel.hidden && !isPlaying() ? this.#refresh() : undefined;
  }

  /** @returns {Promise<void>} */
  async #refresh() {
    try {
      await this.#load(wantedWindow());
    } catch (error) {
      this.#context.report(error, () => this.#refresh());
    }
  }

  /** @param {string} window */
  async #load(window) {
    const file = { window, format: "csv", download: 1 };
    this.#asked = window;
    this.#files.usage.href = address("usage", file);
    this.#files.sessions.href = address("sessions", { ...file, limit: MOST_SESSIONS });
    const [usage, online] = await Promise.all([
      get("usage", { window }).catch(noWindow),
      get("sessions", { window, limit: SESSIONS }).catch(noWindow),
    ]);
    if (this.#asked === window) {
      this.#usage = usage;
      this.#online = online;
      this.#draw();
    }
  }

  #draw() {
    const at = this.#usage?.window ?? this.#asked;
    const clock = at ? ` · ${formatWindow(at, this.#context.boot.window_s)}` : "";
    this.#words.value = state.dq;
    this.#head.textContent = t("tab.data") + clock;
    if (!this.#usage?.window) {
      this.#drawNothing(t(at ? "data.none.here" : "data.none"));
      return;
    }
    this.#drawServers(this.#usage.servers);
    const figures = this.#usage.figures.filter(({ server }) => isChosen(server));
    const words = state.dq.trim().toLowerCase();
    this.#tiles.replaceChildren(...TILES.map((measure) => usageTile(figures, measure)));
    this.#lists.replaceChildren(...listsOf(figures, words));
    const sessions = (this.#online?.sessions ?? []).filter(
      ({ server, user, host, address: from }) =>
        isChosen(server) && `${user} ${host} ${from}`.toLowerCase().includes(words),
    );
    this.#sessions.replaceChildren(...sessionTable(sessions));
    drawChart(this.#chart, figures, this.#asked).catch((error) => this.#chart.say(error.message));
  }

  /** @param {string} words */
  #drawNothing(words) {
    this.#tiles.replaceChildren();
    this.#lists.replaceChildren();
    this.#sessions.replaceChildren(h("p", { class: "blank" }, words));
    this.#chart.element.hidden = true;
  }

  /** @param {string[]} servers */
  #drawServers(servers) {
    const options = servers.map((one) =>
      h("option", { value: one, selected: one === state.srv }, one),
    );
    this.#server.replaceChildren(h("option", { value: "" }, t("data.all")), ...options);
  }
}

/** @param {string} server */
const isChosen = (server) => !state.srv || server === state.srv;

/** @param {"usage" | "sessions"} path */
const fileLink = (path) => h("a", { download: `pingmesh-${path}.csv` }, t(`data.csv.${path}`));

// ---- tiles and lists ----------------------------------------------------------------------------

/**
 * @param {UsageFigure[]} figures
 * @param {string} measure
 */
function usageTile(figures, measure) {
  const rows = figures.filter((row) => row.measure === measure && row.dimension === "all");
  const value = rows.reduce((sum, row) => sum + row.value, 0);
  const isBad = measure === "rejected" && value > MANY_REJECTED;
  return tile(rows.length ? formatCount(value) : "–", t(`usage.${measure}`), isBad);
}

/**
 * @param {UsageFigure[]} figures
 * @param {string} words of which a key has to contain all
 */
const listsOf = (figures, words) =>
  Object.entries(LISTS).flatMap(([key, ranking]) => {
    const found = figuresOf(figures, ranking).filter((row) =>
      row.key.toLowerCase().includes(words),
    );
    return found.length ? [listing(t(`list.${key}`), mergeByKey(found), ranking)] : [];
  });

/**
 * @param {string} title
 * @param {[key: string, value: number][]} rows greatest first
 * @param {Ranking} ranking
 */
function listing(title, rows, { dimension, measure }) {
  const most = rows[0][1] || 1;
  const lines = rows.slice(0, TOP).map(([key, value]) => {
    const bar = h("div");
    bar.style.width = `${Math.max(2, (100 * value) / most)}%`;
    return h(
      "tr",
      {},
      td(name(dimension === "country" ? countryName(key) : key)),
      td(measure.endsWith("_s") ? formatDuration(value) : formatCount(value), "n"),
      td(h("div", { class: "meter" }, bar)),
    );
  });
  const more = t("more.rows", { n: rows.length - TOP });
  return h(
    "section",
    {},
    h("h2", {}, title),
    h("table", {}, h("tbody", {}, lines)),
    rows.length > TOP ? h("p", { class: "keys" }, more) : "",
  );
}

/** @param {string} key */
const countryName = (key) => (["local", "unknown"].includes(key) ? t(`country.${key}`) : key);

// ---- sessions -----------------------------------------------------------------------------------

/** @param {Session[]} sessions */
function sessionTable(sessions) {
  const title = h("h2", {}, t("list.sessions"));
  if (!sessions.length) {
    return [title, h("p", { class: "keys" }, t("sessions.none"))];
  }
  const head = h(
    "tr",
    {},
    HEADS.map((key) => th(t(key))),
  );
  const table = h("table", {}, h("thead", {}, head), h("tbody", {}, sessions.map(sessionRow)));
  return [title, scrolled(t("list.sessions"), table)];
}

/** @param {Session} session */
const sessionRow = (session) =>
  h(
    "tr",
    {},
    td(name(session.user ?? "–")),
    td(name(session.host ?? "–")),
    td(name(session.address ?? "–")),
    td(name(session.server)),
    td(formatMoment(new Date(session.start_time))),
    td(formatDuration(session.duration_s)),
    td(formatCount(session.operations), "n"),
    td(session.ended_by ? tag(t("session.ended")) : tag(t("session.online"), "good")),
  );

// ---- the chart ----------------------------------------------------------------------------------

/**
 * The users with the most operations, as bars.
 * @param {Card} chart
 * @param {UsageFigure[]} figures
 * @param {string | null} window
 */
async function drawChart(chart, figures, window) {
  const rows = mergeByKey(figuresOf(figures, LISTS.users)).slice(0, TOP).reverse();
  chart.title.textContent = t("chart.usage");
  chart.link("usage", { window });
  chart.element.hidden = !rows.length;
  if (!rows.length) {
    return;
  }
  await chart.set({
    grid: { left: 130, right: 30, top: 10, bottom: 30 },
    legend: { show: false },
    tooltip: {
      formatter: (/** @type {{ name: string, value: number }[]} */ [row]) =>
        `${row.name}\n${formatCount(row.value)}`,
    },
    xAxis: { type: "value", axisLabel: { formatter: formatCount, hideOverlap: true } },
    yAxis: {
      type: "category",
      data: rows.map(([user]) => user),
      axisLabel: { formatter: shortName },
    },
    series: [
      {
        type: "bar",
        data: rows.map(([, value]) => value),
        itemStyle: { color: colours().bar },
        barMaxWidth: 16,
      },
    ],
  });
}

/** @param {string} text */
const shortName = (text) => (text.length > 16 ? `${text.slice(0, 7)}…${text.slice(-7)}` : text);
