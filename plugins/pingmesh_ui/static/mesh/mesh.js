/**
 * The mesh view: one window of one metric on the map, what is pointed at, what is selected, what is worst. Changes of
 * the state come in through `onChange`, answers of the server through `load`; everything shown follows from the two.
 */
import { address, get, pyramid } from "../api.js";
import { $, afterFrame, h, isolate, name } from "../dom.js";
import { describeCell, fillPicked, showTip } from "./picked.js";
import { saveCells, savePicture } from "../export.js";
import {
  formatClock,
  formatPoints,
  formatTimes,
  formatUs,
  formatValue,
  formatWindow,
} from "../format.js";
import { t } from "../i18n.js";
import { drawLegend } from "./legend.js";
import { findRange, lineage, makeAxis, selectHosts } from "../map/axis.js";
import { FAILED, HIGHEST, MIDDLE, decode, isChange, isValue } from "../map/codes.js";
import { createMap } from "../map/map.js";
import { fitScale } from "../map/palette.js";
import { hostScores } from "../map/worst.js";
import { ruleName } from "../rule_names.js";
import { ends } from "../charts/small_charts.js";
import { onChange, state, update } from "../state.js";
import { colours, onTheme, theme } from "../theme.js";

/** How the numbers of a metric's codes are read: as they are, and as what became of them since another window. */
const KINDS = { log: "us", share: "share", count: "count", ratio: "ratio" };
const COMPARED = { log: "ratio", share: "points" };
const RINGS = 3;
const LISTED = 12;
/** Above so many hosts the first picture is of pooled cells, and so is every step of play: one level a factor of two. */
const DRAWN = 900;

export async function openMesh(context) {
  const { boot } = context;
  const view = {
    context,
    arriving: true,
    window: null,
    header: null,
    levels: null,
    worst: null,
    axis: null,
    hosts: null,
    plan: null,
    fits: new Map(),
    scores: null,
    findings: [],
    findingsOf: "",
    metric: () =>
      boot.metrics.find((metric) => metric.name === state.m && isOffered(metric)) ??
      boot.metrics[0],
    compares: () => Boolean(state.cmp) && view.metric().code in COMPARED,
    kind: () => (view.compares() ? COMPARED : KINDS)[view.metric().code] ?? "us",
    cellText: (cell) => describeCell(view, cell),
  };
  const words = {
    get destination() {
      return t("destination.arrow");
    },
    get source() {
      return t("source.arrow");
    },
    value: (value) =>
      view.kind() === "points" ? formatPoints(value) : formatValue(value, view.kind()),
  };
  const map = (view.map = createMap(
    $("cells"),
    $("overlay"),
    {
      hover: (cell, event) => showTip(view, cell, event),
      pick: (cell) => select(view, sharpen(view, cell)),
      drill: (cell) => drill(view, cell),
      span: ({ path }) => {
        view.flying = true;
        update(
          { sel: view.axis.position(path) >= 0 ? `${path}>` : `${path}>${path}` },
          { step: true },
        );
      },
      block: (block) =>
        update(
          { blk: block ? [block.x0, block.y0, block.x1, block.y1].join() : "" },
          { step: true },
        ),
      cursor: (cell) => {
        $("cell").textContent = view.cellText(cell);
      },
      whole: () => update({ sel: "", at: "" }, { step: true }),
      up: () => goUp(view),
      view: () => rememberView(view),
    },
    words,
  ));
  fitWindow();
  if (!boot.newest) {
    showEmpty(boot);
    return view;
  }
  fillToolbar(view);
  view.time = context.time;
  context.frame = (entry) => frameOf(view, entry);
  context.arrive = () => {
    view.arriving = view.flying = true;
  };
  onTheme(() => look(view));
  onChange((changed) => follow(view, changed));
  view.show = () => {
    map.layout();
    if (view.waiting) {
      load(view, view.waiting);
    }
  };
  await view.time.follow((entry, options) => {
    if ($("panel-mesh").hidden) {
      view.waiting = entry;
      return;
    }
    return load(view, entry, options);
  });
  view.time.rest();
  return view;
}

