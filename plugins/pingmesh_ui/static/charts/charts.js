/**
 * Charts below the map, of what is selected: latency and loss over time, the CDF, and each server's latency. ECharts
 * comes when the first chart is scrolled into view or the reader selects something, never before the map.
 */
import { get } from "../api.js";
import { $, h, isolate } from "../dom.js";
import { saveBlob } from "../export.js";
import {
  formatCount,
  formatMoment,
  formatShare,
  formatTime,
  formatUs,
  parseId,
} from "../format.js";
import { t } from "../i18n.js";
import { downloadLink, windowKey } from "../mesh/mesh.js";
import { ends, subjectOf } from "./small_charts.js";
import { onChange, state, update } from "../state.js";
import { colours, onTheme } from "../theme.js";

const BARS = 40;
/** Charts are zoomed along their x axis: by dragging, by the wheel with shift, and by keys, which move both ends by parts of what is seen. */
const ZOOM = [{ type: "inside", zoomOnMouseWheel: "shift" }];
const KEYS = {
  "+": [0.25, -0.25],
  "=": [0.25, -0.25],
  "-": [-0.5, 0.5],
  ArrowLeft: [-0.25, -0.25],
  ArrowRight: [0.25, 0.25],
};
/** What ECharts drags a zoom with; of its buttons, which no key reaches, nothing is seen. */
const BRUSH = { itemSize: 0, showTitle: false, feature: { dataZoom: { yAxisIndex: "none" } } };
let echarts = null;
const library = async () => (echarts ??= await import("../vendor/echarts.js"));

/** A card with a head, a chart and ways to save it. `draw(chart)` returns ECharts options, or words why there is nothing. */
export function card(id, { wide = false } = {}) {
  const title = h("h2", { id: `${id}-title` });
  const box = h("div", { class: "chart", role: "img", "aria-labelledby": `${id}-title` });
  const png = h("button", { "aria-label": t("save.png") }, "PNG");
  const csv = h("a", { hidden: true }, "CSV");
  const json = h("a", { hidden: true }, "JSON");
  const element = h(
    "section",
    { class: `card${wide ? " wide" : ""}`, id },
    h("header", {}, title, png, csv, json),
    box,
  );
  let chart = null;
  let clicked = null;
  const seen = () => chart?.getOption()?.dataZoom?.[0];
  const zoom = (start, end) =>
    chart.dispatchAction({ type: "dataZoom", start: Math.max(0, start), end: Math.min(100, end) });
  box.onkeydown = (event) => {
    const at = seen();
    const by =
      event.key === "0"
        ? [-100, 100]
        : KEYS[event.key]?.map((part) => part * (at?.end - at?.start));
    if (!at || !by || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    event.preventDefault();
    const start = at.start + by[0];
    const end = at.end + by[1];
    const back = Math.max(0, -start) - Math.max(0, end - 100); // at an end, what there is no room for goes to the other side
    zoom(start + back, end + back);
  };
  box.ondblclick = () => {
    if (seen()) {
      zoom(0, 100);
    }
  };
  png.onclick = () =>
    box.querySelector("canvas")?.toBlob((blob) => saveBlob(blob, `pingmesh-${id}.png`));
  return {
    element,
    title,
    link(path, query) {
      for (const [a, format] of [
        [csv, "csv"],
        [json, "json"],
      ]) {
        a.hidden = false;
        a.href = downloadLink(path, query, format);
        a.download = `pingmesh-${id}.${format}`;
      }
    },
    say(words) {
      chart?.dispose();
      chart = null;
      box.replaceChildren(h("p", {}, words));
    },
    async set(options, onClick) {
      const { init } = await library();
      clicked = onClick; // what is drawn, and not what was drawn first
      if (!chart) {
        box.replaceChildren();
        chart = init(box);
        new ResizeObserver(() => chart?.resize()).observe(box);
        chart.on("click", (event) => clicked?.(event));
      }
      if (!options.dataZoom) {
        chart.setOption(base(options), { notMerge: true });
        return;
      }
      const { start, end } = seen() ?? {};
      chart.setOption(
        base({
          ...options,
          dataZoom: options.dataZoom.map((one) => ({ ...one, start, end })),
          toolbox: BRUSH,
        }),
        { notMerge: true },
      );
      chart.dispatchAction({
        type: "takeGlobalCursor",
        key: "dataZoomSelect",
        dataZoomSelectActive: true,
      });
      Object.assign(box, { tabIndex: 0 }).setAttribute("aria-describedby", "chart-keys");
    },
  };
}

/** What all charts have in common: the page's type and colours, a tooltip that needs no inline styles. */
function base(options) {
  const paint = colours();
  const text = {
    color: paint.muted,
    fontFamily: getComputedStyle(document.body).fontFamily,
    fontSize: 12,
  };
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const axis = (one) => ({
    axisLine: { lineStyle: { color: paint.rule } },
    splitLine: { lineStyle: { color: paint.grid } },
    ...one,
    axisLabel: { ...text, ...one.axisLabel },
    nameTextStyle: text,
  });
  const many = (value) => (Array.isArray(value) ? value : [value]);
  return {
    animation: !still,
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
      textStyle: { ...text, color: paint.ink },
      inactiveColor: paint.rule,
      ...options.legend,
    },
    tooltip: {
      trigger: "axis",
      renderMode: "richText",
      confine: true,
      backgroundColor: paint.paper,
      borderColor: paint.rule,
      textStyle: { ...text, color: paint.ink },
      ...options.tooltip,
    },
    xAxis: many(options.xAxis).map(axis),
    yAxis: many(options.yAxis).map(axis),
  };
}

