/**
 * Play: one window after another, from pooled levels that are fetched ahead; at rest the window is
 * shown in full.
 */
import { $ } from "../dom.js";
import { t } from "../i18n.js";

/** @import { Context } from "../app.js" */
/** @import { Frame } from "../view.js" */
/** @import { ShowOptions, Time } from "./windows.js" */

/** Frames that are fetched ahead. */
const AHEAD = 6;
/** A window is shown so long, divided by the speed. */
const STEP_MS = 800;

export class Player {
  isPlaying = false;
  #context;
  #time;
  #go;
  #speed = 2;
  #timer = 0;
  /**
   * Frames by window. The end of play makes a new map, by which a step under way knows of it.
   * @type {Map<string, Promise<Frame | null>>}
   */
  #frames = new Map();

  /**
   * @param {Context} context
   * @param {Time} time
   * @param {(i: number, options?: ShowOptions) => void} go show the window at a place of the slider
   */
  constructor(context, time, go) {
    this.#context = context;
    this.#time = time;
    this.#go = go;
  }

  /** @param {number} speed 1 is a window every STEP_MS */
  setSpeed(speed) {
    this.#speed = speed;
  }

  toggle() {
    if (this.isPlaying) {
      this.stop();
    } else {
      this.#start();
    }
  }

  /** End play and leave the rest to the caller; returns whether there was anything to end. */
  halt() {
    if (!this.isPlaying) {
      return false;
    }
    this.isPlaying = false;
    clearTimeout(this.#timer);
    this.#frames = new Map();
    delete document.documentElement.dataset.playing;
    this.mirror();
    return true;
  }

  /** End play and show the window in full. */
  stop() {
    if (this.halt()) {
      this.#go(this.#time.current());
    }
  }

  /** The button shows whether windows are played. */
  mirror() {
    $("play").textContent = this.isPlaying ? t("pause") : t("play");
    $("play").setAttribute("aria-pressed", String(this.isPlaying));
  }

  /** Play from the window that is shown; from the first where that is the last. */
  #start() {
    this.isPlaying = true;
    document.documentElement.dataset.playing = "1";
    this.mirror();
    const next = this.#time.current() + 1;
    this.#step(next >= this.#time.windows.length ? 0 : next);
  }

  /**
   * Ask for the frames from i on, and drop those behind.
   * @param {number} i
   */
  #fetchAhead(i) {
    const wanted = this.#time.windows.slice(i, i + AHEAD + 1);
    for (const entry of wanted) {
      if (!this.#frames.has(entry.id)) {
        const frame = this.#context.frame?.(entry) ?? Promise.resolve(null);
        frame.catch(() => {}); // reported when it is due, if it ever is
        this.#frames.set(entry.id, frame);
      }
    }
    const ids = new Set(wanted.map((entry) => entry.id));
    for (const id of this.#frames.keys()) {
      if (!ids.has(id)) {
        this.#frames.delete(id);
      }
    }
  }

  /** @param {number} i */
  async #step(i) {
    const began = performance.now();
    const frames = this.#frames;
    this.#fetchAhead(i);
    const frame = await frames.get(this.#time.windows[i].id)?.catch((error) => {
      this.#context.report(error);
      return null;
    });
    await new Promise(requestAnimationFrame); // at the beginning of a frame, to be drawn in it
    if (frames !== this.#frames) {
      return; // play has ended, and may have begun anew
    }
    performance.clearMarks("step");
    performance.mark("step"); // benchmarks/page_probes.js measures from here
    this.#go(i, { playing: true, frame });
    if (i >= this.#time.windows.length - 1) {
      this.stop();
      return;
    }
    const waitMs = STEP_MS / this.#speed - (performance.now() - began);
    this.#timer = setTimeout(() => this.#step(i + 1), Math.max(0, waitMs));
  }
}