/** The map takes the height that the window leaves between the controls and the time bar, and as much width. */
function fitWindow() {
  const stage = document.querySelector(".stage");
  const fit = () => {
    if ($("panel-mesh").hidden) {
      return;
    }
    const wide = innerWidth > 1000;
    const above = stage.getBoundingClientRect().top + scrollY;
    const room = innerHeight - above - ($("time").offsetHeight || 52) - 40;
    stage.style.setProperty(
      "--map",
      `${Math.round(wide ? Math.max(400, Math.min(room, innerWidth - 380)) : Math.min(stage.clientWidth, Math.max(340, innerHeight * 0.7)))}px`,
    );
  };
  fit();
  new ResizeObserver(fit).observe(stage.previousElementSibling);
  new ResizeObserver(fit).observe($("verdict"));
  addEventListener("resize", fit);
}

/** No window has been measured: what will be here, when, and what to look at if it does not come. */
function showEmpty({ empty, schedule }) {
  const due = h("p", {}, dueText(schedule));
  document.querySelector("main").classList.add("nothing");
  $("toolbar").hidden = true;
  document.querySelector("aside").hidden = true;
  $("maptools").hidden = true;
  $("verdict").textContent = "";
  $("empty").replaceChildren(
    h("h2", {}, t(`empty.${empty?.code ?? "no_data"}`)),
    h("p", {}, t("empty.what")),
    due,
    h("ul", {}, ...["dag", "hosts", "store"].map((key) => h("li", {}, t(`empty.check.${key}`)))),
    empty?.message ? h("p", { class: "keys" }, empty.message) : "",
    h("button", { class: "primary", onclick: () => location.reload() }, t("again")),
  );
  $("empty").hidden = false;
  const timer = setInterval(async () => {
    const boot = await get("boot").catch(() => null);
    if (boot?.newest) {
      clearInterval(timer);
      location.reload();
    } else if (boot) {
      due.textContent = dueText(boot.schedule);
    }
  }, 15_000);
}

/** When the Dag runs next; that of a paused one says nothing. */
const dueText = ({ paused, next_run_after: after }) =>
  paused ? t("empty.paused") : after ? t("empty.when", { when: formatClock(after) }) : "";

// ---- loading ------------------------------------------------------------------------------------------------------

/** Show window `entry` ({ id, v }). `playing`: from pooled levels only, and without what can wait. */
export async function load(view, entry, { playing = false, frame = null } = {}) {
  view.abort?.abort();
  const abort = (view.abort = new AbortController());
  const { boot, report } = view.context;
  view.window = entry;
  view.waiting = null;
  $("clock").textContent = formatWindow(entry.id, view.time?.lengthS ?? boot.window_s);
  if (frame && frame.axis === view.axis && frame.header.plan === view.plan) {
    accept(view, frame, playing);
    return;
  }
  if (view.of !== figuresKey(view)) {
    view.levels = view.worst = null; // the picture stays until the new one comes, its figures do not
  }
  $("loading").hidden = false;
  try {
    const base = query(view, entry);
    const ask = (lod) => matrices(view, { ...base, lod: lod || undefined }, abort.signal, false);
    const early = view.hosts || state.q || state.sort ? null : ask(lodFor(boot.newest.hosts)); // hosts and their matrix at once
    early?.catch(() => {});
    await inventory(view, entry, abort.signal);
    const pooled = lodFor(view.hosts.length);
    const steps = pooled && !view.axis.order ? [pooled, 0] : [0];
    for (const lod of steps) {
      const answer = await (early && lod === steps[0] ? early : ask(lod));
      if (answer.header.plan !== view.plan) {
        setHosts(
          view,
          await get(`axis/${encodeURIComponent(answer.header.plan)}`, {}, abort.signal),
        );
        if (view.axis.order) {
          return void load(view, entry);
        }
      }
      accept(view, answer, lod > 0);
      if (playing) {
        return;
      }
    }
    firstPicture(view);
    const loss = await pyramid(
      { query: { ...base, metric: "loss" }, kind: "mean", share: true, order: view.axis.order },
      abort.signal,
    );
    map_(view).setLevels(view.levels, loss.levels);
    view.loss = loss.levels[0];
    report(null);
  } catch (error) {
    if (error.code === "no_table") {
      showNoTable(view);
    } else if (error.name !== "AbortError") {
      if (!view.levels) {
        clearMap(view);
      }
      report(error, () => load(view, entry));
    }
  } finally {
    if (view.abort === abort) {
      $("loading").hidden = true;
    }
  }
}

/** Whether a metric is there at this level of time. */
const isOffered = (metric) => !metric.levels || metric.levels.includes(state.lv || "window");
const map_ = (view) => view.map;

