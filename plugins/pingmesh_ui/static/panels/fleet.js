/** The fleet: what became of every host at each stage of a window; those that need a hand come first. */
import { address, get } from "../api.js";
import { h, isolate, name } from "../dom.js";
import { formatBytes, formatCount, formatUs, formatWindow } from "../format.js";
import { t } from "../i18n.js";
import { onChange, state, update } from "../state.js";
import { showAlarmsOf } from "./filters.js";

const STAGES = ["keys", "dispatch", "collect"];
const GOOD = new Set(["ok", "unchanged", "no_data_yet"]);
const SHOWN = 500;

export function open(panel, context) {
  if (!context.boot.newest) {
    panel.replaceChildren(h("p", { class: "blank" }, t("fleet.none")));
    return {};
  }
  const words = h("input", { type: "search", placeholder: t("search"), "aria-label": t("search") });
  const only = h("input", { type: "checkbox", id: "only-bad" });
  const head = h("h2", {}, t("tab.fleet"));
  const tiles = h("div", { class: "tiles" });
  const table = h("div", {
    class: "scroll",
    tabIndex: 0,
    role: "region",
    "aria-label": t("tab.fleet"),
  });
  const csv = h("a", { download: "pingmesh-fleet.csv" }, "CSV");
  panel.replaceChildren(
    h(
      "div",
      { class: "panel-head" },
      head,
      words,
      h("label", { class: "check" }, only, " ", t("fleet.only_bad")),
      h("span", { class: "grow" }),
      csv,
    ),
    tiles,
    table,
  );
  let hosts = [];
  let asked = "";
  const draw = () => {
    words.value = state.fq;
    only.checked = state.fbad === "1";
    drawTable(
      table,
      context,
      hosts.filter(
        (host) =>
          (!only.checked || host.bad) &&
          host.host.toLowerCase().includes(state.fq.trim().toLowerCase()),
      ),
    );
  };
  words.oninput = () => update({ fq: words.value });
  only.onchange = () => update({ fbad: only.checked ? "1" : "" });
  onChange((changed) => {
    if (changed.has("fq") || changed.has("fbad")) {
      draw();
    }
  });
  const show = async (entry) => {
    if (panel.hidden || document.documentElement.dataset.playing) {
      asked = asked === entry?.id ? "" : asked;
      return;
    }
    if (!entry || asked === entry.id) {
      return;
    }
    asked = entry.id;
    const window = state.lv ? "" : entry.id; // hours and days have no fleet of their own: the newest window is shown
    csv.href = address("fleet", { window, format: "csv", download: 1 });
    try {
      const answer = await get("fleet", { window });
      head.textContent = `${t("tab.fleet")} · ${formatWindow(answer.window, context.boot.window_s)}`;
      hosts = byHost(answer.hosts);
      drawTiles(tiles, hosts);
      draw();
    } catch (error) {
      asked = "";
      if (error.status === 404) {
        hosts = [];
        tiles.replaceChildren();
        table.replaceChildren(h("p", { class: "blank" }, t("fleet.none")));
      } else {
        context.report(error, () => show(entry));
      }
    }
  };
  context.time.follow(show).then(() => context.time.rest());
  return { show: () => show(context.time.now()) };
}

function byHost(rows) {
  const hosts = new Map();
  for (const row of rows) {
    const host = hosts.get(row.host) ?? { host: row.host, stages: {}, bad: false };
    host.stages[row.stage] = row;
    host.bad ||= !GOOD.has(row.outcome);
    hosts.set(row.host, host);
  }
  return [...hosts.values()].sort(
    (a, b) => b.bad - a.bad || a.host.localeCompare(b.host, undefined, { numeric: true }),
  );
}

