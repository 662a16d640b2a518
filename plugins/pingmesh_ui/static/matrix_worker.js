/**
 * Fetches matrices and builds their pyramids off the main thread; buffers are handed over, not copied.
 * In:  { id, url, kind: "max" | "mean", share, order, against: url of the window to compare with, or null }     Out: { id, header, levels, worst } or { id, error }
 */
import { FAILED, HIGHEST, difference } from "./map/codes.js";
import { arrange, buildMeans, buildPyramid } from "./map/pyramid.js";
import { fetchMatrix } from "./matrix_answer.js";
import { findWorst } from "./map/worst.js";

const ALL_LOST = 4001;
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
    self.postMessage(
      { id: job.id, header, levels, worst },
      levels.filter(Boolean).map((level) => level.codes.buffer),
    );
  } catch (error) {
    self.postMessage({
      id: job.id,
      error: { name: error.name, code: error.code, status: error.status, message: error.message },
    });
  } finally {
    running.delete(job.id);
  }
};

async function build({ url, kind, share, order, against }, signal) {
  const [main, other] = await Promise.all([
    fetchMatrix(url, signal),
    against ? fetchMatrix(against, signal) : null,
  ]);
  let { header, codes } = main;
  let n = header.side;
  if (share) {
    for (let i = 0; i < codes.length; i++) {
      if (codes[i] >= ALL_LOST && codes[i] <= HIGHEST) {
        codes[i] = FAILED;
      }
    }
  }
  if (other) {
    if (other.header.axis !== header.axis) {
      throw Object.assign(new Error("the two windows have other hosts"), { code: "other_axis" });
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
  return {
    header,
    levels: buildPyramid(codes, n, header.lod),
    worst: header.lod === 0 ? findWorst(codes, n) : null,
  };
}
