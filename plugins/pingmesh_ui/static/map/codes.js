/**
 * What the u16 of a matrix mean. The order is the order of gravity, so that a maximum over a block keeps the worst:
 *
 *   NOT_PLANNED < values on a log scale < UNCLEAN < MISSING < FAILED
 *
 * A latency code c is BASE ** (c - 1) µs; a loss code c is (c - 1) / LOSS_STEPS; a change code c is a ratio,
 * BASE ** (c - MIDDLE); the difference of two shares, in "points", is (c - MIDDLE) / POINT_STEPS. Of both kinds of
 * change NOT_PLANNED also means that there was nothing to compare with.
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
export const POINT_STEPS = 2000;

const LN_BASE = Math.log(BASE);

export const isValue = (code) => code > NOT_PLANNED && code <= HIGHEST;

/** Kinds whose numbers are better or worse than something else, about MIDDLE. */
export const isChange = (kind) => kind === "ratio" || kind === "points";

/** The number that a value's code stands for: µs, a share 0…1, a ratio, or a difference of shares -1…1. NaN for a state. */
export function decode(code, kind) {
  if (!isValue(code)) {
    return NaN;
  }
  if (kind === "share") {
    return (code - 1) / LOSS_STEPS;
  }
  if (kind === "count") {
    return code - 1;
  }
  if (kind === "ratio") {
    return Math.exp((code - MIDDLE) * LN_BASE);
  }
  if (kind === "points") {
    return (code - MIDDLE) / POINT_STEPS;
  }
  return Math.exp((code - 1) * LN_BASE);
}

/** The nearest code of a number; the inverse of `decode`. */
export function encode(value, kind) {
  if (!Number.isFinite(value)) {
    return NOT_PLANNED;
  }
  const code =
    kind === "share"
      ? 1 + Math.round(value * LOSS_STEPS)
      : kind === "count"
        ? 1 + Math.round(value)
        : kind === "points"
          ? MIDDLE + Math.round(value * POINT_STEPS)
          : kind === "ratio"
            ? MIDDLE + Math.round(Math.log(Math.max(value, 1e-9)) / LN_BASE)
            : 1 + Math.round(Math.log(Math.max(value, 1)) / LN_BASE);
  return Math.min(HIGHEST, Math.max(1, code));
}

/**
 * What became of codes between two windows where both are values, else the state of the newer: of latencies a ratio, of
 * shares points (two codes a step, and never none of what is not equal).
 */
export function difference(now, before, kind) {
  const out = new Uint16Array(now.length);
  const step = kind === "points" ? LOSS_STEPS / POINT_STEPS : 1;
  for (let i = 0; i < now.length; i++) {
    const a = now[i];
    const b = before[i];
    if (a === NOT_PLANNED || a > HIGHEST) {
      out[i] = a;
    } else if (b === NOT_PLANNED || b > HIGHEST) {
      out[i] = NOT_PLANNED;
    } else {
      const d = a - b;
      out[i] = clamp(MIDDLE + (d > 0 ? Math.ceil(d / step) : Math.floor(d / step)));
    }
  }
  return out;
}

const clamp = (code) => (code < 1 ? 1 : code > HIGHEST ? HIGHEST : code);
