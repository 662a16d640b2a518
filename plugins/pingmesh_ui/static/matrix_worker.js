/**
 * A worker that fetches matrices and builds their pyramids; buffers are transferred, not copied.
 */
import { FAILED, HIGHEST, LOSS_STEPS, difference } from "./map/codes.js";
import { arrange, buildMeans, buildPyramid } from "./map/pyramid.js";
import { findWorst } from "./map/worst.js";
import { pageError } from "./api_error.js";
import { fetchMatrix } from "./matrix_answer.js";

/** @import { MatrixHeader } from "../types/api.js" */
/** @import { Level } from "./map/pyramid.js" */
/** @import { Worst } from "./map/worst.js" */

/**
 * What is asked of a worker.
 * @typedef {object} MatrixJob
 * @property {number} id
 * @property {string} url
 * @property {string | null} against url of the window to compare with
 * @property {"max" | "mean"} kind how blocks are pooled
 * @property {boolean} share the codes are shares
 * @property {Int32Array | null} [order] positions of the hosts that are shown, in their order
 */
/**
 * What a worker answers.
 * @typedef {object} PooledMatrix
 * @property {MatrixHeader} header
 * @property {Level[]} levels the pyramid; `levels[k]` is missing below the `lod` of the header
 * @property {Worst | null} [worst] of a full matrix only
 */

/** The code of a share of 1. */
const ALL = 1 + LOSS_STEPS;
/** @type {Map<number, AbortController>} */
const running = new Map();

self.onmessage = async ({ data: job }) => {
  if (job.cancel) {
    running.get(job.cancel)?.abort();
    return;
  }
  const abort = new AbortController();
  running.set(job.id, abort);
  try {
    const { header, levels, worst } = await build(job, abort.signal);
    const buffers = levels.filter(Boolean).map((level) => level.codes.buffer);
    self.postMessage({ id: job.id, header, levels, worst }, { transfer: buffers });
  } catch ({ name, code, status, message }) {
    self.postMessage({ id: job.id, error: { name, code, status, message } });
  } finally {
    running.delete(job.id);
  }
};

/**
 * @param {MatrixJob} job
 * @param {AbortSignal} signal
 * @returns {Promise<PooledMatrix>}
 */
async function build({ url, kind, share, order, against }, signal) {
  const [main, other] = await Promise.all([
    fetchMatrix(url, signal),
    against ? fetchMatrix(against, signal) : null,
  ]);
  const { header } = main;
  let { codes } = main;
  let n = header.side;

  if (share) {
    markAllLost(codes);
  }
  if (other) {
    if (other.header.axis !== header.axis) {
      throw pageError("the two windows have other hosts", "other_axis");
    }
    codes = difference(codes, other.codes, share ? "points" : "ratio");
  }
  if (order && header.lod === 0) {
    codes = arrange(codes, n, order);
    n = order.length;
  }

  if (kind === "mean") {
    return { header, levels: buildMeans(codes, n, header.lod) };
  }
  const worst = header.lod === 0 ? findWorst(codes, n) : null;
  return { header, levels: buildPyramid(codes, n, header.lod), worst };
}

/**
 * A share of 1 is shown as a failed pair.
 * @param {Uint16Array} codes changed in place
 */
function markAllLost(codes) {
  for (let i = 0; i < codes.length; i++) {
    if (codes[i] >= ALL && codes[i] <= HIGHEST) {
      codes[i] = FAILED;
    }
  }
}