/** The window is from before its map had this metric: say so where the map would be, and what can be done. */
function showNoTable(view) {
  clearMap(view);
  view.context.report(null);
  $("empty").replaceChildren(
    h("h2", {}, t("error.no_table")),
    h("p", {}, t("no_table.what")),
    h(
      "button",
      { class: "primary", onclick: () => update({ m: "", lo: "", hi: "" }, { step: true }) },
      t("no_table.other", { metric: t(`metric.${view.context.boot.metrics[0].name}`) }),
    ),
  );
  $("empty").hidden = false;
}

/** There is nothing of what is asked for: no picture is better than that of something else. */
function clearMap(view) {
  view.levels = view.worst = view.loss = null;
  view.map.setLevels(null, null);
  view.map.rings = [];
  forgetFindings(view);
  $("worst").replaceChildren();
  $("verdict").textContent = "";
  look(view);
}

export const lodFor = (n) => (n <= DRAWN ? 0 : Math.ceil(Math.log2(n / DRAWN)));
const query = (view, entry) => ({ window: entry.id, metric: view.metric().name, v: entry.v });

/** The matrix of `base`, as a difference where one is asked for; with `loss` its layer of loss too. */
export async function matrices(view, base, signal, loss) {
  const share = view.metric().code === "share";
  const against = view.compares()
    ? { ...base, window: state.cmp, v: view.time.entry(state.cmp)?.v }
    : null;
  const order = base.lod ? null : (view.axis?.order ?? null);
  const [main, means] = await Promise.all([
    pyramid({ query: base, kind: "max", share, order, against }, signal),
    loss
      ? pyramid(
          {
            query: { ...base, metric: "loss", pool: base.lod ? "mean" : undefined },
            kind: "mean",
            share: true,
            order,
          },
          signal,
        )
      : null,
  ]);
  return { ...main, means: means?.levels ?? null };
}

/** What play shows of a window: its pooled levels with loss, or all of it where it is small. */
async function frameOf(view, entry) {
  const { axis } = view;
  return {
    axis,
    ...(await matrices(
      view,
      { ...query(view, entry), lod: (!axis.order && lodFor(view.hosts.length)) || undefined },
      undefined,
      true,
    )),
  };
}

/** The hosts of a window's plan; asked for only when the plan is another than that of the last window. */
async function inventory(view, entry, signal) {
  const { boot } = view.context;
  const plan =
    entry.plan ??
    (entry.id === boot.newest.id ? boot.newest.plan : (view.plan ?? boot.newest.plan));
  if (view.plan === plan) {
    return;
  }
  setHosts(view, await get(`axis/${encodeURIComponent(plan)}`, {}, signal));
}

function setHosts(view, answer) {
  const hosts = answer.hosts.map((host, i) => ({
    name: host,
    address: answer.addresses?.[i] ?? "",
    dc: "",
    podset: "",
    tor: "",
  }));
  for (const [key, spans] of [
    ["dc", answer.dcs],
    ["podset", answer.podsets],
    ["tor", answer.tors],
  ]) {
    for (const { label, start, stop } of spans ?? []) {
      for (let i = start; i < stop; i++) {
        hosts[i][key] = label;
      }
    }
  }
  view.plan = answer.plan;
  view.hosts = hosts;
  view.topology = answer.topology;
  view.fits.clear();
  $("host-names").replaceChildren(
    ...hosts.slice(0, 400).map((host) => h("option", { value: host.name })),
  );
  arrangeAxis(view);
}

function arrangeAxis(view) {
  const order = selectHosts(view.hosts, state.q, state.sort, view.scores);
  view.axis = makeAxis(view.hosts, order, view.topology && !["name", "worst"].includes(state.sort));
  view.map.setAxis(view.axis);
  view.levels = view.worst = null;
  $("overlay").setAttribute("aria-label", t("map", { n: view.axis.n }));
  $("empty").hidden = view.axis.n > 0;
  if (!view.axis.n) {
    $("empty").replaceChildren(
      h("h2", {}, t("nobody")),
      h("button", { onclick: () => update({ q: "" }) }, t("all.hosts")),
    );
  }
  if (state.at) {
    const [x, y, zoom] = state.at.split(",").map(Number);
    if ([x, y, zoom].every(Number.isFinite)) {
      view.map.place(x, y, zoom);
    }
  }
}

