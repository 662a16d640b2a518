/** The controls of the time bar show what the state and the windows are. */
import { $, afterFrame, h } from "../dom.js";
import { formatDay, formatTime, formatWindow, parseId } from "../format.js";
import { t } from "../i18n.js";
import { state } from "../state.js";
import { isOpenRange } from "./range.js";
import { drawStrip } from "./strip.js";
import { hoursBefore, isLive, startOf } from "./windows.js";

/** @import { Boot } from "../../types/api.js" */
/** @import { Time } from "./windows.js" */

/** @typedef {[value: string, label: string]} Option */

/** The levels of time, from short to long. */
const LEVELS = ["window", "hour", "day"];
/**
 * The usual ranges of a level of time, by their value in the link.
 * @type {Record<string, [value: string, key: string][]>}
 */
const USUAL_RANGES = {
  "": [
    ["", "range.24h"],
    ["1h", "range.1h"],
    ["6h", "range.6h"],
    ["7d", "range.7d"],
  ],
  hour: [["", "range.7d"]],
  day: [["", "range.31d"]],
};

/**
 * Slider, buttons, strip, and what a window can be compared with.
 * @param {Time} time
 * @param {boolean} isPlaying
 */
export function showPlace(time, isPlaying) {
  const at = time.current();
  const last = time.windows.length - 1;
  const slider = $("slider");
  slider.max = String(Math.max(0, last));
  if (at >= 0) {
    slider.value = String(at);
  }
  const words = at >= 0 ? formatWindow(time.windows[at].id, time.lengthS) : "";
  slider.setAttribute("aria-valuetext", words);
  $("live").setAttribute("aria-pressed", String(isLive()));
  $("back").disabled = at === 0;
  $("next").disabled = at === last;
  if (isPlaying) {
    afterFrame(() => drawStrip(time, time.current()));
    return;
  }
  drawStrip(time, at);
  showComparisons(time);
}

/**
 * The windows to compare with: the one before, an hour and a day before, and the one that is shown,
 * pinned, for those that are shown next.
 * @param {Time} time
 */
export function showComparisons(time) {
  const { id } = time.now();
  const all = [...time.older, ...time.windows];
  /** @param {number} hours */
  const earlier = (hours) => time.entry(startOf(+parseId(hoursBefore(id, hours)), time.lengthS));
  const candidates = /** @type {const} */ ([
    ["compare.before", all[all.findIndex((entry) => entry.id === id) - 1]],
    ["compare.hour", earlier(1)],
    ["compare.day", earlier(24)],
    ["compare.pin", { id }],
  ]);
  /** @type {Map<string, string>} */
  const options = new Map([["", t("compare.none")]]);
  for (const [key, entry] of candidates) {
    if (entry && !options.has(entry.id)) {
      options.set(entry.id, `${t(key)} (${formatTime(parseId(entry.id))})`);
    }
  }
  if (!options.has(state.cmp)) {
    const start = parseId(state.cmp);
    options.set(state.cmp, `${formatDay(start)} ${formatTime(start)}`);
  }
  fill($("compare"), [...options], state.cmp);
}

/**
 * The ranges on offer; a range that was cut to the newest windows says so.
 * @param {Time} time
 */
export function showRanges(time) {
  const isOwn = !isOpenRange();
  const chosen = isOwn ? "own" : state.from;
  /** @type {Option[]} */
  const options = [...(USUAL_RANGES[state.lv] ?? USUAL_RANGES.day), ["own", "range.own"]];
  const labelled = options.map(([value, key]) => {
    const isCut = time.more && value === chosen;
    const cut = { range: t(key), n: time.windows.length };
    return /** @type {Option} */ ([value, isCut ? t("range.newest", cut) : t(key)]);
  });
  fill($("range"), labelled, chosen);
  $("range-own").hidden = !isOwn && $("range").value !== "own";
  if (isOwn) {
    $("from").value = fieldTime(state.from);
    $("to").value = state.to ? fieldTime(state.to) : "";
  }
}

/**
 * A moment as a field of date and time has it.
 * @param {string} id
 */
export const fieldTime = (id) => parseId(id).toISOString().slice(0, 16);

/**
 * The levels of time on offer; hidden where there is but one.
 * @param {Boot} boot
 */
export function showLevels({ levels }) {
  const current = state.lv || "window";
  const offered = LEVELS.filter((level) => level === current || levels.includes(level));
  $("level").hidden = new Set([...levels, current]).size < 2;
  fill(
    $("level"),
    offered.map((level) => [level, t(`level.${level}`)]),
    current,
  );
}

/**
 * @param {HTMLSelectElement} select
 * @param {Option[]} options
 * @param {string} chosen
 */
function fill(select, options, chosen) {
  const elements = options.map(([value, label]) =>
    h("option", { value, selected: value === chosen }, label),
  );
  select.replaceChildren(...elements);
}
