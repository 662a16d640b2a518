/**
 * Loading a window: its hosts where they changed, its matrix, of a large mesh the pooled one first,
 * and its loss. What comes too late is aborted: `view.abort` belongs to the last window that was
 * asked for.
 */
import { get } from "../api.js";
import { $, afterFrame, h, isPlaying } from "../dom.js";
import { formatWindow } from "../format.js";
import { t } from "../i18n.js";
import { makeAxis, selectHosts } from "../map/axis.js";
import { pyramid } from "../matrix_workers.js";
import { state } from "../state.js";
import { figuresKey, lodFor } from "../view.js";
import { showNoHost, showNoTable } from "./empty.js";
import { look } from "./scale.js";
import { showSelection } from "./selection.js";
import { forgetFindings, showVerdict } from "./verdict.js";
import { listWorst } from "./worst_list.js";

/** @import { ApiError, AxisAnswer, GroupSpan, WindowEntry } from "../../types/api.js" */
/** @import { Query } from "../api.js" */
/** @import { GroupKind, Host } from "../map/axis.js" */
/** @import { Frame, MatrixFrame, View } from "../view.js" */
/** @import { ShowOptions } from "../time/windows.js" */

/** Names that the search field offers. */
const OFFERED_NAMES = 400;

/**
 * Show a window.
 * @param {View} view
 * @param {WindowEntry} entry
 * @param {ShowOptions} [options] `playing`: pooled levels only, and nothing that can wait
 */
export async function load(view, entry, { playing = false, frame = null } = {}) {
  view.abort?.abort();
  const abort = new AbortController();
  view.abort = abort;
  view.window = entry;
  view.waiting = null;
  $("clock").textContent = formatWindow(entry.id, view.time.lengthS);
  if (frame && frame.axis === view.axis && frame.header.plan === view.plan) {
    accept(view, frame, playing);
    return;
  }
  if (view.figuresOf !== figuresKey(view)) {
    // The picture stays until the new one comes; the figures of another window do not.
    view.levels = null;
    view.worst = null;
  }
  $("loading").hidden = false;
  try {
    await loadWindow(view, entry, abort.signal, playing);
  } catch (error) {
    showFailure(view, entry, error);
  } finally {
    if (view.abort === abort) {
      $("loading").hidden = true;
    }
  }
}

/**
 * @param {View} view
 * @param {WindowEntry} entry
 * @param {AbortSignal} signal
 * @param {boolean} isPlay
 */
async function loadWindow(view, entry, signal, isPlay) {
  const base = query(view, entry);
  /** @param {number} lod */
  const ask = (lod) => askMatrix(view, { ...base, lod: lod || undefined }, signal);
  const early = askEarly(view, ask);
  await loadHosts(view, entry, signal);

  const pooled = pooledLod(view);
  const steps = pooled ? [pooled, 0] : [0];
  for (const lod of steps) {
    const answer = await (lod === steps[0] ? (early ?? ask(lod)) : ask(lod));
    if (!(await hasHostsOf(view, answer.header.plan, signal))) {
      load(view, entry); // the matrix that came has the order of other hosts
      return;
    }
    accept(view, answer, lod > 0);
    if (isPlay) {
      return;
    }
  }
  markFirstPicture(view);
  await loadLoss(view, base, signal);
  view.context.report(null);
}

/**
 * The matrix of the first window is asked for beside its hosts, unless the hosts decide what is
 * shown.
 * @param {View} view
 * @param {(lod: number) => Promise<MatrixFrame>} ask
 */
function askEarly(view, ask) {
  if (view.hosts || state.q || state.sort) {
    return null;
  }
  const early = ask(lodFor(view.context.boot.newest?.hosts ?? 0));
  early.catch(() => {}); // thrown where it is awaited
  return early;
}

/**
 * How often the matrix is halved for the first picture of a window and for play; one that is
 * arranged anew is not.
 * @param {View} view
 */
const pooledLod = ({ axis, hosts }) => (axis.order ? 0 : lodFor(hosts?.length ?? 0));

/**
 * Take the hosts of a matrix where they are others. Returns whether the matrix can be shown: one
 * that was arranged for other hosts cannot.
 * @param {View} view
 * @param {string} plan
 * @param {AbortSignal} signal
 */
async function hasHostsOf(view, plan, signal) {
  if (plan === view.plan) {
    return true;
  }
  setHosts(view, await askHosts(plan, signal));
  return !view.axis.order;
}

/**
 * @param {View} view
 * @param {Query} base
 * @param {AbortSignal} signal
 */
async function loadLoss(view, base, signal) {
  const lossQuery = { ...base, metric: "loss" };
  const { order } = view.axis;
  const { levels } = await pyramid({ query: lossQuery, kind: "mean", share: true, order }, signal);
  view.map.setLevels(view.levels, levels);
  view.loss = levels[0];
}

/**
 * @param {View} view
 * @param {WindowEntry} entry
 * @param {ApiError} error
 */
function showFailure(view, entry, error) {
  if (error.code === "no_table") {
    clearMap(view);
    view.context.report(null);
    showNoTable(view);
    return;
  }
  if (error.name === "AbortError") {
    return;
  }
  if (!view.levels) {
    clearMap(view);
  }
  view.context.report(error, () => load(view, entry));
}

/**
 * There is nothing of what is asked for: no picture is better than that of another window.
 * @param {View} view
 */
function clearMap(view) {
  view.levels = null;
  view.worst = null;
  view.loss = null;
  view.map.setLevels(null, null);
  view.map.rings = [];
  forgetFindings(view);
  $("worst").replaceChildren();
  $("verdict").textContent = "";
  look(view);
}

// ---- matrices -----------------------------------------------------------------------------------

