/**
 * A card: a chart with its title and ways to save it. Charts are zoomed along their x axis by
 * dragging, by the wheel with shift, and by keys. ECharts is loaded with the first chart.
 */
import { downloadLink } from "../api.js";
import { h } from "../dom.js";
import { saveBlob } from "../export.js";
import { t } from "../i18n.js";
import { colours } from "../theme.js";

/** @import { Query } from "../api.js" */
/** @import { Format } from "../export.js" */
/** @import { Chart } from "../vendor/echarts.js" */

/** @typedef {Record<string, any>} Options options of ECharts */
/** @typedef {(event: { dataIndex: number }) => void} OnClick */

/** The option of charts that are zoomed. */
export const ZOOM = [{ type: "inside", zoomOnMouseWheel: "shift" }];
/** How far a key moves the two ends of what is seen, in parts of it. */
/** @type {Record<string, [start: number, end: number]>} */
const KEYS = {
  "+": [0.25, -0.25],
  "=": [0.25, -0.25],
  "-": [-0.5, 0.5],
  ArrowLeft: [-0.25, -0.25],
  ArrowRight: [0.25, 0.25],
};
/** What ECharts drags a zoom with; its buttons, which no key reaches, are not shown. */
const BRUSH = {
  itemSize: 0,
  showTitle: false,
  feature: { dataZoom: { yAxisIndex: "none" } },
};

export class Card {
  /** @type {Chart | null} */
  #chart = null;
  /** @type {OnClick | undefined} */
  #onClick;
  #id;
  #box;
  #links;

  /**
   * @param {string} id
   * @param {{ wide?: boolean }} [options]
   */
  constructor(id, { wide = false } = {}) {
    this.#id = id;
    this.title = h("h2", { id: `${id}-title` });
    this.#box = h("div", { class: "chart", role: "img", "aria-labelledby": `${id}-title` });
    this.#links = {
      csv: h("a", { hidden: true }, "CSV"),
      json: h("a", { hidden: true }, "JSON"),
    };
    const png = h("button", { "aria-label": t("save.png") }, "PNG");
    const head = h("header", {}, this.title, png, this.#links.csv, this.#links.json);
    this.element = h("section", { class: `card${wide ? " wide" : ""}`, id }, head, this.#box);

    png.onclick = () => this.#savePicture();
    this.#box.onkeydown = (event) => this.#press(event);
    this.#box.ondblclick = () => {
      if (this.#seen()) {
        this.#zoom(0, 100);
      }
    };
  }

  #savePicture() {
    const canvas = this.#box.querySelector("canvas");
    canvas?.toBlob((blob) => blob && saveBlob(blob, `pingmesh-${this.#id}.png`));
  }

  /**
   * What the links save.
   * @param {string} path
   * @param {Query} query
   */
  link(path, query) {
    for (const format of /** @type {Format[]} */ (["csv", "json"])) {
      const link = this.#links[format];
      link.hidden = false;
      link.href = downloadLink(path, query, format);
      link.download = `pingmesh-${this.#id}.${format}`;
    }
  }

  /**
   * Show words in place of the chart.
   * @param {string} words
   */
  say(words) {
    this.#chart?.dispose();
    this.#chart = null;
    this.#box.replaceChildren(h("p", {}, words));
  }

  /**
   * Draw a chart; what is seen of the x axis stays.
   * @param {Options} options
   * @param {OnClick} [onClick] of this chart, not of the one that was drawn before
   */
  async set(options, onClick) {
    const { init } = await import("../vendor/echarts.js");
    this.#onClick = onClick;
    this.#chart ??= this.#start(init);
    if (!options.dataZoom) {
      this.#chart.setOption(withStyle(options), { notMerge: true });
      return;
    }
    const { start, end } = this.#seen() ?? {};
    const dataZoom = options.dataZoom.map((/** @type {object} */ zoom) => ({
      ...zoom,
      start,
      end,
    }));
    this.#chart.setOption(withStyle({ ...options, dataZoom, toolbox: BRUSH }), { notMerge: true });
    this.#chart.dispatchAction({
      type: "takeGlobalCursor",
      key: "dataZoomSelect",
      dataZoomSelectActive: true,
    });
    this.#box.tabIndex = 0;
    this.#box.setAttribute("aria-describedby", "chart-keys");
  }

  /** @param {(element: HTMLElement) => Chart} init */
  #start(init) {
    this.#box.replaceChildren();
    const chart = init(this.#box);
    new ResizeObserver(() => this.#chart?.resize()).observe(this.#box);
    chart.on("click", (event) => this.#onClick?.(event));
    return chart;
  }

  /** The part of the x axis that is seen, in per cent. */
  #seen() {
    return this.#chart?.getOption()?.dataZoom?.[0];
  }

  /**
   * @param {number} start
   * @param {number} end
   */
  #zoom(start, end) {
    this.#chart?.dispatchAction({
      type: "dataZoom",
      start: Math.max(0, start),
      end: Math.min(100, end),
    });
  }

  /** @param {KeyboardEvent} event */
  #press(event) {
    const seen = this.#seen();
    if (!seen || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const moved = movedBy(event.key, seen);
    if (moved) {
      event.preventDefault();
      this.#zoom(moved.start, moved.end);
    }
  }
}

/**
 * What is seen after a key; null where the key means nothing. At an end, the part that there is no
 * room for goes to the other side.
 * @param {string} key
 * @param {{ start: number, end: number }} seen per cent
 */
export function movedBy(key, seen) {
  if (key === "0") {
    return { start: 0, end: 100 };
  }
  const parts = KEYS[key];
  if (!parts) {
    return null;
  }
  const length = seen.end - seen.start;
  const start = seen.start + parts[0] * length;
  const end = seen.end + parts[1] * length;
  const back = Math.max(0, -start) - Math.max(0, end - 100);
  return { start: start + back, end: end + back };
}

/**
 * What all charts have in common: the page's type and colours, and a tooltip that needs no inline
 * styles, which the page's CSP forbids.
 * @param {Options} options
 * @returns {Options}
 */
function withStyle(options) {
  const paint = colours();
  const { fontFamily } = getComputedStyle(document.body);
  const text = { color: paint.muted, fontFamily, fontSize: 12 };
  const ink = { ...text, color: paint.ink };
  /** @param {Options} one */
  const axis = (one) => ({
    axisLine: { lineStyle: { color: paint.rule } },
    splitLine: { lineStyle: { color: paint.grid } },
    ...one,
    axisLabel: { ...text, ...one.axisLabel },
    nameTextStyle: text,
  });
  return {
    animation: !matchMedia("(prefers-reduced-motion: reduce)").matches,
    animationDuration: 250,
    backgroundColor: paint.paper,
    textStyle: text,
    aria: { enabled: true },
    grid: { left: 62, right: 18, top: 34, bottom: 34 },
    ...options,
    legend: {
      top: 0,
      left: 0,
      itemHeight: 8,
      itemWidth: 18,
      icon: "roundRect",
      textStyle: ink,
      inactiveColor: paint.rule,
      ...options.legend,
    },
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      confine: true,
      backgroundColor: paint.paper,
      borderColor: paint.rule,
      textStyle: ink,
      ...options.tooltip,
    },
    xAxis: [options.xAxis].flat().map(axis),
    yAxis: [options.yAxis].flat().map(axis),
  };
}
