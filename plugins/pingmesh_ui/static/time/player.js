/** Play: one window after another, from pooled levels that are fetched ahead; at rest the window is shown in full. */
import { $ } from "../dom.js";
import { t } from "../i18n.js";

const AHEAD = 6;
const STEP_MS = 800;

export function createPlayer({ context, time, current, go }) {
  let timer = 0;
  let playing = false;
  let factor = 2;
  let frames = new Map();
  const player = {
    get playing() {
      return playing;
    },
    speed(value) {
      factor = value;
    },
    toggle() {
      (playing ? player.stop : start)();
    },
    /** End play and leave the rest to the caller; returns whether there was anything to end. */
    halt() {
      if (!playing) {
        return false;
      }
      playing = false;
      clearTimeout(timer);
      frames = new Map();
      delete document.documentElement.dataset.playing;
      player.mirror();
      return true;
    },
    stop() {
      if (player.halt()) {
        go(current());
      }
    },
    mirror() {
      $("play").textContent = playing ? t("pause") : t("play");
      $("play").setAttribute("aria-pressed", playing);
    },
  };

  function start() {
    playing = true;
    document.documentElement.dataset.playing = "1";
    player.mirror();
    const from = current();
    step(from >= time.windows.length - 1 ? 0 : from + 1);
  }

  /** Frames i … i + AHEAD are asked for; frames that are behind are dropped. */
  function fetchAhead(i) {
    const wanted = new Set();
    for (let k = i; k <= Math.min(time.windows.length - 1, i + AHEAD); k++) {
      const entry = time.windows[k];
      wanted.add(entry.id);
      if (frames.has(entry.id)) {
        continue;
      }
      const frame = context.frame ? context.frame(entry) : Promise.resolve(null);
      frame.catch(() => {}); // said when its turn comes, if ever it does
      frames.set(entry.id, frame);
    }
    for (const id of frames.keys()) {
      if (!wanted.has(id)) {
        frames.delete(id);
      }
    }
  }

  async function step(i) {
    const began = performance.now();
    const mine = frames;
    fetchAhead(i);
    const frame = await frames.get(time.windows[i].id).catch((error) => {
      context.report(error);
      return null;
    });
    await new Promise(requestAnimationFrame); // at the beginning of a frame, so that it is drawn in this one
    if (mine !== frames) {
      return; // play has ended, and may have begun anew
    }
    performance.clearMarks("step");
    performance.mark("step");
    go(i, { playing: true, frame });
    if (i >= time.windows.length - 1) {
      player.stop();
      return;
    }
    timer = setTimeout(
      () => step(i + 1),
      Math.max(0, STEP_MS / factor - (performance.now() - began)),
    );
  }
  return player;
}
