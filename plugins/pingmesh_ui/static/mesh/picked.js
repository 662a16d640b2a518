/** What is known of a cell: in the tooltip, in words for ears, and of the selection in the panel beside the map. */
import { get } from "../api.js";
import { $, h, isolate, name } from "../dom.js";
import {
  formatClock,
  formatCount,
  formatShare,
  formatTimes,
  formatUs,
  formatValue,
} from "../format.js";
import { t } from "../i18n.js";
import { findRange } from "../map/axis.js";
import { FAILED, MISSING, NOT_PLANNED, UNCLEAN, decode, isChange, isValue } from "../map/codes.js";
import { codeAt, sharpen, windowKey } from "./mesh.js";
import { ends, smallCharts } from "../charts/small_charts.js";
import { state, update } from "../state.js";

const STATES = {
  [NOT_PLANNED]: "state.not_planned",
  [UNCLEAN]: "state.unclean",
  [MISSING]: "state.missing",
  [FAILED]: "state.failed",
};
const PATIENCE_MS = 140;
const KEPT = 400;
/** A normal of fewer windows is said to be young: an hour of five minutes. */
const SETTLED = 12;
const known = new Map();

const stateWords = (code, kind) =>
  code === null
    ? t("state.loading")
    : t(code === NOT_PLANNED && isChange(kind) ? "state.nothing" : STATES[code]);

/** One sentence: who to whom, how much, how much lost. */
export function describeCell(view, cell) {
  const { hosts } = view.axis;
  const code = codeAt(view, cell);
  const kind = view.kind();
  const what =
    code !== null && isValue(code)
      ? `${t(`metric.${view.metric().name}`)} ${formatValue(decode(code, kind), kind)}`
      : stateWords(code, kind);
  const loss =
    view.loss && view.loss.n === view.axis.n ? view.loss.codes[cell.y * view.axis.n + cell.x] : 0;
  const lost =
    isValue(loss) && view.metric().name !== "loss"
      ? `, ${t("metric.loss")} ${formatShare(Math.min(1, decode(loss, "share")))}`
      : "";
  return t("cell", {
    src: isolate(hosts[cell.y].name),
    dst: isolate(hosts[cell.x].name),
    what: what + lost,
  });
}

// ---- tooltip ------------------------------------------------------------------------------------------------------

let timer = 0;
let shown = "";

