/**
 * The time bar: which windows there are, which is shown, and play. In live mode it asks for new windows and follows the
 * newest. Views follow it: `time.follow(show)` calls `show(entry, options)` now and whenever another window is to be seen.
 */
import { get } from "../api.js";
import { $, afterFrame, h } from "../dom.js";
import { formatDay, formatId, formatTime, formatWindow, parseId } from "../format.js";
import { t } from "../i18n.js";
import { createPlayer } from "./player.js";
import { onChange, state, update } from "../state.js";
import { drawStrip } from "./strip.js";
import { onTheme } from "../theme.js";

const LEVELS_S = { hour: 3_600, day: 86_400 };
const RANGES = { "": 24, "1h": 1, "6h": 6, "24h": 24, "7d": 168 };
const POLL_MS = [5_000, 60_000];
/** The id of the window of `lengthS` that a moment lies in. */
const startOf = (ms, lengthS) =>
  formatId(new Date(Math.floor(ms / (1000 * lengthS)) * 1000 * lengthS));

export function openTime(context) {
  const { boot, report } = context;
  const followers = new Set();
  const time = { windows: boot.windows, older: [], lengthS: boot.window_s, points: null };
  /** The last range that was asked for, and whether it is still to come: an answer about another comes too late. */
  let turn = 0;
  let busy = false;
  const indexOf = (id) => time.windows.findIndex((entry) => entry.id === id);
  const lengthOf = (lv) => LEVELS_S[lv] ?? boot.window_s;
  const quietly = (changes, options) => {
    time.quiet = true;
    update(changes, options);
    time.quiet = false;
  };
  time.entry = (id) =>
    time.windows[indexOf(id)] ?? time.older.find((entry) => entry.id === id) ?? null;
  time.endOf = (id) => formatId(new Date(+parseId(id) + 1000 * time.lengthS));
  const isLive = () => !state.w;
  const current = () => (isLive() ? time.windows.length - 1 : indexOf(state.w));

  time.now = () => (isLive() ? time.windows.at(-1) : (time.entry(state.w) ?? { id: state.w }));
  time.follow = async (follower) => {
    await time.ready;
    followers.add(follower);
    return follower(time.now());
  };

  const show = (options) => {
    if (busy) {
      return; // what is shown next is of the range to come
    }
    mirror();
    return Promise.all([...followers].map((follower) => follower(time.now(), options)));
  };

  function mirror() {
    const at = current();
    const slider = $("slider");
    slider.max = Math.max(0, time.windows.length - 1);
    if (at >= 0) {
      slider.value = at;
    }
    slider.setAttribute(
      "aria-valuetext",
      at >= 0 ? formatWindow(time.windows[at].id, time.lengthS) : "",
    );
    $("live").setAttribute("aria-pressed", isLive());
    $("back").disabled = at === 0;
    $("next").disabled = at === time.windows.length - 1;
    if (player.playing) {
      afterFrame(() => drawStrip(time, current()));
      return;
    }
    drawStrip(time, at);
    fillCompare();
  }

  function fillCompare() {
    const select = $("compare");
    const { id } = time.now();
    const options = [["", t("compare.none")]];
    const all = [...time.older, ...time.windows];
    const back = (hours) => time.entry(startOf(parseId(id) - hours * 3_600_000, time.lengthS));
    const before = all[all.findIndex((entry) => entry.id === id) - 1];
    for (const [key, entry] of [
      ["compare.before", before],
      ["compare.hour", back(1)],
      ["compare.day", back(24)],
      ["compare.pin", { id }],
    ]) {
      // pinned: what the windows gone to next are compared with
      if (entry && !options.some(([one]) => one === entry.id)) {
        options.push([entry.id, `${t(key)} (${formatTime(parseId(entry.id))})`]);
      }
    }
    if (state.cmp && !options.some(([one]) => one === state.cmp)) {
      options.push([
        state.cmp,
        `${formatDay(parseId(state.cmp))} ${formatTime(parseId(state.cmp))}`,
      ]);
    }
    select.replaceChildren(
      ...options.map(([one, label]) =>
        h("option", { value: one, selected: one === state.cmp }, label),
      ),
    );
  }

  const player = createPlayer({ context, time, current, go: (i, options) => go(i, options) });
  function go(i, options = {}) {
    const entry = time.windows[Math.min(time.windows.length - 1, Math.max(0, i))];
    if (!entry || busy) {
      return;
    }
    quietly({ w: entry.id }, { later: options.playing });
    return show(options);
  }

  /** What the link asks for: the newest windows as they are now, or those of a range of the reader's own. */
  async function askRange() {
    const { from, to, lv } = state;
    const hours = RANGES[from];
    if (!from) {
      return get("windows");
    }
    if (!hours) {
      return get("windows", { from, to });
    }
    const newest = (await get("windows", { limit: 1 })).windows[0];
    return newest
      ? get("windows", {
          from: formatId(new Date(+parseId(newest.id) + 1000 * lengthOf(lv) - hours * 3_600_000)),
        })
      : { windows: [] };
  }

  /** Returns whether the range is there; it is not where another was asked for meanwhile. */
  async function loadRange() {
    const mine = ++turn;
    const isLast = () => mine === turn;
    busy = true;
    try {
      let answer = await askRange();
      if (!isLast()) {
        return false;
      }
      if (!answer.windows.length && state.lv) {
        report(Object.assign(new Error(t("level.empty")), { code: "no_window" }));
        quietly({ lv: "", w: "" });
        return await loadRange();
      }
      if (!answer.windows.length) {
        report(Object.assign(new Error(t("range.empty")), { code: "no_window" }));
        answer = await get("windows");
      }
      if (state.w && !time.choosing && !answer.windows.some(({ id }) => id === state.w)) {
        const at = +parseId(state.w);
        const around = await get("windows", {
          from: formatId(new Date(at - 12 * 3_600_000)),
          to: formatId(new Date(at + 12 * 3_600_000)),
        }).catch(() => null);
        if (around?.windows.length) {
          answer = around;
        }
      }
      if (!isLast()) {
        return false;
      }
      Object.assign(time, {
        windows: answer.windows,
        older: [],
        more: answer.more,
        lengthS: lengthOf(state.lv),
        points: null,
      });
    } catch (error) {
      if (isLast()) {
        throw error;
      }
      return false;
    } finally {
      if (isLast()) {
        busy = false;
      }
    }
    levelOptions();
    rangeOptions();
    mirror();
    if (followers.size) {
      askRest();
    }
    return true;
  }

  function changeRange() {
    loadRange()
      .then((isThere) => {
        if (!isThere) {
          return;
        }
        if ((time.moving || time.choosing) && state.w && indexOf(state.w) < 0) {
          quietly({ w: "" });
        }
        time.moving = time.choosing = false;
        return show();
      })
      .catch((error) => report(error, changeRange));
  }

  function rangeOptions() {
    const mine = state.from && !(state.from in RANGES);
    const chosen = mine ? "own" : state.from;
    const label = (value, key) =>
      time.more && value === chosen
        ? t("range.newest", { range: t(key), n: time.windows.length })
        : t(key);
    const usual = state.lv
      ? [["", state.lv === "hour" ? "range.7d" : "range.31d"]]
      : [
          ["", "range.24h"],
          ["1h", "range.1h"],
          ["6h", "range.6h"],
          ["7d", "range.7d"],
        ];
    $("range").replaceChildren(
      ...[...usual, ["own", "range.own"]].map(([value, key]) =>
        h("option", { value, selected: value === chosen }, label(value, key)),
      ),
    );
    $("range-own").hidden = !mine && $("range").value !== "own";
    if (mine) {
      $("from").value = parseId(state.from).toISOString().slice(0, 16);
      $("to").value = state.to ? parseId(state.to).toISOString().slice(0, 16) : "";
    }
  }

  function levelOptions() {
    const offered = new Set([...boot.levels, state.lv || "window"]);
    $("level").hidden = offered.size < 2;
    $("level").replaceChildren(
      ...["window", "hour", "day"]
        .filter((level) => offered.has(level))
        .map((level) =>
          h(
            "option",
            { value: level, selected: level === (state.lv || "window") },
            t(`level.${level}`),
          ),
        ),
    );
  }

  /** A range that the reader chooses is that range, whatever is shown now; one that a link names has its window in it. */
  function choose(range) {
    time.choosing = true;
    update(range, { step: true });
  }

  /** The hour or day of what is shown; the newest one where that is not rolled up yet. */
  function showLevel(lv) {
    const w = state.w && startOf(+parseId(state.w), lengthOf(lv));
    player.stop();
    time.moving = true;
    update({ lv, w, from: "", to: "", cmp: "" }, { step: true });
  }

  /** The mesh over the whole range under the slider; it can wait until the first picture is there. */
  async function askStrip() {
    const first = time.windows[0];
    const last = time.windows.at(-1);
    const mine = turn;
    const answer = await get("series", {
      of: "mesh",
      from: first.id,
      to: time.endOf(last.id),
      points: 288,
    }).catch(() => null);
    if (mine !== turn) {
      return;
    }
    time.points = answer?.points ?? null;
    drawStrip(time, current());
  }

  /** The windows of a day before the range, to compare with. */
  async function askOlder() {
    const mine = turn;
    const first = time.windows[0].id;
    const answer = await get("windows", {
      from: formatId(new Date(parseId(first) - 24 * 3_600_000)),
      to: first,
    }).catch(() => null);
    if (mine !== turn || !answer) {
      return;
    }
    time.older = answer.windows;
    fillCompare();
  }

  const askRest = () => {
    askStrip();
    askOlder();
  };

  $("slider").oninput = () => {
    player.stop();
    go(Number($("slider").value), { dragging: true });
  };
  $("back").onclick = () => {
    player.stop();
    go(current() - 1);
  };
  $("next").onclick = () => {
    player.stop();
    go(current() + 1);
  };
  $("play").onclick = () => player.toggle();
  $("speed").onchange = () => player.speed(Number($("speed").value));
  player.mirror();
  $("live").onclick = () => {
    player.stop();
    update({ w: isLive() ? time.windows.at(-1)?.id : "" }, { step: true });
  };
  $("level").onchange = () => showLevel($("level").value === "window" ? "" : $("level").value);
  $("range").onchange = () => {
    if ($("range").value === "own") {
      $("range-own").hidden = false;
      $("from").value = parseId(time.windows[0].id).toISOString().slice(0, 16);
      $("to").value = parseId(time.windows.at(-1).id).toISOString().slice(0, 16);
      $("from").focus();
    } else {
      choose({ from: $("range").value, to: "" });
    }
  };
  for (const id of ["from", "to"]) {
    $(id).onchange = () => {
      const moment = (field) => ($(field).value ? formatId(new Date(`${$(field).value}Z`)) : "");
      if ($("from").value) {
        choose({ from: moment("from"), to: moment("to") });
      }
    };
  }
  document.addEventListener("keydown", (event) => {
    if (
      event.target.closest("input, select, textarea, button, a, tr[tabindex]") ||
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      $("time").hidden
    ) {
      return;
    }
    if (event.key === " ") {
      event.preventDefault();
      player.toggle();
    } else if (event.key === "," || event.key === "[") {
      player.stop();
      go(current() - 1);
    } else if (event.key === "." || event.key === "]") {
      player.stop();
      go(current() + 1);
    }
  });
  onChange((changed) => {
    if (time.quiet) {
      return;
    }
    const any = (...keys) => keys.some((key) => changed.has(key));
    if (any("from", "to", "lv")) {
      player.halt();
      changeRange();
      return;
    }
    const wasPlaying = any("w", "m", "q", "sort", "cmp") && player.halt(); // the frames that wait are of what was asked for before
    if (any("w") || wasPlaying) {
      show();
    } else if (any("cmp")) {
      fillCompare();
    }
  });
  onTheme(() => drawStrip(time, current()));
  new ResizeObserver(() => drawStrip(time, current())).observe($("strip"));

  /** Look for new windows; in live mode, show the newest. Rarer while the page is hidden. */
  async function poll() {
    const wait = Math.min(POLL_MS[1], Math.max(POLL_MS[0], (1000 * time.lengthS) / 6));
    const mine = turn;
    try {
      const newest = time.windows.at(-1);
      if (!busy && !document.hidden && (!state.from || state.from in RANGES)) {
        const answer = await get("windows", { from: newest.id });
        const windows = mine === turn ? answer.windows : [];
        const fresh = windows.filter((entry) => indexOf(entry.id) < 0);
        const again = windows.find(({ id, v }) => id === newest.id && v !== newest.v);
        if (again) {
          time.windows[time.windows.length - 1] = again; // made anew, as the day so far is every hour
        }
        if (fresh.length || again) {
          time.older = [...time.older.slice(fresh.length), ...time.windows.slice(0, fresh.length)];
          time.windows = [...time.windows.slice(fresh.length), ...fresh]; // as many as before
          if (isLive()) {
            report(null);
            show();
          } else {
            mirror();
          }
          askStrip();
        }
      }
    } catch (error) {
      if (mine === turn) {
        report(error, () => show());
      }
    }
    time.timer = setTimeout(poll, wait);
  }

  mirror();
  levelOptions();
  const first =
    state.from || state.lv || (state.w && indexOf(state.w) < 0)
      ? loadRange()
      : Promise.resolve(rangeOptions());
  time.ready = first.catch((error) => report(error));
  time.rest = () => {
    time.rest = () => {};
    askRest();
    time.timer = setTimeout(poll, POLL_MS[0]);
  };
  return time;
}