/** Take a matrix in. */
function accept(view, { header, levels, means, worst }, partial) {
  view.header = header;
  view.levels = levels;
  view.of = figuresKey(view);
  view.worst = worst;
  view.loss = means?.[0] ?? null;
  view.map.setLevels(levels, means ?? (partial ? undefined : null));
  if (view.axis.n) {
    $("empty").hidden = true;
  }
  look(view);
  if (document.documentElement.dataset.playing) {
    afterFrame(() => verdict(view));
  } else {
    verdict(view);
  }
  if (worst) {
    listWorst(view); // pooled cells name no pairs
  }
  showSelection(view, view.arriving && !state.at);
  view.arriving = false;
  if (document.documentElement.dataset.playing) {
    view.map.drawNow();
  }
}

function firstPicture(view) {
  requestAnimationFrame(() => {
    performance.mark("first-picture");
    document.documentElement.dataset.ready = "1";
  });
  if (!document.getElementById("charts").childElementCount) {
    import("../charts/charts.js").then((charts) => charts.openCharts(view));
  }
}

/** Scale, legend and colours from the state, the data and the theme. */
function look(view) {
  const kind = view.kind();
  const change = isChange(kind);
  const mode = kind === "ratio" ? "log" : kind === "points" ? "linear" : state.sc;
  const key = `${view.metric().name} ${kind} ${kind === "points" ? state.cmp : ""}`;
  if (view.levels && !view.fits.has(key)) {
    const k = Math.min(
      view.levels.length - 1,
      Math.max(lodFor(view.axis.n), view.levels.findIndex(Boolean)),
    );
    view.fits.set(key, fitScale(view.levels[k].codes, kind));
  }
  const { slow_us: slow, bad_us: bad } = view.context.boot;
  const fitted = view.fits.get(key) ?? fitScale([], kind);
  const usual =
    mode === "threshold"
      ? kind === "share"
        ? { low: 0.001, high: 0.01 }
        : { low: slow ?? 1000, high: bad ?? 5000 }
      : fitted;
  const number = (text, or) => (text !== "" && Number(text) > 0 ? Number(text) : or);
  let low = change ? usual.low : number(state.lo, usual.low);
  let high = change ? usual.high : number(state.hi, usual.high);
  if (mode === "linear" && state.lo === "" && !change) {
    low = 0;
  }
  if (!(high > low)) {
    high = low * 10 || 1;
  }
  const scale = (view.scale = { kind, mode, low, high });
  view.map.setLook(scale, theme, colours());
  view.map.hatch = state.hatch === "1" && view.metric().code !== "share"; // loss drawn as colour needs no hatch
  drawLegend(view);
  const unit = kind === "share" ? 100 : 1000;
  for (const [id, value] of [
    ["low", low],
    ["high", high],
  ]) {
    if (document.activeElement !== $(id)) {
      $(id).value = +(value * (kind === "share" ? unit : 1 / unit)).toPrecision(3);
    }
  }
  $("ends-unit").textContent = kind === "share" ? "%" : "ms";
  document.querySelector(".ends").hidden = change || kind === "count";
  $("scale").disabled = change;
}

// ---- words and lists ----------------------------------------------------------------------------------------------

