/**
 * What the u16 of a matrix mean. The order is the order of gravity, so that a maximum over a block keeps the worst:
 *
 *   NOT_PLANNED < values on a log scale < UNCLEAN < MISSING < FAILED
 *
 * A latency code c is BASE ** (c - 1) µs; a loss code c is (c - 1) / LOSS_STEPS; a change code c is a ratio,
 * BASE ** (c - MIDDLE).
 */
export const NOT_PLANNED = 0;
export const HIGHEST = 4092;
export const UNCLEAN = 4093;
export const MISSING = 4094;
export const FAILED = 4095;
export const CODES = 4096;
export const BASE = 1.005;
export const MIDDLE = 2048;
export const LOSS_STEPS = 4000;

const LN_BASE = Math.log(BASE);

export const isValue = (code) => code > NOT_PLANNED && code <= HIGHEST;

/** The number that a value's code stands for: µs, a share 0…1, or a ratio. NaN for a state. */
export function decode(code, kind) {
  if (!isValue(code)) return NaN;
  if (kind === "share") return (code - 1) / LOSS_STEPS;
  if (kind === "count") return code - 1;
  if (kind === "ratio") return Math.exp((code - MIDDLE) * LN_BASE);
  return Math.exp((code - 1) * LN_BASE);
}

/** The nearest code of a number; the inverse of `decode`. */
export function encode(value, kind) {
  if (!Number.isFinite(value)) return NOT_PLANNED;
  const code =
    kind === "share" ? 1 + Math.round(value * LOSS_STEPS)
    : kind === "count" ? 1 + Math.round(value)
    : kind === "ratio" ? MIDDLE + Math.round(Math.log(Math.max(value, 1e-9)) / LN_BASE)
    : 1 + Math.round(Math.log(Math.max(value, 1)) / LN_BASE);
  return Math.min(HIGHEST, Math.max(1, code));
}

/** What became of latency codes between two windows: a ratio where both are values, else the state of the newer. */
export function difference(now, before) {
  const out = new Uint16Array(now.length);
  for (let i = 0; i < now.length; i++) {
    const a = now[i], b = before[i];
    out[i] = a === NOT_PLANNED || a > HIGHEST ? a : b === NOT_PLANNED || b > HIGHEST ? NOT_PLANNED : clamp(MIDDLE + a - b);
  }
  return out;
}

const clamp = (code) => (code < 1 ? 1 : code > HIGHEST ? HIGHEST : code);