/**
 * @param {View} view
 * @param {WindowEntry} entry
 * @returns {Query}
 */
const query = (view, entry) => ({ window: entry.id, metric: view.metric().name, v: entry.v });

/**
 * The matrix of `base`, as a change where the view compares two windows.
 * @param {View} view
 * @param {Query} base
 * @param {AbortSignal} [signal]
 */
function askMatrix(view, base, signal) {
  const other = { ...base, window: state.cmp, v: view.time.entry(state.cmp)?.v };
  return pyramid(
    {
      query: base,
      kind: "max",
      share: view.metric().code === "share",
      order: base.lod ? null : (view.axis?.order ?? null),
      against: view.compares() ? other : null,
    },
    signal,
  );
}

/**
 * What play shows of a window: its pooled levels with loss, or all of it where the mesh is small.
 * @param {View} view
 * @param {WindowEntry} entry
 * @returns {Promise<Frame>}
 */
export async function frameOf(view, entry) {
  const { axis } = view;
  const lod = pooledLod(view);
  const base = { ...query(view, entry), lod: lod || undefined };
  const lossQuery = { ...base, metric: "loss", pool: lod ? "mean" : undefined };
  const order = lod ? null : axis.order;
  const [matrix, loss] = await Promise.all([
    askMatrix(view, base),
    pyramid({ query: lossQuery, kind: "mean", share: true, order }),
  ]);
  return { ...matrix, axis, means: loss.levels };
}

/**
 * Show a matrix.
 * @param {View} view
 * @param {MatrixFrame} frame
 * @param {boolean} isPartial whether the full matrix and loss are still to come
 */
function accept(view, { header, levels, means, worst }, isPartial) {
  view.header = header;
  view.levels = levels;
  view.figuresOf = figuresKey(view);
  view.worst = worst ?? null;
  view.loss = means?.[0] ?? null;
  view.map.setLevels(levels, means ?? (isPartial ? undefined : null));
  if (view.axis.n) {
    $("empty").hidden = true;
  }
  look(view);
  if (isPlaying()) {
    afterFrame(() => showVerdict(view));
  } else {
    showVerdict(view);
  }
  listWorst(view);
  showSelection(view, view.arriving && !state.at);
  view.arriving = false;
  if (isPlaying()) {
    view.map.drawNow();
  }
}

/**
 * The first picture is there: tests and benchmarks wait for it, and charts are loaded after it.
 * @param {View} view
 */
function markFirstPicture(view) {
  requestAnimationFrame(() => {
    performance.mark("first-picture");
    document.documentElement.dataset.ready = "1";
  });
  if (!$("charts").childElementCount) {
    import("../charts/charts.js").then((charts) => charts.openCharts(view));
  }
}

// ---- hosts --------------------------------------------------------------------------------------

/**
 * The hosts of a window's plan, where it is another than that of the last window.
 * @param {View} view
 * @param {WindowEntry} entry
 * @param {AbortSignal} signal
 */
async function loadHosts(view, entry, signal) {
  const plan = planOf(view, entry);
  if (view.plan !== plan) {
    setHosts(view, await askHosts(plan, signal));
  }
}

/**
 * The plan of a window as far as it is known; the header of its matrix has it for certain.
 * @param {View} view
 * @param {WindowEntry} entry
 */
function planOf(view, entry) {
  const newest = /** @type {WindowEntry & { plan: string }} */ (view.context.boot.newest);
  const known = entry.id === newest.id ? newest.plan : (view.plan ?? newest.plan);
  return entry.plan ?? known;
}

/**
 * @param {string} plan
 * @param {AbortSignal} signal
 * @returns {Promise<AxisAnswer>}
 */
const askHosts = (plan, signal) => get(`axis/${encodeURIComponent(plan)}`, {}, signal);

/**
 * @param {View} view
 * @param {AxisAnswer} answer
 */
function setHosts(view, answer) {
  const hosts = hostsOf(answer);
  view.plan = answer.plan;
  view.hosts = hosts;
  view.topology = answer.topology;
  view.fits.clear();
  const names = hosts.slice(0, OFFERED_NAMES);
  $("host-names").replaceChildren(...names.map((host) => h("option", { value: host.name })));
  arrangeAxis(view);
}

/**
 * @param {AxisAnswer} answer
 * @returns {Host[]}
 */
function hostsOf({ hosts: names, addresses, dcs, podsets, tors }) {
  const hosts = names.map((name, i) => ({
    name,
    address: addresses?.[i] ?? "",
    dc: "",
    podset: "",
    tor: "",
  }));
  /** @type {[GroupKind, GroupSpan[] | undefined][]} */
  const groups = [
    ["dc", dcs],
    ["podset", podsets],
    ["tor", tors],
  ];
  for (const [kind, spans] of groups) {
    for (const { label, start, stop } of spans ?? []) {
      for (let i = start; i < stop; i++) {
        hosts[i][kind] = label;
      }
    }
  }
  return hosts;
}

/**
 * The hosts that are shown, in their order.
 * @param {View} view
 */
export function arrangeAxis(view) {
  const hosts = view.hosts ?? [];
  const hasGroups = view.topology && !["name", "worst"].includes(state.sort);
  view.axis = makeAxis(hosts, selectHosts(hosts, state.q, state.sort, view.scores), hasGroups);
  view.map.setAxis(view.axis);
  view.levels = null;
  view.worst = null;
  $("overlay").setAttribute("aria-label", t("map", { n: view.axis.n }));
  if (view.axis.n) {
    $("empty").hidden = true;
  } else {
    showNoHost();
  }
  if (state.at) {
    const [x, y, zoom] = state.at.split(",").map(Number);
    if ([x, y, zoom].every(Number.isFinite)) {
      view.map.place(x, y, zoom);
    }
  }
}