/** What the window looks like, in words: hosts that are gone, what the alarm found in it, else the figures. */
function verdict(view) {
  const of = windowKey(view);
  if (view.findingsOf !== of && view.findings.length) {
    forgetFindings(view);
  }
  const { cells, codes, normal } = view.header;
  const out = [];
  const pattern = patternShown(view);
  const say = (text, className) => out.push(h("span", { class: className }, text), " ");
  if (pattern) {
    say(
      t(`pattern.${pattern.name}`, {
        n: pattern.count,
        what:
          pattern.suspects
            .slice(0, 3)
            .map((path) => isolate(path.replace(/\/spine$/, "")))
            .join(", ") + (pattern.count > 3 ? " …" : ""),
      }),
      "bad",
    );
  }
  if (view.worst && !state.q) {
    const gone = unexplained(view, pattern);
    const dead = gone.filter((host) => Math.max(host.failedFrom, host.failedTo) >= 0.5);
    const silent = gone.filter((host) => !dead.includes(host));
    const names = (hosts) =>
      hosts
        .slice(0, 3)
        .map(({ at }) => isolate(view.axis.hosts[at].name))
        .join(", ") + (hosts.length > 3 ? " …" : "");
    if (dead.length) {
      say(t("verdict.dead", { n: dead.length, hosts: names(dead) }), "bad");
    }
    if (silent.length) {
      say(t("verdict.silent", { n: silent.length, hosts: names(silent) }), "bad");
    }
  }
  for (const finding of view.findings.slice(0, 3)) {
    if (finding.rule !== "host_down" && finding.rule !== pattern?.name) {
      say(
        `${ruleName(finding.rule)} (${isolate(finding.subject)}): ${finding.detail.replace(/[.\s]+$/, "")}.`,
        finding.severity === "critical" ? "bad" : "",
      );
    }
  }
  if (cells) {
    if (!out.length && !cells.failed && !cells.missing) {
      say(t("verdict.fine"), "good");
    }
    const middle = codes && !view.compares() ? decode(codes.p50, view.kind()) : NaN;
    const isNormal = view.metric().name === "change";
    if (isNormal && !normal) {
      say(t("verdict.no_normal"));
    }
    const parts = [t(isNormal ? "verdict.compared" : "verdict.pairs", { n: cells.measured })];
    if (Number.isFinite(middle) && view.kind() === "us") {
      parts.push(t("verdict.middle", { value: formatUs(middle) }));
    }
    if (Number.isFinite(middle) && isNormal) {
      parts.push(t("verdict.middle.normal", { times: formatTimes(middle) }));
    }
    if (cells.failed) {
      parts.push(t("verdict.failed", { n: cells.failed }));
    }
    if (cells.missing) {
      parts.push(t("verdict.missing", { n: cells.missing }));
    }
    say(parts.join(" · "));
  }
  $("verdict").replaceChildren(...out);
  if (view.findingsOf === of || document.documentElement.dataset.playing) {
    return;
  }
  forgetFindings(view);
  view.findingsOf = of;
  get("anomalies", {
    from: view.window.id,
    to: view.time?.endOf(view.window.id),
    source: "mesh",
    limit: 20,
  })
    .then(({ anomalies }) => {
      if (view.findingsOf !== of) {
        return; // another window is shown by now
      }
      const seen = new Set();
      view.findings = anomalies.filter(
        ({ rule, subject }) => !seen.has(rule + subject) && seen.add(rule + subject),
      );
      if (view.findings.length && view.levels) {
        verdict(view);
      }
      markFindings(view);
    })
    .catch(() => {});
}

function forgetFindings(view) {
  view.findings = [];
  view.findingsOf = "";
  markFindings(view);
}

/** What is shown, as far as figures go: an hour has the id of its first window, and a window may be made anew. */
export const windowKey = ({ window }) => [state.lv, window.id, window.v].join(" ");
const figuresKey = (view) =>
  [windowKey(view), view.metric().name, view.compares() && state.cmp].join(" ");

/** The pattern of the window where it says more than the list of hosts that are gone. */
function patternShown(view) {
  const { pattern } = view.header;
  if (!pattern || pattern.name === "normal" || state.q) {
    return null;
  }
  return pattern.name === "host_down"
    ? view.worst
      ? null
      : pattern
    : view.topology
      ? pattern
      : null;
}

/** The hosts that are gone, but for those of podsets that are down, and those that only these podsets do not answer. */
function unexplained(view, pattern) {
  const { axis, worst } = view;
  const down = new Set(pattern?.name === "podset_down" ? pattern.suspects : []);
  const isDown = (i) => down.has(axis.path(i, "podset"));
  if (!down.size) {
    return worst.hosts;
  }
  const share = axis.hosts.filter((_, i) => isDown(i)).length / Math.max(1, axis.n - 1);
  const half = (1 + share) / 2;
  return worst.hosts.filter(
    ({ at, failedFrom, failedTo, missing }) =>
      !isDown(at) && Math.max(failedFrom, failedTo, missing) >= half,
  );
}

/** Suspects of this window as bars along both axes. */
function markFindings(view) {
  const of = (subject) =>
    subject
      .split(">")
      .map((path) => findRange(view.axis, path))
      .filter((range) => range && range.kind !== "all");
  view.map.alarms = view.findings.flatMap(({ subject, severity }) =>
    of(subject).map(({ start, stop }) => ({ start, stop, critical: severity === "critical" })),
  );
  view.map.draw();
}

