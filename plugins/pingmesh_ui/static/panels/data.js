/** Data servers: who is there and from where, the longest sessions, what is read. */
import { address, get } from "../api.js";
import { card } from "../charts/charts.js";
import { h, name } from "../dom.js";
import { formatCount, formatDuration, formatMoment, formatWindow } from "../format.js";
import { t } from "../i18n.js";
import { onChange, state, update } from "../state.js";
import { colours, onTheme } from "../theme.js";

const TILES = ["users_online", "sessions_online", "operations", "connects", "refused", "rejected"];
const TOP = 12;
const MOST = 5_000;
const LISTS = [
  ["users", "user", "operations"],
  ["countries", "country", "connects"],
  ["nodes", "node", "operations"],
  ["trees", "tree", "operations"],
  ["longest", "user", "longest_online_s"],
  ["types", "hook_type", "operations"],
];
const GREATEST = new Set(["longest_online_s", "sessions_online_peak", "users_online_peak"]);

export function open(panel, context) {
  const server = h("select", {
    "aria-label": t("data.server"),
    onchange: () => update({ srv: server.value }, { step: true }),
  });
  const words = h("input", {
    type: "search",
    placeholder: t("data.find"),
    "aria-label": t("data.find"),
  });
  const head = h("h2", {}, t("tab.data"));
  const tiles = h("div", { class: "tiles" });
  const lists = h("div", { class: "lists" });
  const sessions = h("section", {});
  const chart = card("usage");
  const csv = (path) => h("a", { download: `pingmesh-${path}.csv` }, t(`data.csv.${path}`));
  const files = { usage: csv("usage"), sessions: csv("sessions") };
  panel.replaceChildren(
    h(
      "div",
      { class: "panel-head" },
      head,
      server,
      words,
      h("span", { class: "grow" }),
      files.usage,
      files.sessions,
    ),
    tiles,
    h("div", { class: "lists" }, chart.element),
    lists,
    sessions,
  );
  let usage = null;
  let online = null;
  let asked = null;
  let following = null;
  /** The window that the link names, else the newest that was read, which comes later than its map. Hours and days have none. */
  const wanted = () => (state.lv ? "" : state.w);
  const draw = () => {
    const at = usage?.window ?? asked;
    words.value = state.dq;
    head.textContent = at
      ? `${t("tab.data")} · ${formatWindow(at, context.boot.window_s)}`
      : t("tab.data");
    if (!usage?.window) {
      tiles.replaceChildren();
      lists.replaceChildren();
      sessions.replaceChildren(h("p", { class: "blank" }, t(at ? "data.none.here" : "data.none")));
      chart.element.hidden = true;
      return;
    }
    server.replaceChildren(
      h("option", { value: "" }, t("data.all")),
      ...usage.servers.map((one) => h("option", { value: one, selected: one === state.srv }, one)),
    );
    const figures = usage.figures.filter((figure) => !state.srv || figure.server === state.srv);
    const find = state.dq.trim().toLowerCase();
    drawTiles(tiles, figures);
    lists.replaceChildren(
      ...LISTS.map(([key, dimension, measure]) =>
        listing(
          key,
          figures.filter(
            (f) =>
              f.dimension === dimension &&
              f.measure === measure &&
              f.key !== null &&
              f.key.toLowerCase().includes(find),
          ),
          measure,
        ),
      ).filter(Boolean),
    );
    const rows = (online?.sessions ?? []).filter(
      (one) =>
        (!state.srv || one.server === state.srv) &&
        `${one.user} ${one.host} ${one.address}`.toLowerCase().includes(find),
    );
    drawSessions(sessions, rows);
    drawChart(chart, figures, asked).catch((error) => chart.say(error.message));
  };
  words.oninput = () => update({ dq: words.value });
  onChange((changed) => {
    if (changed.has("srv") || changed.has("dq")) {
      draw();
    }
  });
  onTheme(() => {
    if (!panel.hidden) {
      draw();
    }
  });
  const refresh = async () => {
    const window = (asked = wanted());
    const file = { window, format: "csv", download: 1 };
    const none = (error) => {
      if (error.status === 404) {
        return { window: null };
      }
      throw error;
    };
    files.usage.href = address("usage", file);
    files.sessions.href = address("sessions", { ...file, limit: MOST });
    const answers = await Promise.all([
      get("usage", { window }).catch(none),
      get("sessions", { window, limit: 100 }).catch(none),
    ]);
    if (asked !== window) {
      return; // another window is wanted by now
    }
    [usage, online] = answers;
    draw();
  };
  const again = () => refresh().catch((error) => context.report(error, again));
  const follow = () => {
    if (!panel.hidden && !document.documentElement.dataset.playing && asked !== wanted()) {
      return again();
    }
  };
  setInterval(() => {
    if (!panel.hidden && !document.hidden) {
      again();
    }
  }, 30_000);
  return {
    show() {
      const shown = again();
      following ??= context.time?.follow(follow).then(() => context.time.rest());
      return shown;
    },
  };
}