export async function openCharts(view) {
  const series = card("series", { wide: true });
  const cdf = card("cdf");
  const bars = card("bars");
  const cards = { series, cdf, bars };
  $("charts").replaceChildren(
    h("p", { class: "keys", id: "chart-keys" }, t("chart.keys")),
    series.element,
    cdf.element,
    bars.element,
  );
  let seen = false;
  let asked = "";
  const refresh = async () => {
    if ($("panel-mesh").hidden || !view.axis || document.documentElement.dataset.playing) {
      return;
    }
    titles(cards);
    if (!seen) {
      return;
    }
    const key = [windowKey(view), state.sel, state.cmp, state.from, state.to].join();
    if (key === asked) {
      return;
    }
    asked = key;
    const isLast = () => asked === key; // an answer that comes late is of something else
    await Promise.all(
      [
        drawSeries(view, series, isLast),
        drawCdf(view, cdf, isLast),
        drawBars(view, bars, isLast),
      ].map((one, i) =>
        one.catch((error) => {
          if (isLast()) {
            Object.values(cards)[i].say(error.message);
          }
        }),
      ),
    );
  };
  new IntersectionObserver(
    ([entry]) => {
      if (entry.isIntersecting && !seen) {
        seen = true;
        refresh();
      }
    },
    { rootMargin: "-60px" },
  ).observe($("charts"));
  let timer = 0;
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(refresh, 120);
  };
  onChange((changed) => {
    if (["w", "sel", "cmp", "from", "to", "tab"].some((key) => changed.has(key))) {
      later();
    }
  });
  onTheme(() => {
    asked = "";
    later();
  });
  view.time.follow(() => later());
  refresh();
}

/** An axis for durations: linear from 0 where they are of a kind, log where they span more than a decade. */
function durations(values, log = {}) {
  const some = values.filter((value) => value > 0);
  const low = Math.min(...some);
  const high = Math.max(...some);
  return high / low > 20
    ? {
        type: "log",
        min: low / 1.4,
        max: high * 1.2,
        axisLabel: { formatter: formatUs, hideOverlap: true },
        ...log,
      }
    : { type: "value", axisLabel: { formatter: formatUs, hideOverlap: true } };
}

const subject = () => {
  const [src, dst] = ends();
  return !state.sel
    ? t("crumbs.all")
    : !dst
      ? t("from.host", { host: isolate(src) })
      : !src
        ? t("to.host", { host: isolate(dst) })
        : `${isolate(src)} → ${isolate(dst)}`;
};
function titles({ series, cdf, bars }) {
  series.title.textContent = t("chart.series", { what: subject() });
  cdf.title.textContent = t("chart.cdf", { what: subject() });
  bars.title.textContent = t("chart.bars", { what: t("crumbs.all") });
}

