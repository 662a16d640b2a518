/** The legend: the ramp with its numbers, and what each hatch says. */
import { $, h } from "../dom.js";
import { formatClock, formatValue } from "../format.js";
import { t } from "../i18n.js";
import { FAILED, MISSING, NOT_PLANNED, UNCLEAN, isChange } from "../map/codes.js";
import { buildLut, colourAt, css, place, ticks } from "../map/palette.js";
import { sample } from "../map/sampler.js";
import { state } from "../state.js";
import { theme } from "../theme.js";

const STEPS = 240;

export function drawLegend(view) {
  const said = JSON.stringify([
    view.scale,
    theme,
    document.documentElement.lang,
    view.metric().name,
    view.map.hatch,
    view.compares() && state.cmp,
    view.levels && view.header.normal,
  ]);
  if ($("legend").dataset.said === said) {
    return;
  }
  $("legend").dataset.said = said;
  const { scale } = view;
  const ramp = h("canvas", { class: "ramp", width: STEPS, height: 1 });
  const c = ramp.getContext("2d");
  for (let i = 0; i < STEPS; i++) {
    c.fillStyle = css(colourAt(scale, valueAt(scale, (i + 0.5) / STEPS)));
    c.fillRect(i, 0, 1, 1);
  }
  const marks = [
    [FAILED, "state.failed.short"],
    [MISSING, "state.missing.short"],
    [UNCLEAN, "state.unclean.short"],
    [NOT_PLANNED, isChange(scale.kind) ? "state.nothing" : "state.not_planned"],
  ];
  $("legend").replaceChildren(
    h(
      "h2",
      {},
      `${t(`metric.${view.metric().name}`)}${view.compares() ? ` · ${t("tip.change")}` : ""}`,
    ),
    ramp,
    h("div", { class: "ticks" }, labels(scale)),
    isChange(scale.kind) ? h("p", { class: "place" }, unit(view)) : "",
    h(
      "div",
      { class: "marks" },
      marks.map(([code, key]) => h("span", {}, swatch(scale, code), t(key))),
      view.map.hatch ? h("span", {}, lossSwatch(), t("legend.loss")) : "",
    ),
  );
}

/** What the numbers of a change are multiples of, or points against. */
function unit(view) {
  if (view.compares()) {
    return t(`legend.${view.scale.kind}`, { window: formatClock(state.cmp) });
  }
  if (!view.levels) {
    return "";
  }
  const { normal } = view.header;
  return normal ? t("legend.normal", { window: formatClock(normal) }) : t("verdict.no_normal");
}

/** The number at a place of the ramp; thresholds are thirds. */
function valueAt(scale, at) {
  if (scale.mode === "threshold") {
    return at < 1 / 3 ? scale.low / 2 : at < 2 / 3 ? (scale.low + scale.high) / 2 : scale.high * 2;
  }
  return scale.mode === "linear"
    ? scale.low + at * (scale.high - scale.low)
    : scale.low * (scale.high / scale.low) ** at;
}

function labels(scale) {
  const all = ticks(scale);
  return all.map((value, i) => {
    const at = scale.mode === "threshold" ? (i + 1) / 3 : place(scale, value);
    const label = h("span", {}, formatValue(value, scale.kind));
    label.style.left = `${100 * at}%`;
    label.style.transform = `translateX(${scale.mode === "threshold" ? -50 : -100 * at}%)`;
    return label;
  });
}

function swatch(scale, code) {
  const size = 18;
  const canvas = h("canvas", { width: size, height: size, "aria-hidden": "true" });
  const image = new ImageData(size, size);
  const lut = buildLut(scale, theme);
  sample(
    new Uint32Array(image.data.buffer),
    size,
    size,
    [{ n: 1, codes: Uint16Array.of(code) }],
    { x: 0, y: 0 },
    size,
    lut,
    0,
  );
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

function lossSwatch() {
  const canvas = h("canvas", { width: 18, height: 18, "aria-hidden": "true" });
  const c = canvas.getContext("2d");
  c.fillStyle = "#287d8e";
  c.fillRect(0, 0, 18, 18);
  for (const [width, colour] of [
    [2.6, "#000000b0"],
    [1.1, "#ffffff"],
  ]) {
    c.strokeStyle = colour;
    c.lineWidth = width;
    c.beginPath();
    for (let d = 4; d < 36; d += 6) {
      c.moveTo(0, d);
      c.lineTo(d, 0);
    }
    c.stroke();
  }
  return canvas;
}
