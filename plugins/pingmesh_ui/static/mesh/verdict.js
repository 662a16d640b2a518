/**
 * What the window looks like, in words: the pattern of the heatmap, hosts that are gone, the
 * alarm's findings in it, else the figures.
 */
import { get } from "../api.js";
import { $, h, isPlaying, isolate } from "../dom.js";
import { formatTimes, formatUs } from "../format.js";
import { t } from "../i18n.js";
import { ruleName } from "../id_names.js";
import { findRange } from "../map/axis.js";
import { decode } from "../map/codes.js";
import { state } from "../state.js";
import { windowKey } from "../view.js";

/** @import { Finding, MatrixHeader, Pattern } from "../../types/api.js" */
/** @import { Range } from "../map/axis.js" */
/** @import { GoneHost } from "../map/worst.js" */
/** @import { View } from "../view.js" */

/** @typedef {{ text: string, kind?: "good" | "bad" | "" }} Sentence */

/** Suspects, hosts and findings that are named. */
const NAMED = 3;
/** Findings of a window that are asked for. */
const ASKED = 20;
/** A host does not answer when so much of its row or column failed. */
const HALF = 0.5;

/**
 * Show the words of the matrix that is there; the findings follow when they come.
 * @param {View} view
 */
export function showVerdict(view) {
  if (view.findingsOf !== windowKey(view) && view.findings.length) {
    forgetFindings(view);
  }
  const pattern = patternShown(view);
  const faults = [
    ...(pattern ? [patternSentence(pattern)] : []),
    ...goneSentences(view, pattern),
    ...findingSentences(view, pattern),
  ];
  const sentences = [...faults, ...figureSentences(view, !faults.length)];
  const words = sentences.flatMap(({ text, kind }) => [h("span", { class: kind }, text), " "]);
  $("verdict").replaceChildren(...words);
  askFindings(view);
}

// ---- pattern and hosts --------------------------------------------------------------------------

/**
 * The pattern of the window where it says more than the list of hosts that are gone.
 * @param {View} view
 */
function patternShown({ header: { pattern }, worst, topology }) {
  if (!pattern || pattern.name === "normal" || state.q) {
    return null;
  }
  const isShown = pattern.name === "host_down" ? !worst : topology;
  return isShown ? pattern : null;
}

/**
 * @param {Pattern} pattern
 * @returns {Sentence}
 */
function patternSentence({ name, suspects, count }) {
  const paths = suspects.slice(0, NAMED).map((path) => isolate(path.replace(/\/spine$/, "")));
  const what = paths.join(", ") + more(count);
  return { text: t(`pattern.${name}`, { n: count, what }), kind: "bad" };
}

/** @param {number} count */
const more = (count) => (count > NAMED ? " …" : "");

/**
 * @param {View} view
 * @param {Pattern | null} pattern
 * @returns {Sentence[]}
 */
function goneSentences(view, pattern) {
  if (!view.worst || state.q) {
    return [];
  }
  const gone = unexplainedHosts(view, view.worst.hosts, pattern);
  const dead = gone.filter((host) => Math.max(host.failedFrom, host.failedTo) >= HALF);
  const silent = gone.filter((host) => !dead.includes(host));
  /** @param {GoneHost[]} hosts */
  const names = (hosts) => {
    const named = hosts.slice(0, NAMED).map(({ at }) => isolate(view.axis.hosts[at].name));
    return named.join(", ") + more(hosts.length);
  };
  /** @type {Sentence[]} */
  const sentences = [];
  if (dead.length) {
    sentences.push({
      text: t("verdict.dead", { n: dead.length, hosts: names(dead) }),
      kind: "bad",
    });
  }
  if (silent.length) {
    sentences.push({
      text: t("verdict.silent", { n: silent.length, hosts: names(silent) }),
      kind: "bad",
    });
  }
  return sentences;
}

/**
 * Hosts that are gone, without those of podsets that are down, and without those that only these
 * podsets do not answer.
 * @param {View} view
 * @param {GoneHost[]} hosts
 * @param {Pattern | null} pattern
 */
function unexplainedHosts({ axis }, hosts, pattern) {
  const down = new Set(pattern?.name === "podset_down" ? pattern.suspects : []);
  if (!down.size) {
    return hosts;
  }
  /** @param {number} i */
  const isDown = (i) => down.has(axis.path(i, "podset"));
  const share = axis.hosts.filter((_, i) => isDown(i)).length / Math.max(1, axis.n - 1);
  const half = (1 + share) / 2; // half of the pairs with podsets that are not down
  return hosts.filter(
    ({ at, failedFrom, failedTo, missing }) =>
      !isDown(at) && Math.max(failedFrom, failedTo, missing) >= half,
  );
}