function listWorst(view) {
  if (!view.worst) {
    return;
  }
  const { axis } = view;
  const nm = (i) => axis.hosts[i].name;
  const items = [];
  for (const { at, failedFrom, failedTo, missing } of view.worst.hosts) {
    const what = Math.max(failedFrom, failedTo) >= 0.5 ? t("worst.unreachable") : t("worst.silent");
    items.push({
      who: nm(at),
      what,
      bad: true,
      sel: `${nm(at)}>`,
      cell: { x: at, y: at },
      ring: missing >= 0.5 ? { x0: at, x1: at + 1, y0: at, y1: at + 1 } : undefined,
    });
  }
  for (const { x, y, code } of view.worst.cells) {
    if (isChange(view.kind()) && code <= MIDDLE) {
      break; // what became no worse is not among the worst
    }
    const what =
      code === FAILED
        ? t("state.failed.short")
        : code > HIGHEST
          ? t(code === HIGHEST + 1 ? "state.unclean.short" : "state.missing.short")
          : formatValue(decode(code, view.kind()), view.kind());
    items.push({
      who: `${nm(y)} → ${nm(x)}`,
      what,
      bad: code === FAILED,
      sel: `${nm(y)}>${nm(x)}`,
      cell: { x, y },
    });
  }
  const shown = items.slice(0, LISTED);
  view.map.rings = shown
    .slice(0, RINGS)
    .map(({ cell }) => ({ x0: cell.x, x1: cell.x + 1, y0: cell.y, y1: cell.y + 1 }));
  $("worst").replaceChildren(
    ...shown.map(({ who, what, bad, sel, cell }, i) =>
      h(
        "li",
        { class: i < RINGS ? "ringed" : "" },
        h(
          "button",
          {
            onclick: () => {
              view.map.cursor = cell;
              view.flying = true;
              update({ sel }, { step: true });
            },
          },
          h("i", {}, String(i + 1)),
          name(who, { class: "who" }),
          h("span", { class: `what${bad ? " bad" : ""}` }, what),
        ),
      ),
    ),
  );
  if (!shown.length) {
    $("worst").replaceChildren(h("li", { class: "keys" }, t("worst.none")));
  }
  view.map.draw();
}

// ---- selection ----------------------------------------------------------------------------------------------------

/** The cell meant by a click: where many lie under one px, the worst of them. */
export function sharpen(view, cell) {
  const { levels, map } = view;
  const px = map.zoom * (devicePixelRatio || 1);
  if (px >= 1 || !levels?.[0]) {
    return cell;
  }
  let k = 0;
  while (px * 2 ** k < 1) {
    k++;
  }
  const size = 2 ** k;
  const x0 = Math.floor(cell.x / size) * size;
  const y0 = Math.floor(cell.y / size) * size;
  const { n, codes } = levels[0];
  let best = cell;
  let code = -1;
  for (let y = y0; y < Math.min(n, y0 + size); y++) {
    for (let x = x0; x < Math.min(n, x0 + size); x++) {
      if (codes[y * n + x] > code) {
        code = codes[y * n + x];
        best = { x, y };
      }
    }
  }
  return best;
}

function select(view, cell) {
  view.map.cursor = cell;
  const { hosts } = view.axis;
  update(
    {
      sel:
        cell.x === cell.y
          ? `${hosts[cell.y].name}>`
          : `${hosts[cell.y].name}>${hosts[cell.x].name}`,
    },
    { step: true },
  );
  $("cell").textContent = view.cellText(cell);
}

/** One step down at this cell: to the widest block around it that is smaller than what is seen, at last to the pair. */
function drill(view, cell) {
  const { axis, map } = view;
  const { x0, x1 } = map.seen;
  const holds =
    (i) =>
    ({ start, stop }) =>
      i >= start && i < stop;
  map.cursor = cell;
  for (const { kind, spans } of [...axis.brackets].reverse()) {
    const a = spans.find(holds(cell.y));
    const b = spans.find(holds(cell.x));
    if (Math.max(a.stop - a.start, b.stop - b.start) < 0.7 * (x1 - x0)) {
      view.flying = true;
      update({ sel: `${axis.path(cell.y, kind)}>${axis.path(cell.x, kind)}` }, { step: true });
      return;
    }
  }
  view.flying = true;
  update({ sel: `${axis.hosts[cell.y].name}>${axis.hosts[cell.x].name}` }, { step: true });
  if (view.flying) {
    showSelection(view, true);
  }
}