function drawTiles(box, hosts) {
  const bad = hosts.filter((host) => host.bad).length;
  const last = hosts.map((host) => host.stages.dispatch ?? host.stages.collect).filter(Boolean);
  const versions = new Set(last.map((row) => row.agent_version).filter(Boolean));
  const skew = Math.max(
    0,
    ...hosts.flatMap((host) =>
      Object.values(host.stages).map((row) => Math.abs(row.clock_offset_us ?? 0)),
    ),
  );
  const bytes = hosts.reduce((sum, host) => sum + (host.stages.collect?.segment_bytes ?? 0), 0);
  const skipped = hosts.reduce((sum, host) => sum + (host.stages.collect?.skipped ?? 0), 0);
  const tile = (value, key, isBad) =>
    h("div", { class: `tile${isBad ? " bad" : ""}` }, h("b", {}, value), h("span", {}, t(key)));
  box.replaceChildren(
    tile(formatCount(hosts.length), "fleet.hosts"),
    tile(formatCount(bad), "fleet.bad", bad > 0),
    tile(formatCount(versions.size), "fleet.versions", versions.size > 1),
    tile(formatUs(skew), "fleet.skew", skew > 1e6),
    tile(formatBytes(bytes), "fleet.bytes"),
    tile(formatCount(skipped), "fleet.skipped", skipped > 0),
  );
}

const outcomeTag = (row) =>
  row
    ? h(
        "span",
        { class: `tag ${GOOD.has(row.outcome) ? "good" : "bad"}`, title: row.detail ?? "" },
        `${GOOD.has(row.outcome) ? "✓" : "✕"} ${words(row.outcome)}`,
      )
    : h("span", { class: "muted" }, "–");
const words = (outcome) => {
  const text = t(`outcome.${outcome}`);
  return text === `outcome.${outcome}` ? outcome.replaceAll("_", " ") : text;
};

const alarmsOf = (host) =>
  h(
    "button",
    {
      class: "link",
      title: t("alarms.of.host", { host: isolate(host) }),
      onclick: () => showAlarmsOf(host),
    },
    t("tab.alarms"),
  );

function drawTable(box, context, hosts) {
  if (!hosts.length) {
    box.replaceChildren(h("p", { class: "blank" }, t("nobody")));
    return;
  }
  const detail = (host) =>
    Object.values(host.stages)
      .filter((row) => !GOOD.has(row.outcome))
      .map((row) => row.detail)
      .find(Boolean) ?? "";
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
          [t("fleet.host"), ...STAGES.map((stage) => t(`stage.${stage}`)), t("fleet.agent")].map(
            (text) => h("th", { scope: "col" }, text),
          ),
          h("th", { class: "n", scope: "col" }, t("fleet.clock")),
          h("th", { scope: "col" }, t("fleet.detail")),
        ),
      ),
      h(
        "tbody",
        {},
        hosts.slice(0, SHOWN).map((host) => {
          const any = host.stages.dispatch ?? host.stages.collect ?? {};
          return h(
            "tr",
            {},
            h(
              "td",
              {},
              h(
                "button",
                {
                  class: "link",
                  onclick: () => {
                    context.arrive?.();
                    update({ tab: "mesh", sel: `${host.host}>`, at: "" }, { step: true });
                  },
                },
                name(host.host),
              ),
            ),
            STAGES.map((stage) => h("td", {}, outcomeTag(host.stages[stage]))),
            h("td", { class: "muted" }, (any.agent_version ?? "").slice(0, 8)),
            h(
              "td",
              { class: "n" },
              any.clock_offset_us === null || any.clock_offset_us === undefined
                ? "–"
                : `${any.clock_offset_us < 0 ? "−" : "+"}${formatUs(Math.abs(any.clock_offset_us))}`,
            ),
            h(
              "td",
              { class: "muted" },
              name(detail(host)),
              host.bad ? [" ", alarmsOf(host.host)] : "",
            ),
          );
        }),
      ),
    ),
    hosts.length > SHOWN
      ? h("p", { class: "keys" }, t("more.rows", { n: hosts.length - SHOWN }))
      : "",
  );
}