/** Figures of several servers by key: counts add up, the greatest of durations holds. */
function merged(figures) {
  const sums = new Map();
  for (const { key, measure, value } of figures) {
    sums.set(
      key,
      GREATEST.has(measure) ? Math.max(value, sums.get(key) ?? 0) : value + (sums.get(key) ?? 0),
    );
  }
  return [...sums].sort((a, b) => b[1] - a[1]);
}

function drawTiles(box, figures) {
  box.replaceChildren(
    ...TILES.map((measure) => {
      const rows = figures.filter(
        (figure) => figure.measure === measure && figure.dimension === "all",
      );
      const value = rows.reduce((sum, row) => sum + row.value, 0);
      return h(
        "div",
        { class: `tile${measure === "rejected" && value > 100 ? " bad" : ""}` },
        h("b", {}, rows.length ? formatCount(value) : "–"),
        h("span", {}, t(`usage.${measure}`)),
      );
    }),
  );
}

const shown = (measure, value) =>
  measure.endsWith("_s") ? formatDuration(value) : formatCount(value);
const label = (key, dimension) =>
  (dimension === "country" && { local: t("country.local"), unknown: t("country.unknown") }[key]) ||
  key;

function listing(key, figures, measure) {
  const rows = merged(figures);
  const most = rows[0]?.[1] || 1;
  if (!rows.length) {
    return null;
  }
  return h(
    "section",
    {},
    h("h2", {}, t(`list.${key}`)),
    h(
      "table",
      {},
      h(
        "tbody",
        {},
        rows.slice(0, TOP).map(([who, value]) => {
          const bar = h("div");
          const dimension = figures[0].dimension;
          bar.style.width = `${Math.max(2, (100 * value) / most)}%`;
          return h(
            "tr",
            {},
            h("td", {}, name(label(who, dimension))),
            h("td", { class: "n" }, shown(measure, value)),
            h("td", {}, h("div", { class: "meter" }, bar)),
          );
        }),
      ),
    ),
    rows.length > TOP ? h("p", { class: "keys" }, t("more.rows", { n: rows.length - TOP })) : "",
  );
}

function drawSessions(box, rows) {
  const heads = [
    "session.user",
    "session.host",
    "session.address",
    "session.server",
    "session.start",
    "session.duration",
    "session.operations",
    "session.state",
  ];
  box.replaceChildren(
    h("h2", {}, t("list.sessions")),
    rows.length
      ? h(
          "div",
          { class: "scroll", tabIndex: 0, role: "region", "aria-label": t("list.sessions") },
          h(
            "table",
            {},
            h(
              "thead",
              {},
              h(
                "tr",
                {},
                heads.map((key) => h("th", { scope: "col" }, t(key))),
              ),
            ),
            h(
              "tbody",
              {},
              rows.map((one) =>
                h(
                  "tr",
                  {},
                  h("td", {}, name(one.user ?? "–")),
                  h("td", {}, name(one.host ?? "–")),
                  h("td", {}, name(one.address ?? "–")),
                  h("td", {}, name(one.server)),
                  h("td", {}, formatMoment(new Date(one.start_time))),
                  h("td", {}, formatDuration(one.duration_s)),
                  h(
                    "td",
                    { class: "n" },
                    one.operations === null ? "–" : formatCount(one.operations),
                  ),
                  h(
                    "td",
                    {},
                    h(
                      "span",
                      { class: `tag ${one.ended_by ? "" : "good"}` },
                      one.ended_by ? t("session.ended") : t("session.online"),
                    ),
                  ),
                ),
              ),
            ),
          ),
        )
      : h("p", { class: "keys" }, t("sessions.none")),
  );
}

async function drawChart(one, figures, window) {
  const rows = merged(
    figures.filter((f) => f.dimension === "user" && f.measure === "operations" && f.key !== null),
  )
    .slice(0, TOP)
    .reverse();
  const paint = colours();
  one.title.textContent = t("chart.usage");
  one.link("usage", { window });
  one.element.hidden = !rows.length;
  if (rows.length) {
    await one.set({
      grid: { left: 130, right: 30, top: 10, bottom: 30 },
      legend: { show: false },
      tooltip: { formatter: ([row]) => `${row.name}\n${formatCount(row.value)}` },
      xAxis: { type: "value", axisLabel: { formatter: formatCount, hideOverlap: true } },
      yAxis: {
        type: "category",
        data: rows.map(([who]) => who),
        axisLabel: {
          formatter: (text) => (text.length > 16 ? `${text.slice(0, 7)}…${text.slice(-7)}` : text),
        },
      },
      series: [
        {
          type: "bar",
          data: rows.map(([, value]) => value),
          itemStyle: { color: paint.bar },
          barMaxWidth: 16,
        },
      ],
    });
  }
}