export function showTip(view, cell, event) {
  const tip = $("tip");
  if (!cell || !view.levels) {
    clearTimeout(timer);
    tip.hidden = true;
    shown = "";
    return;
  }
  const exact = sharpen(view, cell);
  const key = `${windowKey(view)} ${view.metric().name} ${exact.x},${exact.y}`;
  if (key !== shown) {
    shown = key;
    fillTip(view, exact, cell, null);
    clearTimeout(timer);
    const { src, dst } = pairAt(view, exact);
    const asked = pairKey(view, src, dst);
    if (known.has(asked)) {
      fillTip(view, exact, cell, known.get(asked));
    } else if (
      (codeAt(view, exact) || (isChange(view.kind()) && exact.x !== exact.y)) &&
      !document.documentElement.dataset.playing
    ) {
      timer = setTimeout(async () => {
        const answer = await askPair(view, src, dst).catch(() => null);
        if (shown === key && answer) {
          fillTip(view, exact, cell, answer);
        }
      }, PATIENCE_MS);
    }
  }
  tip.hidden = false;
  const { width, height } = tip.getBoundingClientRect();
  const gap = 16;
  const left =
    event.clientX + gap + width > innerWidth ? event.clientX - gap - width : event.clientX + gap;
  const top =
    event.clientY + gap + height > innerHeight ? event.clientY - gap - height : event.clientY + gap;
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

const pairKey = (view, src, dst) => `${windowKey(view)} ${src} ${dst}`;
const pairAt = (view, { x, y }) => ({ src: view.axis.hosts[y].name, dst: view.axis.hosts[x].name });

/** The exact figures of a pair in this window; the last KEPT are remembered. */
async function askPair(view, src, dst) {
  const key = pairKey(view, src, dst);
  if (!known.has(key)) {
    if (known.size >= KEPT) {
      known.delete(known.keys().next().value);
    }
    known.set(key, await get("pair", { window: view.window.id, src, dst, v: view.window.v }));
  }
  return known.get(key);
}

function fillTip(view, cell, pointed, answer) {
  const { hosts } = view.axis;
  const a = hosts[cell.y];
  const b = hosts[cell.x];
  const code = codeAt(view, cell);
  const kind = view.kind();
  const value = code !== null && isValue(code);
  const block = cell.x !== pointed.x || cell.y !== pointed.y;
  $("tip").replaceChildren(
    h(
      "div",
      { class: "pair" },
      name(a.name),
      " → ",
      name(b.name),
      view.topology ? h("div", { class: "place" }, `${place(a)} → ${place(b)}`) : "",
    ),
    h(
      "div",
      { class: value || !code ? "big" : "big gone" },
      value ? formatValue(decode(code, kind), kind) : stateWords(code, kind),
    ),
    h(
      "div",
      { class: "place" },
      [
        t(`metric.${view.metric().name}`),
        block ? t("tip.worst_here") : "",
        view.compares() ? t("tip.against", { window: formatClock(state.cmp) }) : "",
      ]
        .filter(Boolean)
        .join(" · "),
    ),
    answer ? figures(answer) : "",
  );
}

const place = (host) => [host.dc, host.podset, host.tor].filter(Boolean).join("/");

function figures({ protocols }) {
  const rows = [];
  for (const p of protocols) {
    if (protocols.length > 1) {
      rows.push([t("protocol"), p.protocol]);
    }
    if (p.rtt_p50_us !== null) {
      rows.push(
        ["p50 / p90 / p99", [p.rtt_p50_us, p.rtt_p90_us, p.rtt_p99_us].map(formatUs).join(" / ")],
        [t("metric.max"), formatUs(p.rtt_max_us)],
        [t("metric.jitter"), formatUs(p.jitter_us)],
      );
    }
    if (p.normal_p50_us) {
      rows.push([t("normal"), againstNormal(p)]);
    }
    rows.push([
      t("probes"),
      t("probes.of", { answered: formatCount(p.answered), sent: formatCount(p.sent) }),
    ]);
    if (p.sent) {
      rows.push([t("lost"), `${formatCount(p.lost)} (${formatShare(p.lost / p.sent)})`]);
    }
    for (const key of [
      "retransmitted",
      "refused",
      "unreachable",
      "reset",
      "bad_reply",
      "local_error",
    ]) {
      if (p[key]) {
        rows.push([t(key), formatCount(p[key])]);
      }
    }
  }
  return list(rows);
}

/** `1.8 × its normal of 240 µs`; of a pair that did not answer only what would be normal. */
function againstNormal({ rtt_p50_us: us, normal_p50_us: normal, normal_windows: windows }) {
  const words =
    us === null
      ? formatUs(normal)
      : t("normal.times", { times: formatTimes(us / normal), value: formatUs(normal) });
  return windows < SETTLED ? `${words} ${t("normal.young", { n: windows })}` : words;
}

export const list = (rows) =>
  h(
    "dl",
    {},
    rows.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]),
  );

// ---- the panel of the selection -----------------------------------------------------------------------------------

export async function fillPicked(view) {
  const box = $("picked");
  const [src, dst] = ends();
  const a = findRange(view.axis, src);
  const b = findRange(view.axis, dst);
  if (state.blk && view.map.block) {
    fillBlock(view, box);
    return;
  }
  box.hidden = !state.sel;
  if (!state.sel) {
    return;
  }
  const close = h(
    "button",
    {
      class: "closer",
      "aria-label": t("close"),
      onclick: () => update({ sel: "" }, { step: true }),
    },
    "×",
  );
  if (!a || !b) {
    box.replaceChildren(close, h("p", { class: "gone" }, t("unknown", { what: state.sel })));
    return;
  }
  const title = h(
    "div",
    { class: "pair" },
    src ? name(src) : t("everyone"),
    " → ",
    dst ? name(dst) : t("everyone"),
  );
  if (a.kind === "host" && b.kind === "host") {
    const turn = h(
      "button",
      { onclick: () => update({ sel: `${dst}>${src}` }, { step: true }) },
      t("reverse"),
    );
    box.replaceChildren(close, title, h("p", { class: "keys" }, t("state.loading")));
    const sel = state.sel;
    const window = windowKey(view);
    try {
      const answer = await askPair(view, src, dst);
      if (state.sel !== sel || windowKey(view) !== window) {
        return;
      }
      const cell = { x: b.start, y: a.start };
      const code = codeAt(view, cell);
      box.replaceChildren(
        close,
        title,
        code !== null && !isValue(code)
          ? h("p", { class: code ? "gone" : "keys" }, stateWords(code, view.kind()))
          : "",
        figures(answer),
        h(
          "div",
          { class: "row" },
          turn,
          h(
            "button",
            { onclick: () => update({ sel: `${src}>` }, { step: true }) },
            t("from.host", { host: isolate(src) }),
          ),
          h(
            "button",
            { onclick: () => update({ sel: `>${dst}` }, { step: true }) },
            t("to.host", { host: isolate(dst) }),
          ),
          alarmsOf(src),
          alarmsOf(dst),
        ),
      );
    } catch (error) {
      if (state.sel === sel && windowKey(view) === window) {
        box.replaceChildren(
          close,
          title,
          h(
            "p",
            { class: "keys" },
            error.code === "not_found" || error.status === 404
              ? t("state.not_planned")
              : error.message,
          ),
        );
      }
    }
    return;
  }
  const key = [
    windowKey(view),
    state.sel,
    view.time.windows[0].id,
    view.time.windows.at(-1).id,
  ].join();
  const isNew = pictures.key !== key;
  if (isNew && pictures.sel !== state.sel) {
    pictures.box.replaceChildren();
  }
  box.replaceChildren(
    close,
    title,
    blockSummary(view, { x0: b.start, x1: b.stop, y0: a.start, y1: a.stop }),
    pictures.box,
    h("p", { class: "keys" }, t("drill.hint")),
    h("div", { class: "row" }, [...new Set([src, dst])].filter(Boolean).map(alarmsOf)),
  );
  if (!isNew || document.documentElement.dataset.playing) {
    return;
  }
  Object.assign(pictures, { key, sel: state.sel });
  clearTimeout(pictures.timer);
  pictures.timer = setTimeout(async () => {
    const drawn = await smallCharts(view);
    if (pictures.key === key) {
      pictures.box.replaceChildren(...drawn);
    }
  }, PATIENCE_MS);
}

