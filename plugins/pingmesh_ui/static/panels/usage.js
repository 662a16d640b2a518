/** Figures of the use of data servers, ranked. */

/** @import { UsageFigure } from "../../types/api.js" */

/** @typedef {{ dimension: string, measure: string }} Ranking */
/** @typedef {UsageFigure & { key: string }} KeyedFigure */

/** Rows of a list that are shown. */
export const TOP = 12;
/** Measures of which the greatest counts; all others add up. */
const GREATEST = new Set(["longest_online_s", "sessions_online_peak", "users_online_peak"]);

/**
 * The figures of a ranking; those without a key are of all together.
 * @param {UsageFigure[]} figures
 * @param {Ranking} ranking
 * @returns {KeyedFigure[]}
 */
export const figuresOf = (figures, { dimension, measure }) =>
  /** @type {KeyedFigure[]} */ (
    figures.filter(
      (row) => row.dimension === dimension && row.measure === measure && row.key !== null,
    )
  );

/**
 * Figures of several servers by key, greatest first.
 * @param {KeyedFigure[]} figures
 * @returns {[key: string, value: number][]}
 */
export function mergeByKey(figures) {
  /** @type {Map<string, number>} */
  const merged = new Map();
  for (const { key, measure, value } of figures) {
    const before = merged.get(key) ?? 0;
    merged.set(key, GREATEST.has(measure) ? Math.max(value, before) : value + before);
  }
  return [...merged].sort((a, b) => b[1] - a[1]);
}