async function drawSeries(view, one, isLast) {
  const windows = view.time.windows;
  const query = { ...subjectOf(view), from: windows[0].id, to: view.time.endOf(windows.at(-1).id) };
  one.link("series", query);
  const { points } = await get("series", query);
  const paint = colours();
  if (!isLast()) {
    return;
  }
  if (!points.some((point) => point.p50_us > 0 || point.loss > 0)) {
    one.say(t("chart.nothing"));
    return;
  }
  const at = (point) => +parseId(point.window);
  const line = (key, colour, dash, width) => ({
    name: key,
    type: "line",
    showSymbol: points.length < 40,
    symbolSize: 5,
    connectNulls: false,
    data: points.map((p) => [at(p), p[`${key}_us`] || null]),
    lineStyle: { color: colour, type: dash, width },
    itemStyle: { color: colour },
  });
  const { slow_us: slow, bad_us: bad } = view.context.boot;
  const now = {
    silent: true,
    symbol: "none",
    label: { show: false },
    lineStyle: { color: paint.ink, type: "solid", width: 1 },
    data: [{ xAxis: +parseId(view.window.id) }],
  };
  await one.set(
    {
      tooltip: {
        formatter: (rows) =>
          [
            formatMoment(new Date(rows[0].value[0])),
            ...rows
              .filter((r) => r.value[1] !== null)
              .map(
                (r) =>
                  `${r.seriesName}  ${r.seriesName === t("metric.loss") ? formatShare(r.value[1]) : formatUs(r.value[1])}`,
              ),
          ].join("\n"),
      },
      xAxis: {
        type: "time",
        axisLabel: { formatter: (value) => formatTime(new Date(value)), hideOverlap: true },
      },
      yAxis: [
        durations(points.flatMap((p) => [p.p50_us, p.p99_us])),
        {
          type: "value",
          max: (range) => Math.max(range.max * 3, 0.01),
          position: "right",
          axisLabel: { formatter: formatShare, showMaxLabel: false },
          splitLine: { show: false },
        },
      ],
      grid: { left: 62, right: 56, top: 34, bottom: 34 },
      dataZoom: ZOOM,
      series: [
        {
          name: t("metric.loss"),
          type: "bar",
          yAxisIndex: 1,
          data: points.map((p) => [at(p), p.loss]),
          itemStyle: { color: paint.bad, opacity: 0.55 },
          barMaxWidth: 9,
        },
        {
          ...line("p50", paint.s0, "solid", 2.2),
          markLine: now,
          markArea: {
            silent: true,
            itemStyle: { color: paint.warn, opacity: 0.07 },
            data: [[{ yAxis: slow }, { yAxis: bad }]],
          },
        },
        line("p90", paint.s2, [6, 3], 1.6),
        line("p99", paint.s1, [2, 2], 1.8),
      ],
    },
    (event) => update({ w: points[event.dataIndex]?.window }, { step: true }),
  );
}

/** The distribution of a pair, of the protocol that was answered most, as `cdf` tells those of groups. */
function ofPair({ window, protocols }) {
  const p = protocols.reduce((best, one) => (one.answered > best.answered ? one : best));
  return {
    window,
    count: p.cdf.length,
    cdf: p.cdf,
    min_us: p.rtt_min_us,
    max_us: p.rtt_max_us,
    quantiles: { p50_us: p.rtt_p50_us, p99_us: p.rtt_p99_us },
  };
}