/** The small charts of the selected group: kept while the panel is filled anew, drawn again for another window. */
const pictures = { key: "", sel: "", timer: 0, box: h("div", {}) };

/** To what the alarm has to say of a host or a group. */
const alarmsOf = (what) =>
  h(
    "button",
    { onclick: async () => (await import("../panels/filters.js")).showAlarmsOf(what) },
    t("alarms.of.host", { host: isolate(what) }),
  );

/** A block that was dragged: its figures, and the way to compare it with another time. */
function fillBlock(view, box) {
  const { block } = view.map;
  const nm = (i) => isolate(view.axis.hosts[Math.min(view.axis.n - 1, Math.max(0, i))].name);
  box.hidden = false;
  box.replaceChildren(
    h(
      "button",
      {
        class: "closer",
        "aria-label": t("close"),
        onclick: () => update({ blk: "" }, { step: true }),
      },
      "×",
    ),
    h(
      "div",
      { class: "pair" },
      t("block.title", { rows: block.y1 - block.y0, columns: block.x1 - block.x0 }),
      h(
        "div",
        { class: "place" },
        `${nm(block.y0)} … ${nm(block.y1 - 1)} → ${nm(block.x0)} … ${nm(block.x1 - 1)}`,
      ),
    ),
    blockSummary(view, block),
    h(
      "div",
      { class: "row" },
      h("button", { onclick: () => view.map.fly(block) }, t("block.zoom")),
      h("button", { onclick: () => $("compare").focus() }, t("block.compare")),
    ),
  );
}

/** Counts and quantiles of a block of the matrix that is there. */
function blockSummary(view, { x0, x1, y0, y1 }) {
  const level = view.levels?.[0];
  const kind = view.kind();
  if (!level || level.n !== view.axis.n) {
    return h("p", { class: "keys" }, t("state.loading"));
  }
  const counts = new Uint32Array(4096);
  for (let y = Math.max(0, y0); y < Math.min(level.n, y1); y++) {
    for (let x = Math.max(0, x0); x < Math.min(level.n, x1); x++) {
      counts[level.codes[y * level.n + x]]++;
    }
  }
  let total = 0;
  for (let code = 1; code <= 4092; code++) {
    total += counts[code];
  }
  const at = (q) => {
    let seen = 0;
    const wanted = Math.ceil(q * total);
    for (let code = 1; code <= 4092; code++) {
      if ((seen += counts[code]) >= wanted) {
        return formatValue(decode(code, kind), kind);
      }
    }
    return "–";
  };
  const rows = [
    [t("pairs"), formatCount(total + counts[UNCLEAN] + counts[MISSING] + counts[FAILED])],
  ];
  if (total) {
    rows.push([t("block.middle"), at(0.5)], [t("block.p99"), at(0.99)], [t("block.worst"), at(1)]);
  }
  if (counts[FAILED]) {
    rows.push([t("state.failed.short"), formatCount(counts[FAILED])]);
  }
  if (counts[MISSING]) {
    rows.push([t("state.missing.short"), formatCount(counts[MISSING])]);
  }
  if (counts[UNCLEAN]) {
    rows.push([t("state.unclean.short"), formatCount(counts[UNCLEAN])]);
  }
  return list(rows);
}
