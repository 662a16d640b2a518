/** The legend: the ramp with its numbers, and what each hatch means. */
import { $, h } from "../dom.js";
import { formatClock, formatValue } from "../format.js";
import { t } from "../i18n.js";
import { FAILED, MISSING, NOT_PLANNED, UNCLEAN, isChange } from "../map/codes.js";
import { buildLut, colourAt, css, place, ticks } from "../map/palette.js";
import { sample } from "../map/sampler.js";
import { state } from "../state.js";
import { theme } from "../theme.js";

/** @import { Scale } from "../map/palette.js" */
/** @import { View } from "../view.js" */

const STEPS = 240;
const SWATCH_PX = 18;
/**
 * The ground of the sample of loss, a colour of the ramp, and the lines of its hatch from below.
 */
const LOSS_GROUND = "#287d8e";
/** @type {[width: number, colour: string][]} */
const LOSS_LINES = [
  [2.6, "#000000b0"],
  [1.1, "#ffffff"],
];

/** @param {HTMLCanvasElement} canvas */
const contextOf = (canvas) => /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

/**
 * Draw the legend where it is not of this scale already.
 * @param {View} view
 */
export function drawLegend(view) {
  const drawn = keyOf(view);
  if ($("legend").dataset.drawn === drawn) {
    return;
  }
  $("legend").dataset.drawn = drawn;
  const { scale } = view;
  const change = view.compares() ? ` · ${t("tip.change")}` : "";
  $("legend").replaceChildren(
    h("h2", {}, `${t(`metric.${view.metric().name}`)}${change}`),
    ramp(scale),
    h("div", { class: "ticks" }, labels(scale)),
    isChange(scale.kind) ? h("p", { class: "place" }, unit(view)) : "",
    h("div", { class: "marks" }, marks(view)),
  );
}

/** @param {View} view */
const keyOf = (view) =>
  JSON.stringify([
    view.scale,
    theme,
    document.documentElement.lang,
    view.metric().name,
    view.map.hatch,
    view.compares() && state.cmp,
    view.levels && view.header.normal,
  ]);

/** @param {Scale} scale */
function ramp(scale) {
  const canvas = h("canvas", { class: "ramp", width: STEPS, height: 1 });
  const context = contextOf(canvas);
  for (let i = 0; i < STEPS; i++) {
    context.fillStyle = css(colourAt(scale, valueAt(scale, (i + 0.5) / STEPS)));
    context.fillRect(i, 0, 1, 1);
  }
  return canvas;
}

/**
 * The number at a place of the ramp; thresholds are thirds of it.
 * @param {Scale} scale
 * @param {number} at 0…1
 */
function valueAt({ mode, low, high }, at) {
  if (mode === "threshold") {
    return [low / 2, (low + high) / 2, high * 2][Math.floor(3 * at)];
  }
  return mode === "linear" ? low + at * (high - low) : low * (high / low) ** at;
}

/** @param {Scale} scale */
function labels(scale) {
  const isThirds = scale.mode === "threshold";
  return ticks(scale).map((value, i) => {
    const at = isThirds ? (i + 1) / 3 : place(scale, value);
    const label = h("span", {}, formatValue(value, scale.kind));
    label.style.left = `${100 * at}%`;
    label.style.transform = `translateX(${isThirds ? -50 : -100 * at}%)`;
    return label;
  });
}

/**
 * What the numbers of a change are multiples of, or points against.
 * @param {View} view
 */
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

/** @param {View} view */
function marks({ scale, map }) {
  /** @type {[number, string][]} */
  const states = [
    [FAILED, "state.failed.short"],
    [MISSING, "state.missing.short"],
    [UNCLEAN, "state.unclean.short"],
    [NOT_PLANNED, isChange(scale.kind) ? "state.nothing" : "state.not_planned"],
  ];
  return [
    ...states.map(([code, key]) => h("span", {}, swatch(scale, code), t(key))),
    map.hatch ? h("span", {}, lossSwatch(), t("legend.loss")) : "",
  ];
}

const swatchCanvas = () =>
  h("canvas", { width: SWATCH_PX, height: SWATCH_PX, "aria-hidden": "true" });

/**
 * @param {Scale} scale
 * @param {number} code
 */
function swatch(scale, code) {
  const canvas = swatchCanvas();
  const image = new ImageData(SWATCH_PX, SWATCH_PX);
  const pixels = new Uint32Array(image.data.buffer);
  const levels = [{ n: 1, codes: Uint16Array.of(code) }];
  const lut = buildLut(scale, theme);
  sample(pixels, SWATCH_PX, SWATCH_PX, levels, { x: 0, y: 0 }, SWATCH_PX, lut, 0);
  contextOf(canvas).putImageData(image, 0, 0);
  return canvas;
}

function lossSwatch() {
  const canvas = swatchCanvas();
  const context = contextOf(canvas);
  context.fillStyle = LOSS_GROUND;
  context.fillRect(0, 0, SWATCH_PX, SWATCH_PX);
  for (const [width, colour] of LOSS_LINES) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    for (let d = 4; d < 2 * SWATCH_PX; d += 6) {
      context.moveTo(0, d);
      context.lineTo(d, 0);
    }
    context.stroke();
  }
  return canvas;
}
