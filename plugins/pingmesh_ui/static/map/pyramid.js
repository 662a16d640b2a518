/**
 * A matrix and its halvings. Level k holds the maximum of each block of 2^k × 2^k cells, so that
 * the worst cell of a block is seen from afar.
 */
import { isValue } from "./codes.js";

/** A square matrix, row by row, row = source. */
/** @typedef {{ n: number, codes: Uint16Array<ArrayBuffer> }} Level */

/** A level of at most so many rows is not halved any more. */
const SMALLEST = 48;

/**
 * Halve a matrix by maximum; an odd last row or column is pooled alone.
 * @param {Level} level
 * @returns {Level}
 */
export function poolMax({ n, codes }) {
  const half = (n + 1) >> 1;
  const out = new Uint16Array(half * half);
  for (let y = 0; y < half; y++) {
    const top = 2 * y * n;
    const bottom = 2 * y + 1 < n ? top + n : top;
    const at = y * half;
    for (let x = 0; x < half; x++) {
      const left = 2 * x;
      const right = left + 1 < n ? left + 1 : left;
      const upper = greater(codes[top + left], codes[top + right]);
      const lower = greater(codes[bottom + left], codes[bottom + right]);
      out[at + x] = greater(upper, lower);
    }
  }
  return { n: half, codes: out };
}

/**
 * @param {number} a
 * @param {number} b
 */
const greater = (a, b) => Math.max(a, b);

/**
 * Halve a matrix of shares by the mean of what was measured; 0 where nothing was. Loss is shown by
 * its mean: by maximum, one lost probe would mark its whole block.
 * @param {Level} level
 * @returns {Level}
 */
export function poolMean({ n, codes }) {
  const half = (n + 1) >> 1;
  const out = new Uint16Array(half * half);
  for (let y = 0; y < half; y++) {
    for (let x = 0; x < half; x++) {
      out[y * half + x] = blockMean(codes, n, 2 * x, 2 * y);
    }
  }
  return { n: half, codes: out };
}

/**
 * The mean code of the values of the 2 × 2 cells at (x, y).
 * @param {Uint16Array} codes
 * @param {number} n
 * @param {number} x
 * @param {number} y
 */
function blockMean(codes, n, x, y) {
  let sum = 0;
  let count = 0;
  for (let row = y; row < y + 2 && row < n; row++) {
    for (let column = x; column < x + 2 && column < n; column++) {
      const code = codes[row * n + column];
      if (isValue(code)) {
        sum += code;
        count++;
      }
    }
  }
  return count ? Math.round(sum / count) : 0;
}

/**
 * The levels over `codes`.
 * @param {Uint16Array<ArrayBuffer>} codes
 * @param {number} n
 * @param {number} [first] halvings that the server made: levels below it are missing
 */
export const buildPyramid = (codes, n, first = 0) => halvings({ n, codes }, first, poolMax);

/**
 * The same of shares, by mean.
 * @param {Uint16Array<ArrayBuffer>} codes
 * @param {number} n
 * @param {number} [first]
 */
export const buildMeans = (codes, n, first = 0) => halvings({ n, codes }, first, poolMean);

/**
 * @param {Level} level
 * @param {number} first
 * @param {(level: Level) => Level} pool
 */
function halvings(level, first, pool) {
  /** @type {Level[]} */
  const levels = [];
  levels[first] = level;
  for (let k = first; levels[k].n > SMALLEST; k++) {
    levels[k + 1] = pool(levels[k]);
  }
  return levels;
}

/**
 * Rows and columns of `codes` in another order, or only some of them.
 * @param {Uint16Array} codes
 * @param {number} n
 * @param {ArrayLike<number>} order `order[i]` is the old position of the new i
 */
export function arrange(codes, n, order) {
  const m = order.length;
  const out = new Uint16Array(m * m);
  for (let y = 0; y < m; y++) {
    const row = order[y] * n;
    const at = y * m;
    for (let x = 0; x < m; x++) {
      out[at + x] = codes[row + order[x]];
    }
  }
  return out;
}