// ---- findings -----------------------------------------------------------------------------------

/**
 * @param {View} view
 * @param {Pattern | null} pattern
 * @returns {Sentence[]}
 */
function findingSentences({ findings }, pattern) {
  return findings
    .slice(0, NAMED)
    .filter(({ rule }) => rule !== "host_down" && rule !== pattern?.name)
    .map(({ rule, subject, detail, severity }) => ({
      text: `${ruleName(rule)} (${isolate(subject)}): ${detail.replace(/[.\s]+$/, "")}.`,
      kind: severity === "critical" ? "bad" : "",
    }));
}

/**
 * Ask for the findings of the window that is shown, once; not while windows are played.
 * @param {View} view
 */
function askFindings(view) {
  const key = windowKey(view);
  if (view.findingsOf === key || isPlaying()) {
    return;
  }
  forgetFindings(view);
  view.findingsOf = key;
  const { id } = view.window;
  const query = { from: id, to: view.time.endOf(id), source: "mesh", limit: ASKED };
  get("anomalies", query)
    .then(({ anomalies }) => {
      if (view.findingsOf === key) {
        takeFindings(view, anomalies);
      }
    })
    .catch(() => {}); // the words of the figures stand without the findings
}

/**
 * @param {View} view
 * @param {Finding[]} anomalies newest first
 */
function takeFindings(view, anomalies) {
  /** @type {Map<string, Finding>} the newest of each rule and subject */
  const newest = new Map();
  for (const finding of anomalies) {
    const key = finding.rule + finding.subject;
    newest.set(key, newest.get(key) ?? finding);
  }
  view.findings = [...newest.values()];
  if (view.findings.length && view.levels) {
    showVerdict(view);
  }
  markFindings(view);
}

/** @param {View} view */
export function forgetFindings(view) {
  view.findings = [];
  view.findingsOf = "";
  markFindings(view);
}

/**
 * The subjects of the findings as bars along both axes.
 * @param {View} view
 */
function markFindings({ axis, findings, map }) {
  map.alarms = findings.flatMap(({ subject, severity }) =>
    rangesOf(subject).map(({ start, stop }) => ({
      start,
      stop,
      critical: severity === "critical",
    })),
  );
  map.draw();

  /**
   * @param {string} subject
   * @returns {Range[]}
   */
  function rangesOf(subject) {
    const ranges = subject.split(">").map((path) => findRange(axis, path));
    return ranges.filter((range) => range !== null).filter((range) => range.kind !== "all");
  }
}

// ---- figures ------------------------------------------------------------------------------------

/**
 * @param {View} view
 * @param {boolean} isWell whether nothing else was said
 * @returns {Sentence[]}
 */
function figureSentences(view, isWell) {
  const { cells, normal } = view.header;
  if (!cells) {
    return [];
  }
  /** @type {Sentence[]} */
  const sentences = [];
  if (isWell && !cells.failed && !cells.missing) {
    sentences.push({ text: t("verdict.fine"), kind: "good" });
  }
  if (view.metric().name === "change" && !normal) {
    sentences.push({ text: t("verdict.no_normal") });
  }
  return [...sentences, { text: figures(view, cells) }];
}

/**
 * @param {View} view
 * @param {MatrixHeader["cells"]} cells
 */
function figures(view, cells) {
  const isNormal = view.metric().name === "change";
  const parts = [
    t(isNormal ? "verdict.compared" : "verdict.pairs", { n: cells.measured }),
    middle(view, isNormal),
    cells.failed ? t("verdict.failed", { n: cells.failed }) : "",
    cells.missing ? t("verdict.missing", { n: cells.missing }) : "",
  ];
  return parts.filter(Boolean).join(" · ");
}

/**
 * The median pair, of round trips and of changes against normal.
 * @param {View} view
 * @param {boolean} isNormal
 */
function middle(view, isNormal) {
  const { codes } = view.header;
  const kind = view.kind();
  const value = codes && !view.compares() ? decode(codes.p50, kind) : Number.NaN;
  if (!Number.isFinite(value)) {
    return "";
  }
  if (isNormal) {
    return t("verdict.middle.normal", { times: formatTimes(value) });
  }
  return kind === "us" ? t("verdict.middle", { value: formatUs(value) }) : "";
}
