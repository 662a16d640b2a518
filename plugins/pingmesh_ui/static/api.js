/**
 * The server as the page sees it (API.md). JSON answers are parsed here; matrices go through workers, which keep their
 * pyramids off the main thread. Everything is addressed relative to the page, so any prefix before it works.
 */
import { failure } from "./api_error.js";
import { state } from "./state.js";

/** The folder of the page: `…/pingmesh/`. */
export const HOME = new URL("./", document.baseURI);

/** What is asked of windows, hours or days alike. */
const OF_LEVEL = new Set(["windows", "matrix", "worst", "pair", "series", "groups", "cdf"]);

export const address = (path, query = {}) => {
  const url = new URL(`api/v1/${path}`, HOME);
  const level = OF_LEVEL.has(path) ? state.lv : "";
  for (const [key, value] of Object.entries({ ...query, level })) {
    if (value !== undefined && value !== null && value !== "") {
      url.searchParams.set(key, value);
    }
  }
  return url.href;
};

export async function get(path, query, signal) {
  let response;
  try {
    response = await fetch(address(path, query), {
      signal,
      credentials: "same-origin",
      headers: { accept: "application/json" },
    });
  } catch (error) {
    throw error.name === "AbortError"
      ? error
      : Object.assign(new Error(error.message), { code: "offline" });
  }
  if (!response.ok) {
    throw await failure(response);
  }
  return response.json();
}

const ADMIN_RUNS = `${HOME.pathname.replace(/pingmesh\/$/, "")}api/v2/dags/alert_admin/dagRuns`;

/** Airflow's own API, with the user's session: the one thing the page asks to be done. Its answer is the Dag run. */
export const triggerAdmin = (conf) =>
  askAirflow(ADMIN_RUNS, {
    method: "POST",
    headers: { "content-type": "application/json", accept: "application/json" },
    body: JSON.stringify({ logical_date: null, conf }),
  });

/** How that run is going: its `state` is queued, running, success or failed. */
export const adminRun = (id) =>
  askAirflow(`${ADMIN_RUNS}/${encodeURIComponent(id)}`, {
    headers: { accept: "application/json" },
  });

async function askAirflow(path, options) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    throw Object.assign(new Error(error.message), { code: "offline" });
  }
  if (!response.ok) {
    throw await failure(response);
  }
  return response.json();
}

const workers = [];
const waiting = new Map();
let next = 0;
let turn = 0;

function worker() {
  if (workers.length < Math.min(2, navigator.hardwareConcurrency || 2)) {
    const one = new Worker(new URL("./matrix_worker.js", import.meta.url), { type: "module" });
    one.onmessage = ({ data }) => {
      const { resolve, reject } = waiting.get(data.id) ?? {};
      waiting.delete(data.id);
      if (!resolve) {
        return;
      }
      if (data.error) {
        reject(Object.assign(new Error(data.error.message), data.error));
      } else {
        resolve(data);
      }
    };
    workers.push(one);
    return one;
  }
  return workers[turn++ % workers.length];
}

/** Have a matrix fetched and its pyramid built: `{ header, levels }`. `job` as in worker.js, with query instead of url. */
export function pyramid({ query, against, ...job }, signal) {
  const id = ++next;
  const one = worker();
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    signal?.addEventListener("abort", () => {
      one.postMessage({ cancel: id });
      waiting.delete(id);
      reject(new DOMException("not wanted any more", "AbortError"));
    });
    one.postMessage({
      id,
      url: address("matrix", query),
      against: against ? address("matrix", against) : null,
      ...job,
    });
  });
}

/** Start the first worker before it is needed. */
export const warm = () => void worker();
