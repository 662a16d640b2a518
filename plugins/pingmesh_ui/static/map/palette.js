/**
 * Colours of codes. A number has a place on one sequential ramp (viridis: safe for colour-blind eyes, and monotone in
 * grey); a state has a colour off the ramp and a hatch. The same colours as the pictures in artifacts/.
 */
import {
  CODES,
  FAILED,
  HIGHEST,
  MIDDLE,
  MISSING,
  NOT_PLANNED,
  UNCLEAN,
  decode,
  isChange,
} from "./codes.js";

const VIRIDIS =
  "440154 481567 482677 453781 404788 39568c 33638d 2d708e 287d8e 238a8d 1f968b 20a387 29af7f 3cbb75 55c667 73d055 95d840 b8de29 dce319 f1e51d";
/** Better … as before … worse; monotone in grey too. */
const CHANGE = "08306b 1f5597 4b7db5 7796b4 8f989f b39a78 d69d4a f2b134 ffd97a";
const THRESHOLDS = ["3b528b", "21918c", "fde725"];

const rgb = (hex) => [0, 2, 4].map((i) => parseInt(hex.replace("#", "").slice(i, i + 2), 16));
const stops = (text) => text.split(" ").map(rgb);
const RAMPS = { value: stops(VIRIDIS), change: stops(CHANGE), steps: THRESHOLDS.map(rgb) };

/** States: ground, mark. The ground of "not planned" and "missing" follows the theme. */
export const STATES = {
  light: {
    paper: "#ffffff",
    planned: "#f3f5f8",
    missing: ["#d5dae2", "#7f8a9a"],
    failed: ["#c81e3a", "#ffffff"],
    unclean: ["#efe3f7", "#7a3fa0"],
    zero: "#e8f3ee",
  },
  dark: {
    paper: "#11161d",
    planned: "#1a212b",
    missing: ["#39434f", "#8c99a8"],
    failed: ["#c81e3a", "#ffffff"],
    unclean: ["#4b3460", "#c79be6"],
    zero: "#1d3a33",
  },
};