function goUp(view) {
  if (view.map.block) {
    view.map.block = null;
    update({ blk: "" });
    return;
  }
  const [src, dst] = ends();
  const a = lineage(view.axis, src).slice(0, -1);
  const b = lineage(view.axis, dst || src).slice(0, -1);
  view.flying = true;
  update(a.length ? { sel: `${a.at(-1)}>${b.at(-1) ?? a.at(-1)}` } : { sel: "", at: "" }, {
    step: true,
  });
}

/** Crumbs, panel and frame of what is selected; `fly` brings it into view. */
function showSelection(view, fly) {
  const [src, dst] = ends();
  const { axis, map } = view;
  const a = findRange(axis, src);
  const b = findRange(axis, dst);
  const known = state.sel && a && b;
  const isPair = known && a.kind === "host" && b.kind === "host";
  const isGroup = known && a.kind !== "host" && a.kind !== "all";
  map.focus =
    isGroup || (known && !isPair) ? { x0: b.start, x1: b.stop, y0: a.start, y1: a.stop } : null;
  map.cursor = isPair ? { x: b.start, y: a.start } : map.cursor;
  if (fly && known) {
    if (isGroup) {
      map.fly(map.focus);
    } else if (isPair) {
      if (map.zoom < 14) {
        map.fly(around(b.start, a.start, axis.n));
      } else {
        map.reveal(map.cursor);
      }
    } else {
      const at = a.kind === "host" ? a.start : b.start;
      if (axis.n > 60) {
        map.draw();
      } else {
        map.cursor = { x: at, y: at };
      }
    }
  } else if (fly && !state.sel && !map.isWhole) {
    map.fly({ x0: 0, x1: axis.n, y0: 0, y1: axis.n }, true);
  }
  if (state.blk) {
    const [x0, y0, x1, y1] = state.blk.split(",").map(Number);
    if ([x0, y0, x1, y1].every(Number.isFinite)) {
      map.block = { x0, y0, x1, y1 };
    }
  } else {
    map.block = null;
  }
  crumbs(view, src, dst);
  fillPicked(view);
  map.draw();
}

const around = (x, y, n) => {
  const r = Math.min(10, n / 2);
  return {
    x0: Math.max(0, x - r),
    x1: Math.min(n, x + r + 1),
    y0: Math.max(0, y - r),
    y1: Math.min(n, y + r + 1),
  };
};

function crumbs(view, src, dst) {
  const a = lineage(view.axis, src);
  const b = lineage(view.axis, dst);
  const last = (path) => path.split("/").at(-1);
  const out = [];
  const steps = [["", t("crumbs.all")]];
  for (let i = 0; i < Math.max(a.length, b.length); i++) {
    const x = a[i] ?? a.at(-1);
    const y = b[i] ?? b.at(-1);
    if (x && y) {
      steps.push([`${x}>${y}`, x === y ? last(x) : `${last(x)} → ${last(y)}`]);
    } else {
      steps.push(
        x
          ? [i === a.length - 1 ? `${x}>` : `${x}>${x}`, last(x)]
          : [i === b.length - 1 ? `>${y}` : `${y}>${y}`, last(y)],
      );
    }
  }
  const brief = (label) =>
    steps.length > 3 ? label.replace(/\b(\p{L})\p{L}{2,}(\d+)\b/gu, "$1$2") : label;
  steps.forEach(([sel, text], i) => {
    const label = i && i < steps.length - 1 ? brief(text) : text;
    if (i) {
      out.push(h("span", { "aria-hidden": "true" }, "›"));
    }
    out.push(
      i === steps.length - 1
        ? h("b", { "aria-current": "location" }, name(label))
        : h(
            "button",
            {
              onclick: () => {
                view.flying = true;
                update(sel ? { sel } : { sel: "", at: "", blk: "" }, { step: true });
              },
            },
            name(label),
          ),
    );
  });
  $("crumbs").replaceChildren(...out);
}

function rememberView(view) {
  const { map } = view;
  update({
    at: map.isWhole ? "" : [map.view.x, map.view.y, map.zoom].map((v) => +v.toFixed(2)).join(),
  });
}

// ---- controls -----------------------------------------------------------------------------------------------------

