/** The pool of workers that fetch matrices and build their pyramids off the main thread. */
import { address } from "./api.js";

/** @import { ApiError } from "../types/api.js" */
/** @import { PooledMatrix } from "./matrix_worker.js" */

/**
 * A matrix that is wanted: as `MatrixJob` of matrix_worker.js, with queries instead of urls.
 * @typedef {object} MatrixRequest
 * @property {Record<string, any>} query
 * @property {Record<string, any> | null} [against]
 * @property {"max" | "mean"} kind
 * @property {boolean} share
 * @property {Int32Array | null} [order]
 */
/**
 * @typedef {{ resolve: (answer: PooledMatrix) => void, reject: (error: Error) => void }} Waiting
 */

const MOST_WORKERS = 2;
/** @type {Worker[]} */
const workers = [];
/** @type {Map<number, Waiting>} */
const waiting = new Map();
let lastJob = 0;
let turn = 0;

/**
 * Fetch a matrix and build its pyramid.
 * @param {MatrixRequest} request
 * @param {AbortSignal} [signal]
 * @returns {Promise<PooledMatrix>}
 */
export function pyramid({ query, against, ...job }, signal) {
  const id = ++lastJob;
  const worker = nextWorker();
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      worker.postMessage({ cancel: id });
      waiting.delete(id);
      reject(new DOMException("not wanted any more", "AbortError"));
    });
    worker.postMessage({
      id,
      url: address("matrix", query),
      against: against ? address("matrix", against) : null,
      ...job,
    });
  });
}

/** Start the first worker before it is needed. */
export const warm = () => void nextWorker();

/** A new worker while there are fewer than the pool may have, then each in turn. */
function nextWorker() {
  if (workers.length >= Math.min(MOST_WORKERS, navigator.hardwareConcurrency || MOST_WORKERS)) {
    return workers[turn++ % workers.length];
  }
  const worker = new Worker(new URL("./matrix_worker.js", import.meta.url), { type: "module" });
  worker.onmessage = ({ data }) => settle(data);
  workers.push(worker);
  return worker;
}

/** @param {PooledMatrix & { id: number, error?: ApiError }} answer */
function settle(answer) {
  const promise = waiting.get(answer.id);
  waiting.delete(answer.id);
  if (!promise) {
    return;
  }
  if (answer.error) {
    promise.reject(Object.assign(new Error(answer.error.message), answer.error));
  } else {
    promise.resolve(answer);
  }
}
