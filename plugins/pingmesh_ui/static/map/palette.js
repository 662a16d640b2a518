/**
 * Colours of codes. A number has a place on one sequential ramp (viridis: safe for colour-blind
 * eyes, and monotone in grey); a state has a colour off the ramp and a hatch. The pictures in
 * artifacts/ have the same colours.
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
  isValue,
} from "./codes.js";

/** @import { Kind } from "./codes.js" */
/** @import { Theme } from "../theme.js" */

/** @typedef {number[]} Rgb red, green, blue, 0…255 */
/** @typedef {"log" | "linear" | "threshold"} Mode */
/**
 * Where on the ramp a number lies. Of thresholds, `low` is where "slow" begins and `high` where
 * "bad".
 * @typedef {{ kind: Kind, mode: Mode, low: number, high: number }} Scale
 */
/** @typedef {{ low: number, high: number }} Ends */
/**
 * The colours of all codes, as RGBA of ImageData; a mark that differs from the colour is hatched.
 * @typedef {{ colour: Uint32Array, mark: Uint32Array }} Lut
 */

const VIRIDIS =
  "440154 481567 482677 453781 404788 39568c 33638d 2d708e 287d8e 238a8d " +
  "1f968b 20a387 29af7f 3cbb75 55c667 73d055 95d840 b8de29 dce319 f1e51d";
/** From better over as before to worse; monotone in grey too. */
const CHANGE = "08306b 1f5597 4b7db5 7796b4 8f989f b39a78 d69d4a f2b134 ffd97a";
const THRESHOLDS = "3b528b 21918c fde725";

/**
 * @param {string} hex with or without "#"
 * @returns {Rgb}
 */
const rgb = (hex) => [0, 2, 4].map((i) => parseInt(hex.replace("#", "").slice(i, i + 2), 16));

/** @param {string} text */
const stops = (text) => text.split(" ").map(rgb);

const RAMPS = { value: stops(VIRIDIS), change: stops(CHANGE), steps: stops(THRESHOLDS) };

/** Grounds and marks of states; those of "not planned" and "no data" follow the theme. */
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

/**
 * Little-endian RGBA, as a Uint32Array over ImageData has it.
 * @param {Rgb} colour
 */
const packed = ([r, g, b]) => (0xff000000 | (b << 16) | (g << 8) | r) >>> 0;

/**
 * The ground of the page, packed: the colour beyond the matrix.
 * @param {Theme} theme
 */
export const paperOf = (theme) => packed(rgb(STATES[theme].paper));

/** @param {Rgb} colour */
export const css = (colour) => `rgb(${colour.join(" ")})`;

/**
 * Whether text on this colour is to be dark.
 * @param {Rgb} colour
 */
export const isLight = ([r, g, b]) => 0.299 * r + 0.587 * g + 0.114 * b > 140;

/**
 * Where on the ramp a number lies, 0…1.
 * @param {Scale} scale
 * @param {number} value
 */
export function place({ mode, low, high }, value) {
  if (mode === "threshold") {
    return thresholdPlace(value, low, high);
  }
  const v = Math.min(high, Math.max(low, value));
  return mode === "linear" ? (v - low) / (high - low) : Math.log(v / low) / Math.log(high / low);
}

/**
 * @param {number} value
 * @param {number} low
 * @param {number} high
 */
function thresholdPlace(value, low, high) {
  if (value < low) {
    return 0;
  }
  return value < high ? 0.5 : 1;
}

/**
 * @param {Scale} scale
 * @param {number} value
 * @returns {Rgb}
 */
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

// ---- the colours of all codes -------------------------------------------------------------------

/** @type {{ key: string, lut: Lut } | null} */
let last = null;

/**
 * The colours of all codes. The last table is kept: play, map and legend ask for the same again.
 * @param {Scale} scale
 * @param {Theme} theme
 */
export function buildLut(scale, theme) {
  const key = JSON.stringify([scale, theme]);
  if (last?.key !== key) {
    last = { key, lut: makeLut(scale, theme) };
  }
  return last.lut;
}

/**
 * @param {Scale} scale
 * @param {Theme} theme
 * @returns {Lut}
 */
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
  /** @type {[number, string[]][]} */
  const hatches = [
    [UNCLEAN, states.unclean],
    [MISSING, states.missing],
    [FAILED, states.failed],
  ];
  for (const [code, [ground, line]] of hatches) {
    colour[code] = packed(rgb(ground));
    mark[code] = packed(rgb(line));
  }
  return { colour, mark };
}

// ---- the ends of a scale ------------------------------------------------------------------------

/** The ends where nothing was measured. */
const NO_DATA = { low: 100, high: 10_000 };
/** The scale of values spans at least so much, so that noise does not fill the ramp. */
const LEAST_FACTOR = 5;
/** The scale of points reaches so far at least, and where nothing changed. */
const LEAST_POINTS = 0.01;
const NO_POINTS = 0.05;

