/**
 * A matrix and its halvings. Level k holds the maximum of each block of 2^k × 2^k cells, so the worst of a block is
 * what one sees from afar; a level is `{ n, codes }`, row-major, row = source.
 */
import { HIGHEST } from "./codes.js";

const SMALLEST = 48;

/** Halve a square matrix by maximum; an odd last row or column stands alone. */
export function poolMax({ n, codes }) {
  const half = (n + 1) >> 1;
  const out = new codes.constructor(half * half);
  for (let y = 0; y < half; y++) {
    const top = 2 * y * n;
    const bottom = 2 * y + 1 < n ? top + n : top;
    const at = y * half;
    for (let x = 0; x < half; x++) {
      const left = 2 * x;
      const right = left + 1 < n ? left + 1 : left;
      const a = codes[top + left];
      const b = codes[top + right];
      const c = codes[bottom + left];
      const d = codes[bottom + right];
      const ab = a > b ? a : b;
      const cd = c > d ? c : d;
      out[at + x] = ab > cd ? ab : cd;
    }
  }
  return { n: half, codes: out };
}

/** Levels of the pyramid over `codes`, of which `first` halvings were made elsewhere: `levels[k]` may be missing for k < first. */
export function buildPyramid(codes, n, first = 0) {
  const levels = [];
  let level = { n, codes };
  for (let k = first; ; k++) {
    levels[k] = level;
    if (level.n <= SMALLEST) {
      return levels;
    }
    level = poolMax(level);
  }
}

/**
 * Halve a matrix of share codes by mean over what was measured; 0 where nothing was. Loss is shown by it, for by maximum
 * one lost probe would mark its whole block.
 */
export function poolMean({ n, codes }) {
  const half = (n + 1) >> 1;
  const out = new Uint16Array(half * half);
  for (let y = 0; y < half; y++) {
    for (let x = 0; x < half; x++) {
      let sum = 0;
      let count = 0;
      for (let r = 2 * y; r < 2 * y + 2 && r < n; r++) {
        for (let c = 2 * x; c < 2 * x + 2 && c < n; c++) {
          const code = codes[r * n + c];
          if (code && code <= HIGHEST) {
            sum += code;
            count++;
          }
        }
      }
      out[y * half + x] = count ? Math.round(sum / count) : 0;
    }
  }
  return { n: half, codes: out };
}

export function buildMeans(codes, n, first = 0) {
  const levels = [];
  let level = { n, codes };
  for (let k = first; ; k++) {
    levels[k] = level;
    if (level.n <= SMALLEST) {
      return levels;
    }
    level = poolMean(level);
  }
}

/** Rows and columns of `codes` in another order, or only some of them: `order[i]` is the old position of the new i. */
export function arrange(codes, n, order) {
  const m = order.length;
  const out = new codes.constructor(m * m);
  for (let y = 0; y < m; y++) {
    const row = order[y] * n;
    const at = y * m;
    for (let x = 0; x < m; x++) {
      out[at + x] = codes[row + order[x]];
    }
  }
  return out;
}