async function drawCdf(view, one, isLast) {
  const query = { window: view.window.id, ...subjectOf(view) };
  const paint = colours();
  const path = query.of === "pair" ? "pair" : "cdf";
  if (path === "pair") {
    delete query.of;
  }
  one.link(path, query);
  const ask = (of) => get(path, of).then((answer) => (path === "pair" ? ofPair(answer) : answer));
  const both = await Promise.all([
    ask(query),
    state.cmp ? ask({ ...query, window: state.cmp }).catch(() => null) : null,
  ]);
  if (!isLast()) {
    return;
  }
  if (!both[0].count) {
    one.say(t("chart.nothing"));
    return;
  }
  const styles = [
    [paint.s0, "solid"],
    [paint.muted, [5, 3]],
  ];
  await one.set({
    tooltip: {
      formatter: (rows) =>
        rows
          .map((r) => `${r.seriesName}: ${formatShare(r.value[1])} ≤ ${formatUs(r.value[0])}`)
          .join("\n"),
    },
    xAxis: durations([both[0].min_us, both[0].quantiles.p999_us ?? both[0].max_us], {
      max: "dataMax",
    }),
    yAxis: { type: "value", max: 1, axisLabel: { formatter: formatShare } },
    dataZoom: ZOOM,
    series: both.filter(Boolean).map(({ cdf, window, quantiles }, i) => ({
      name: formatTime(parseId(window)),
      type: "line",
      step: "end",
      showSymbol: false,
      data: cdf,
      lineStyle: { color: styles[i][0], type: styles[i][1], width: 2 },
      itemStyle: { color: styles[i][0] },
      markLine: i
        ? undefined
        : {
            silent: true,
            symbol: "none",
            lineStyle: { color: paint.rule },
            label: {
              color: paint.muted,
              position: "insideEndBottom",
              formatter: ({ name }) => name,
            },
            data: [
              ["p50", quantiles.p50_us],
              ["p99", quantiles.p99_us],
            ]
              .filter(([, us]) => us > 0)
              .map(([key, us]) => ({ name: `${key} ${formatUs(us)}`, xAxis: us })),
          },
    })),
  });
}

/** Latency of each server as a source, the worst first, before bands of the thresholds; a click selects it. */
async function drawBars(view, one, isLast) {
  const query = { window: view.window.id, of: "host" };
  const paint = colours();
  one.link("groups", query);
  const { groups } = await get("groups", query);
  if (!isLast()) {
    return;
  }
  const rows = groups
    .filter((group) => group.src && !group.dst)
    .sort((a, b) => (b.p99_us ?? Infinity) - (a.p99_us ?? Infinity))
    .slice(0, BARS);
  if (!rows.length) {
    one.say(t("chart.nothing"));
    return;
  }
  one.title.textContent = t("chart.bars", {
    what: rows.length < groups.length / 2 ? t("chart.worst", { n: rows.length }) : t("crumbs.all"),
  });
  const { slow_us: slow, bad_us: bad } = view.context.boot;
  const band = (from, to, colour) => [
    { yAxis: from, itemStyle: { color: colour, opacity: 0.09 } },
    { yAxis: to },
  ];
  await one.set(
    {
      tooltip: {
        formatter: ([{ dataIndex: i }]) => {
          const r = rows[i];
          return [
            isolate(r.src),
            `p50  ${formatUs(r.p50_us)}`,
            `p99  ${formatUs(r.p99_us)}`,
            `${t("metric.loss")}  ${formatShare(r.loss)}`,
            `${t("pairs")}  ${formatCount(r.pairs)}`,
          ].join("\n");
        },
      },
      xAxis: {
        type: "category",
        data: rows.map((r) => r.src),
        axisLabel: {
          rotate: rows.length > 8 ? 45 : 0,
          formatter: (text) => (text.length > 14 ? `${text.slice(0, 6)}…${text.slice(-6)}` : text),
        },
        triggerEvent: true,
      },
      yAxis: durations(rows.flatMap((r) => [r.p50_us, r.p99_us])),
      grid: { left: 62, right: 18, top: 34, bottom: 74 },
      dataZoom: ZOOM,
      series: [
        {
          name: "p50",
          type: "bar",
          barGap: "-100%",
          z: 3,
          data: rows.map((r) => r.p50_us),
          itemStyle: { color: paint.s0 },
          markArea: {
            silent: true,
            data: [band(slow, bad, paint.warn), band(bad, 1e9, paint.bad)],
          },
        },
        {
          name: "p99",
          type: "bar",
          data: rows.map((r) => r.p99_us),
          itemStyle: { color: paint.s1, opacity: 0.55 },
        },
      ],
    },
    ({ dataIndex }) =>
      rows[dataIndex] && update({ sel: `${rows[dataIndex].src}>` }, { step: true }),
  );
}