/** Little-endian RGBA, as a Uint32Array over ImageData wants it. */
const packed = ([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;

/**
 * A scale says where on the ramp a number lies.
 * `{ kind: "us" | "share" | "ratio" | "points", mode: "log" | "linear" | "threshold", low, high }`; threshold: warn = low, bad = high.
 */
export function place(scale, value) {
  const { mode, low, high } = scale;
  if (mode === "threshold") {
    return value < low ? 0 : value < high ? 0.5 : 1;
  }
  const v = Math.min(high, Math.max(low, value));
  return mode === "linear" ? (v - low) / (high - low) : Math.log(v / low) / Math.log(high / low);
}

export function colourAt(scale, value) {
  if (scale.mode === "threshold") {
    return RAMPS.steps[Math.round(place(scale, value) * 2)];
  }
  const ramp = isChange(scale.kind) ? RAMPS.change : RAMPS.value;
  const at = place(scale, value) * (ramp.length - 1);
  const k = Math.min(ramp.length - 2, Math.floor(at));
  const part = at - k;
  return ramp[k].map((low, i) => Math.round(low + (ramp[k + 1][i] - low) * part));
}

export const css = (colour) => `rgb(${colour.join(" ")})`;

/** Whether text on this colour is to be dark. */
export const isLight = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b > 140;

let last = null;

/**
 * `{ colour: Uint32Array by code, mark: Uint32Array by code }`; a mark that differs from the colour is hatched. The last
 * one is kept: play, map and legend ask for the same again and again.
 */
export function buildLut(scale, theme) {
  const key = JSON.stringify([scale, theme]);
  if (last?.key !== key) {
    last = { key, lut: makeLut(scale, theme) };
  }
  return last.lut;
}

function makeLut(scale, theme) {
  const states = STATES[theme];
  const colour = new Uint32Array(CODES);
  for (let code = 1; code <= HIGHEST; code++) {
    colour[code] = packed(colourAt(scale, decode(code, scale.kind)));
  }
  if (scale.kind === "share") {
    colour[1] = packed(rgb(states.zero));
  }
  colour[NOT_PLANNED] = packed(rgb(states.planned));
  const mark = colour.slice();
  for (const [code, [ground, line]] of [
    [UNCLEAN, states.unclean],
    [MISSING, states.missing],
    [FAILED, states.failed],
  ]) {
    colour[code] = packed(rgb(ground));
    mark[code] = packed(rgb(line));
  }
  return { colour, mark };
}

/** The low and high end for these codes: the middle 99 % of what is shown, rounded outwards, a factor of 5 at least. */
export function fitScale(codes, kind) {
  if (kind === "share") {
    return { low: 0.001, high: 1 };
  }
  if (kind === "ratio") {
    return { low: 0.25, high: 4 };
  }
  if (kind === "points") {
    return fitPoints(codes);
  }
  const counts = new Uint32Array(CODES);
  let total = 0;
  for (let i = 0; i < codes.length; i++) {
    const code = codes[i];
    if (code > NOT_PLANNED && code <= HIGHEST) {
      counts[code]++;
      total++;
    }
  }
  if (!total) {
    return { low: 100, high: 10_000 };
  }
  let low = rounded(decode(quantile(counts, total, 0.005), kind), false);
  let high = rounded(decode(quantile(counts, total, 0.995), kind), true);
  while (high / low < 5) {
    low = Math.max(1, rounded(low * 0.99, false));
    high = rounded(high * 1.01, true);
  }
  return { low, high };
}

/** As far to either side as 98 of 100 changes go, a point at least. */
function fitPoints(codes) {
  const counts = new Uint32Array(CODES);
  let total = 0;
  for (let i = 0; i < codes.length; i++) {
    const far = Math.abs(codes[i] - MIDDLE);
    if (far && codes[i] > NOT_PLANNED && codes[i] <= HIGHEST) {
      counts[far]++;
      total++;
    }
  }
  const high = total
    ? Math.min(
        1,
        Math.max(0.01, rounded(decode(MIDDLE + quantile(counts, total, 0.98), "points"), true)),
      )
    : 0.05;
  return { low: -high, high };
}

function quantile(counts, total, q) {
  let seen = 0;
  const wanted = Math.max(1, Math.ceil(q * total));
  for (let code = 1; code <= HIGHEST; code++) {
    if ((seen += counts[code]) >= wanted) {
      return code;
    }
  }
  return HIGHEST;
}

/** The next 1, 2 or 5 times a power of ten. */
function rounded(value, up) {
  const decade = 10 ** Math.floor(Math.log10(value) + 1e-12);
  const steps = [1, 2, 5, 10].map((m) => m * decade);
  return up
    ? steps.find((s) => s >= value * (1 - 1e-9))
    : steps.filter((s) => s <= value * (1 + 1e-9)).at(-1);
}

/** Round values from low to high, at most `most` of them. */
export function ticks({ mode, kind, low, high }, most = 6) {
  if (mode === "threshold") {
    return [low, high];
  }
  if (kind === "ratio") {
    return [low, 0.5, 1, 2, high].filter(
      (v, i, all) => v >= low && v <= high && all.indexOf(v) === i,
    );
  }
  if (kind === "points") {
    return [low, low / 2, 0, high / 2, high];
  }
  if (mode === "linear") {
    return [0, 0.25, 0.5, 0.75, 1].map((f) => low + f * (high - low));
  }
  for (const mantissas of [[1, 2, 5], [1, 3], [1]]) {
    const out = [];
    for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)); e++) {
      for (const m of mantissas) {
        if (m * 10 ** e >= low * 0.999 && m * 10 ** e <= high * 1.001) {
          out.push(m * 10 ** e);
        }
      }
    }
    if (out.length <= most) {
      return out;
    }
  }
  return [low, high];
}
