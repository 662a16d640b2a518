/**
 * What the u16 codes of a matrix mean. States follow the values in the order of gravity, so that a
 * maximum over a block keeps the worst:
 *
 *   NOT_PLANNED < values < UNCLEAN < MISSING < FAILED
 *
 * The codes of values depend on their kind; `decode` has the formulas. Of a change, NOT_PLANNED
 * also means that there is nothing to compare with. A test compares the constants with
 * pingmesh_tasks/matrix/codes.py, which writes the codes.
 */
export const NOT_PLANNED = 0;
/** The highest code of a value that the page makes; the server's highest is 4090. */
export const HIGHEST = 4092;
export const UNCLEAN = 4093;
export const MISSING = 4094;
export const FAILED = 4095;
/** How many codes there are. */
export const CODES = 4096;
/** Ratio of two neighbouring codes of round trips. */
export const BASE = 1.005;
/** The code of no change: a ratio of 1, a difference of 0. */
export const MIDDLE = 2048;
/** Codes from a share of 0 to a share of 1. */
export const LOSS_STEPS = 4000;
/** Codes from a difference of shares of 0 to one of 1. */
export const POINT_STEPS = 2000;

/**
 * @typedef {"us" | "share" | "count" | "ratio" | "points"} Kind `points` is a difference of shares
 */

const LN_BASE = Math.log(BASE);
/** The least ratio that has a logarithm of use. */
const LEAST_RATIO = 1e-9;

/** @param {number} code */
export const isValue = (code) => code > NOT_PLANNED && code <= HIGHEST;

/**
 * Whether numbers are better or worse than others, about MIDDLE.
 * @param {Kind} kind
 */
export const isChange = (kind) => kind === "ratio" || kind === "points";

/** @type {Record<Kind, (code: number) => number>} */
const DECODERS = {
  us: (code) => Math.exp((code - 1) * LN_BASE),
  share: (code) => (code - 1) / LOSS_STEPS,
  count: (code) => code - 1,
  ratio: (code) => Math.exp((code - MIDDLE) * LN_BASE),
  points: (code) => (code - MIDDLE) / POINT_STEPS,
};

/** @type {Record<Kind, (value: number) => number>} */
const ENCODERS = {
  us: (value) => 1 + Math.round(Math.log(Math.max(value, 1)) / LN_BASE),
  share: (value) => 1 + Math.round(value * LOSS_STEPS),
  count: (value) => 1 + Math.round(value),
  ratio: (value) => MIDDLE + Math.round(Math.log(Math.max(value, LEAST_RATIO)) / LN_BASE),
  points: (value) => MIDDLE + Math.round(value * POINT_STEPS),
};

/**
 * The number that the code of a value stands for; NaN for a state.
 * @param {number} code
 * @param {Kind} kind
 * @returns {number} µs, a share 0…1, a count, a ratio, or a difference of shares −1…1
 */
export const decode = (code, kind) => (isValue(code) ? DECODERS[kind](code) : Number.NaN);

/**
 * The nearest code of a number: the inverse of `decode`.
 * @param {number} value
 * @param {Kind} kind
 */
export const encode = (value, kind) =>
  Number.isFinite(value) ? clamp(ENCODERS[kind](value)) : NOT_PLANNED;

/**
 * The change of codes between two windows where both are values, else the state of the newer.
 * Points have half as many steps as shares: a difference of one code is rounded away from 0.
 * @param {Uint16Array} now
 * @param {Uint16Array} before
 * @param {"ratio" | "points"} kind `ratio` of round trips, `points` of shares
 */
export function difference(now, before, kind) {
  const out = new Uint16Array(now.length);
  const step = kind === "points" ? LOSS_STEPS / POINT_STEPS : 1;
  for (let i = 0; i < now.length; i++) {
    if (!isValue(now[i])) {
      out[i] = now[i];
    } else if (!isValue(before[i])) {
      out[i] = NOT_PLANNED;
    } else {
      const codes = now[i] - before[i];
      out[i] = clamp(MIDDLE + (codes > 0 ? Math.ceil(codes / step) : Math.floor(codes / step)));
    }
  }
  return out;
}

/** @param {number} code */
const clamp = (code) => Math.min(HIGHEST, Math.max(1, code));