function fillToolbar(view) {
  const { boot } = view.context;
  const { map } = view;
  $("metric").replaceChildren(
    ...boot.metrics.map(({ name: metric }) =>
      h("option", { value: metric }, t(`metric.${metric}`)),
    ),
  );
  $("metric").onchange = () => update({ m: $("metric").value, lo: "", hi: "" }, { step: true });
  $("scale").onchange = () => update({ sc: $("scale").value, lo: "", hi: "" });
  for (const [id, key] of [
    ["low", "lo"],
    ["high", "hi"],
  ]) {
    $(id).onchange = () => {
      const value = Number($(id).value.replace(",", "."));
      update({
        [key]: value > 0 ? String(view.kind() === "share" ? value / 100 : value * 1000) : "",
      });
    };
  }
  $("compare").onchange = () => update({ cmp: $("compare").value }, { step: true });
  $("hatch").onchange = () => update({ hatch: $("hatch").checked ? "1" : "0" });
  $("sort").onchange = () => update({ sort: $("sort").value, at: "", blk: "" }, { step: true });
  let typing = 0;
  $("search").oninput = () => {
    clearTimeout(typing);
    typing = setTimeout(() => update({ q: $("search").value.trim(), at: "", blk: "" }), 250);
  };
  $("zoom-in").onclick = () =>
    map.setZoom(map.zoom * 1.6, map.geometry.side / 2, map.geometry.side / 2);
  $("zoom-out").onclick = () =>
    map.setZoom(map.zoom / 1.6, map.geometry.side / 2, map.geometry.side / 2);
  $("zoom-all").onclick = () => {
    map.fly({ x0: 0, x1: view.axis.n, y0: 0, y1: view.axis.n }, true);
    update({ sel: "", at: "", blk: "" }, { step: true });
  };
  $("block").onclick = () => {
    map.blockMode = !map.blockMode;
    $("block").setAttribute("aria-pressed", map.blockMode);
  };
  $("save-png").onclick = () => savePicture(map.picture(), fileName(view));
  $("save-csv").onclick = () => saveCells(view, "csv", fileName(view));
  $("save-json").onclick = () => saveCells(view, "json", fileName(view));
  mirror(view);
}

const fileName = (view) => `pingmesh-${view.window.id}-${view.metric().name}`;

/** Controls show what the state says. */
function mirror(view) {
  for (const option of $("metric").options) {
    option.disabled = !isOffered(
      view.context.boot.metrics.find((metric) => metric.name === option.value),
    );
  }
  $("metric").value = view.metric().name;
  $("compare").disabled = !(view.metric().code in COMPARED);
  $("scale").value = ["log", "linear", "threshold"].includes(state.sc) ? state.sc : "log";
  $("hatch").checked = state.hatch === "1";
  $("sort").value = state.sort;
  if (document.activeElement !== $("search")) {
    $("search").value = state.q;
  }
}

/** What a change of the state means for the map. */
function follow(view, changed) {
  const any = (...keys) => keys.some((key) => changed.has(key));
  mirror(view);
  if (any("lv")) {
    view.abort?.abort(); // what comes now would be of another level than it was asked for
  }
  if (any("q", "sort")) {
    if (state.sort === "worst" && view.levels?.[0] && !view.axis.order) {
      view.scores = hostScores(view.levels[0].codes, view.axis.n);
    }
    arrangeAxis(view);
    load(view, view.window);
  } else if (any("m", "cmp")) {
    load(view, view.window);
  } else if (any("sc", "lo", "hi")) {
    look(view);
  }
  if (any("hatch")) {
    look(view);
  }
  if (any("sel", "blk") && view.axis) {
    const { flying } = view;
    view.flying = false;
    showSelection(view, changed.has("sel") && (flying || view.arriving));
  } else if (changed.has("at") && !view.map.moving && view.map.geometry) {
    const [x, y, zoom] = (state.at || `0,0,${view.map.fit}`).split(",").map(Number);
    if (
      Math.abs(zoom - view.map.zoom) > 0.01 ||
      Math.abs(x - view.map.view.x) > 0.02 ||
      Math.abs(y - view.map.view.y) > 0.02
    ) {
      view.map.place(x, y, zoom);
    }
  }
}

/** Codes around a cell as text for `isValue` users elsewhere. */
export const codeAt = (view, cell) => {
  const level = view.levels?.[0];
  return level && level.n === view.axis.n ? level.codes[cell.y * level.n + cell.x] : null;
};
export const valueAt = (view, cell) => {
  const code = codeAt(view, cell);
  return code !== null && isValue(code) ? decode(code, view.kind()) : NaN;
};
export const downloadLink = (path, query, format) =>
  address(path, { ...query, format, download: 1 });
