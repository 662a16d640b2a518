/**
 * Requests to the page's API (API.md) and to Airflow's own. Addresses are relative to the page, so
 * that any prefix before it works.
 */
import { apiError, pageError } from "./api_error.js";
import { state } from "./state.js";

/** @import { DagRun } from "../types/api.js" */

/** @typedef {Record<string, string | number | null | undefined>} Query */

/** The folder of the page: `…/pingmesh/`. */
export const HOME = new URL("./", document.baseURI);
/** The path of Airflow's own pages and API. */
export const AIRFLOW = HOME.pathname.replace(/pingmesh\/$/, "");

/** Requests that take a `level`: figures of windows, hours or days. */
const LEVELLED = new Set(["windows", "matrix", "worst", "pair", "series", "groups", "cdf"]);
const ACCEPT = { accept: "application/json" };

/**
 * The address of a request; what is empty is left out.
 * @param {string} path
 * @param {Query} [query]
 */
export function address(path, query = {}) {
  const url = new URL(`api/v1/${path}`, HOME);
  const level = LEVELLED.has(path) ? state.lv : "";
  for (const [key, value] of Object.entries({ ...query, level })) {
    if (value !== undefined && value !== null && value !== "") {
      url.searchParams.set(key, String(value));
    }
  }
  return url.href;
}

/**
 * The address of the same answer as a file.
 * @param {string} path
 * @param {Query} query
 * @param {"csv" | "json"} format
 */
export const downloadLink = (path, query, format) =>
  address(path, { ...query, format, download: 1 });

/**
 * @param {string} path
 * @param {Query} [query]
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>} the answer of types/api.d.ts
 * @throws {import("../types/api.js").ApiError}
 */
export const get = (path, query, signal) => ask(address(path, query), { signal, headers: ACCEPT });

const ADMIN_RUNS = `${AIRFLOW}api/v2/dags/alert_admin/dagRuns`;

/**
 * Start a run of Airflow's DAG `alert_admin` with the reader's session: the only thing that the
 * page changes.
 * @param {Record<string, unknown>} conf
 * @returns {Promise<DagRun>}
 */
export const triggerAdmin = (conf) =>
  ask(ADMIN_RUNS, {
    method: "POST",
    headers: { "content-type": "application/json", ...ACCEPT },
    body: JSON.stringify({ logical_date: null, conf }),
  });

/**
 * How that run is going.
 * @param {string} id
 * @returns {Promise<DagRun>}
 */
export const adminRun = (id) => ask(`${ADMIN_RUNS}/${encodeURIComponent(id)}`, { headers: ACCEPT });

/**
 * @param {string} url
 * @param {RequestInit} options
 */
async function ask(url, options) {
  const response = await fetch(url, { credentials: "same-origin", ...options }).catch((error) => {
    throw error.name === "AbortError" ? error : pageError(error.message, "offline");
  });
  if (!response.ok) {
    throw await apiError(response);
  }
  return response.json();
}