/**
 * The ends of the scale for these codes: of values the middle 99 %, rounded outwards.
 * @param {ArrayLike<number>} codes
 * @param {Kind} kind
 * @returns {Ends}
 */
export function fitScale(codes, kind) {
  if (kind === "share") {
    return { low: 0.001, high: 1 };
  }
  if (kind === "ratio") {
    return { low: 0.25, high: 4 };
  }
  return kind === "points" ? fitPoints(codes) : fitValues(codes, kind);
}

/**
 * @param {ArrayLike<number>} codes
 * @param {Kind} kind
 */
function fitValues(codes, kind) {
  const { counts, total } = countCodes(codes, (code) => code);
  if (!total) {
    return NO_DATA;
  }
  let low = roundDown(decode(quantileCode(counts, total, 0.005), kind));
  let high = roundUp(decode(quantileCode(counts, total, 0.995), kind));
  while (high / low < LEAST_FACTOR) {
    low = Math.max(1, roundDown(low * 0.99));
    high = roundUp(high * 1.01);
  }
  return { low, high };
}

/**
 * As far to either side as 98 of 100 changes go.
 * @param {ArrayLike<number>} codes
 */
function fitPoints(codes) {
  const { counts, total } = countCodes(codes, (code) => Math.abs(code - MIDDLE));
  if (!total) {
    return { low: -NO_POINTS, high: NO_POINTS };
  }
  const far = decode(MIDDLE + quantileCode(counts, total, 0.98), "points");
  const high = Math.min(1, Math.max(LEAST_POINTS, roundUp(far)));
  return { low: -high, high };
}

/**
 * How many values there are, by key; a key of 0 is not counted.
 * @param {ArrayLike<number>} codes
 * @param {(code: number) => number} keyOf
 */
function countCodes(codes, keyOf) {
  const counts = new Uint32Array(CODES);
  let total = 0;
  for (let i = 0; i < codes.length; i++) {
    const key = isValue(codes[i]) ? keyOf(codes[i]) : 0;
    if (key) {
      counts[key]++;
      total++;
    }
  }
  return { counts, total };
}

/**
 * The least code that `q` of all are at or below.
 * @param {Uint32Array} counts how many have each code
 * @param {number} total
 * @param {number} q 0…1
 */
export function quantileCode(counts, total, q) {
  const wanted = Math.max(1, Math.ceil(q * total));
  let seen = 0;
  for (let code = 1; code <= HIGHEST; code++) {
    seen += counts[code];
    if (seen >= wanted) {
      return code;
    }
  }
  return HIGHEST;
}

/**
 * 1, 2, 5 and 10 times the power of ten below a value.
 * @param {number} value
 */
function roundValues(value) {
  const decade = 10 ** Math.floor(Math.log10(value) + 1e-12);
  return [1, 2, 5, 10].map((m) => m * decade);
}

/** @param {number} value */
const roundUp = (value) => roundValues(value).find((s) => s >= value * (1 - 1e-9)) ?? value;

/** @param {number} value */
const roundDown = (value) => roundValues(value).findLast((s) => s <= value * (1 + 1e-9)) ?? value;

/** Mantissas of the ticks of a logarithmic scale: the first list that gives few enough is taken. */
const MANTISSAS = [[1, 2, 5], [1, 3], [1]];

/**
 * Round values from the low end to the high one.
 * @param {Scale} scale
 * @param {number} [most] of a logarithmic scale
 * @returns {number[]}
 */
export function ticks({ mode, kind, low, high }, most = 6) {
  if (mode === "threshold") {
    return [low, high];
  }
  if (kind === "ratio") {
    const values = [low, 0.5, 1, 2, high].filter((value) => value >= low && value <= high);
    return [...new Set(values)];
  }
  if (kind === "points") {
    return [low, low / 2, 0, high / 2, high];
  }
  if (mode === "linear") {
    return [0, 0.25, 0.5, 0.75, 1].map((part) => low + part * (high - low));
  }
  const lists = MANTISSAS.map((mantissas) => decadeTicks(low, high, mantissas));
  return lists.find((list) => list.length <= most) ?? [low, high];
}

/**
 * @param {number} low
 * @param {number} high
 * @param {number[]} mantissas
 */
function decadeTicks(low, high, mantissas) {
  /** @type {number[]} */
  const found = [];
  for (let e = Math.floor(Math.log10(low)) - 1; e <= Math.ceil(Math.log10(high)); e++) {
    const values = mantissas.map((m) => m * 10 ** e);
    found.push(...values.filter((value) => value >= low * 0.999 && value <= high * 1.001));
  }
  return found;
}
