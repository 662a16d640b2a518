/**
 * Charts below the map, of what is selected: latency and loss over time, the distribution, and each
 * server's latency. They are drawn when the first of them is scrolled into view, never before the
 * map.
 */
import { $, h, isPlaying, isolate } from "../dom.js";
import { t } from "../i18n.js";
import { onChange, state } from "../state.js";
import { onTheme } from "../theme.js";
import { ends, windowKey } from "../view.js";
import { drawBars } from "./bars_chart.js";
import { Card } from "./card.js";
import { drawCdf } from "./cdf_chart.js";
import { drawSeries } from "./series_chart.js";

/** @import { StateKey } from "../state.js" */
/** @import { View } from "../view.js" */

/** Charts are drawn when the state has not changed for so long. */
const PATIENCE_MS = 120;
/** @type {StateKey[]} */
const FOLLOWED = ["w", "sel", "cmp", "from", "to", "tab"];

/** @param {View} view */
export function openCharts(view) {
  const cards = {
    series: new Card("series", { wide: true }),
    cdf: new Card("cdf"),
    bars: new Card("bars"),
  };
  const elements = Object.values(cards).map((card) => card.element);
  const keys = h("p", { class: "keys", id: "chart-keys" }, t("chart.keys"));
  $("charts").replaceChildren(keys, ...elements);

  let isSeen = false;
  /** The key of what is drawn, or asked for. */
  let drawn = "";
  const refresh = async () => {
    if ($("panel-mesh").hidden || !view.axis || isPlaying()) {
      return;
    }
    setTitles(cards);
    const key = [windowKey(view), state.sel, state.cmp, state.from, state.to].join();
    if (isSeen && key !== drawn) {
      drawn = key;
      await drawAll(view, cards, () => drawn === key);
    }
  };
  let timer = 0;
  const refreshLater = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, PATIENCE_MS);
  };

  whenSeen($("charts"), () => {
    isSeen = true;
    refresh();
  });
  onChange((changed) => {
    if (FOLLOWED.some((key) => changed.has(key))) {
      refreshLater();
    }
  });
  onTheme(() => {
    drawn = "";
    refreshLater();
  });
  view.time.follow(refreshLater);
  refresh();
}

/**
 * Call once, when an element is scrolled into view.
 * @param {HTMLElement} element
 * @param {() => void} then
 */
function whenSeen(element, then) {
  const observer = new IntersectionObserver(
    ([entry]) => {
      if (entry.isIntersecting) {
        observer.disconnect();
        then();
      }
    },
    { rootMargin: "-60px" },
  );
  observer.observe(element);
}

/** @typedef {{ series: Card, cdf: Card, bars: Card }} Cards */

/**
 * @param {View} view
 * @param {Cards} cards
 * @param {() => boolean} isLast an answer that comes late is of something else
 */
async function drawAll(view, { series, cdf, bars }, isLast) {
  /**
   * @param {Card} card
   * @param {(view: View, card: Card, isLast: () => boolean) => Promise<void>} draw
   */
  const drawOn = (card, draw) =>
    draw(view, card, isLast).catch((error) => {
      if (isLast()) {
        card.say(error.message);
      }
    });
  await Promise.all([drawOn(series, drawSeries), drawOn(cdf, drawCdf), drawOn(bars, drawBars)]);
}

/** @param {Cards} cards */
function setTitles({ series, cdf, bars }) {
  series.title.textContent = t("chart.series", { what: subject() });
  cdf.title.textContent = t("chart.cdf", { what: subject() });
  bars.title.textContent = t("chart.bars", { what: t("crumbs.all") });
}

/** The selection in words. */
function subject() {
  const [src, dst] = ends();
  if (!state.sel) {
    return t("crumbs.all");
  }
  if (!dst) {
    return t("from.host", { host: isolate(src) });
  }
  return src ? `${isolate(src)} → ${isolate(dst)}` : t("to.host", { host: isolate(dst) });
}
