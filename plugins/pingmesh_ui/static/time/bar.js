/**
 * The time bar: which windows there are, which is shown, and play. In live mode it asks for new
 * windows and follows the newest.
 */
import { get } from "../api.js";
import { $ } from "../dom.js";
import { formatId, parseId } from "../format.js";
import { onChange, state, update } from "../state.js";
import { onTheme } from "../theme.js";
import { fieldTime, showComparisons, showLevels, showPlace, showRanges } from "./controls.js";
import { Player } from "./player.js";
import { loadRange } from "./range.js";
import { startPolling } from "./polling.js";
import { drawStrip } from "./strip.js";
import { createTime, hoursBefore, isLive, lengthOf, startOf, updateQuietly } from "./windows.js";

/** @import { Series, WindowList } from "../../types/api.js" */
/** @import { Context } from "../app.js" */
/** @import { Changes, StateKey } from "../state.js" */
/** @import { ShowOptions, Time } from "./windows.js" */

/** Points of the strip that are asked for. */
const STRIP_POINTS = 288;
/** Elements in which keys have a meaning of their own. */
const OWN_KEYS = "input, select, textarea, button, a, tr[tabindex]";

/**
 * Open the bar with the range that the link names; `time.ready` is when it is there.
 * @param {Context} context
 * @returns {Time}
 */
export function openTime(context) {
  const bar = new Bar(context);
  return bar.time;
}

class Bar {
  #context;
  #player;

  /** @param {Context} context */
  constructor(context) {
    this.#context = context;
    this.time = createTime(context.boot);
    this.#player = new Player(context, this.time, (i, options) => this.#go(i, options));
    this.#attachSteps();
    this.#attachRange();
    document.addEventListener("keydown", (event) => this.#press(event));
    onChange((changed) => this.#follow(changed));
    const draw = () => drawStrip(this.time, this.time.current());
    onTheme(draw);
    new ResizeObserver(draw).observe($("strip"));

    this.#mirror();
    showLevels(context.boot);
    this.time.ready = this.#loadFirst();
    this.time.rest = () => this.#rest();
  }

  /** The range of the link, where it is not that of `boot`. */
  async #loadFirst() {
    const isOther = state.from || state.lv || (state.w && this.time.indexOf(state.w) < 0);
    if (!isOther) {
      showRanges(this.time);
      return;
    }
    await this.#loadRange().catch((error) => this.#context.report(error));
  }

  /** What can wait for the first picture, once. */
  #rest() {
    this.time.rest = () => {};
    this.#askRest();
    startPolling(this.#context, this.time, {
      showNewest: () => this.#show(),
      mirror: () => this.#mirror(),
      askStrip: () => this.#askStrip(),
    });
  }

  // ---- showing ----------------------------------------------------------------------------------

  #mirror() {
    showPlace(this.time, this.#player.isPlaying);
  }

  /**
   * Have the followers show the window that is due; nothing while another range is to come.
   * @param {ShowOptions} [options]
   */
  async #show(options) {
    const { busy, followers } = this.time;
    if (!busy) {
      this.#mirror();
      await Promise.all([...followers].map((follower) => follower(this.time.now(), options)));
    }
  }

  /**
   * Show the window at a place of the slider.
   * @param {number} i
   * @param {ShowOptions} [options]
   */
  #go(i, options = {}) {
    const { windows, busy } = this.time;
    const entry = windows[Math.min(windows.length - 1, Math.max(0, i))];
    if (entry && !busy) {
      updateQuietly(this.time, { w: entry.id }, { later: options.playing });
      this.#show(options);
    }
  }

  // ---- ranges -----------------------------------------------------------------------------------

  #loadRange() {
    return loadRange(this.#context, this.time, () => {
      showLevels(this.#context.boot);
      showRanges(this.time);
      this.#mirror();
      if (this.time.followers.size) {
        this.#askRest();
      }
    });
  }

  async #changeRange() {
    const { time } = this;
    try {
      if (!(await this.#loadRange())) {
        return;
      }
      if ((time.moving || time.choosing) && state.w && time.indexOf(state.w) < 0) {
        updateQuietly(time, { w: "" });
      }
      time.moving = false;
      time.choosing = false;
      await this.#show();
    } catch (error) {
      this.#context.report(error, () => this.#changeRange());
    }
  }

  /**
   * The range that the reader chooses, whatever is shown now; a link's range has its window in it.
   * @param {Changes} range
   */
  #choose(range) {
    this.time.choosing = true;
    update(range, { step: true });
  }

  /**
   * The hour or day of the window that is shown; the newest where that is not rolled up yet.
   * @param {string} lv
   */
  #showLevel(lv) {
    const w = state.w && startOf(+parseId(state.w), lengthOf(lv, this.#context.boot));
    this.#player.stop();
    this.time.moving = true;
    update({ lv, w, from: "", to: "", cmp: "" }, { step: true });
  }

  // ---- what can wait ----------------------------------------------------------------------------

  #askRest() {
    this.#askStrip();
    this.#askOlder();
  }

  /** The mesh over the range, under the slider. */
  async #askStrip() {
    const { time } = this;
    const { windows, turn } = time;
    const to = time.endOf(windows[windows.length - 1].id);
    const query = { of: "mesh", from: windows[0].id, to, points: STRIP_POINTS };
    /** @type {Series | null} */
    const answer = await get("series", query).catch(() => null);
    if (turn === time.turn) {
      time.points = answer?.points ?? null;
      drawStrip(time, time.current());
    }
  }

  /** The windows of a day before the range, to compare with. */
  async #askOlder() {
    const { time } = this;
    const { turn } = time;
    const to = time.windows[0].id;
    /** @type {WindowList | null} */
    const answer = await get("windows", { from: hoursBefore(to, 24), to }).catch(() => null);
    if (turn === time.turn && answer) {
      time.older = answer.windows;
      showComparisons(time);
    }
  }

  // ---- input ------------------------------------------------------------------------------------

  #attachSteps() {
    const player = this.#player;
    $("slider").oninput = () => this.#stopAt(Number($("slider").value));
    $("back").onclick = () => this.#step(-1);
    $("next").onclick = () => this.#step(1);
    $("play").onclick = () => player.toggle();
    $("speed").onchange = () => player.setSpeed(Number($("speed").value));
    $("live").onclick = () => {
      player.stop();
      update({ w: isLive() ? this.time.windows.at(-1)?.id : "" }, { step: true });
    };
    player.mirror();
  }

  #attachRange() {
    $("level").onchange = () => {
      const level = $("level").value;
      this.#showLevel(level === "window" ? "" : level);
    };
    $("range").onchange = () => {
      if ($("range").value === "own") {
        this.#offerOwnRange();
      } else {
        this.#choose({ from: $("range").value, to: "" });
      }
    };
    const choose = () => {
      if ($("from").value) {
        this.#choose({ from: momentOf($("from")), to: momentOf($("to")) });
      }
    };
    $("from").onchange = choose;
    $("to").onchange = choose;
  }

  #offerOwnRange() {
    const { windows } = this.time;
    $("range-own").hidden = false;
    $("from").value = fieldTime(windows[0].id);
    $("to").value = fieldTime(windows[windows.length - 1].id);
    $("from").focus();
  }

  /** @param {number} i */
  #stopAt(i) {
    this.#player.stop();
    this.#go(i);
  }

  /** @param {number} by */
  #step(by) {
    this.#player.stop();
    this.#go(this.time.current() + by);
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const target = /** @type {Element} */ (event.target);
    const isOther = event.ctrlKey || event.metaKey || event.altKey || target.closest(OWN_KEYS);
    if (isOther || $("time").hidden) {
      return;
    }
    if (event.key === " ") {
      event.preventDefault();
      this.#player.toggle();
    } else if (event.key === "," || event.key === "[") {
      this.#step(-1);
    } else if (event.key === "." || event.key === "]") {
      this.#step(1);
    }
  }

  /**
   * What a change of the state means for the bar.
   * @param {Set<StateKey>} changed
   */
  #follow(changed) {
    if (this.time.quiet) {
      return;
    }
    /** @param {StateKey[]} keys */
    const any = (...keys) => keys.some((key) => changed.has(key));
    if (any("from", "to", "lv")) {
      this.#player.halt();
      this.#changeRange();
      return;
    }
    // Frames that wait are of what was asked for before.
    const wasPlaying = any("w", "m", "q", "sort", "cmp") && this.#player.halt();
    if (any("w") || wasPlaying) {
      this.#show();
    } else if (any("cmp")) {
      showComparisons(this.time);
    }
  }
}

/** @param {HTMLInputElement} field */
const momentOf = ({ value }) => (value ? formatId(new Date(`${value}Z`)) : "");
