/** Errors of the API: what an answer other than 2xx means. */
/** @import { ApiError } from "../types/api.js" */

/** Airflow's message, with 403, about a token that it did not sign or whose key changed. */
const NO_TOKEN = "Invalid JWT token";
/** @type {Record<number, string>} */
const CODES = { 403: "forbidden", 404: "not_found", 503: "busy" };

/**
 * The error that an answer other than 2xx stands for. The page's API sends `error`, Airflow's own
 * `detail`: a sentence, or a list of faults of the request.
 * @param {Response} response
 * @returns {Promise<ApiError>} with the answer's `status`; `code` is "expired" where the session is
 *   over
 */
export async function apiError(response) {
  const body = await bodyOf(response);
  const { status } = response;
  const message = body.error?.message ?? (detailOf(body) || `${status} ${response.statusText}`);
  const isExpired = status === 401 || (status === 403 && message === NO_TOKEN);
  const code = isExpired ? "expired" : (body.error?.code ?? CODES[status] ?? "failed");
  return Object.assign(new Error(message), { status, code });
}

/** @param {Response} response */
async function bodyOf(response) {
  try {
    return await response.json();
  } catch {
    // The answer is not from an API (a proxy, a login page): only its status is known.
    return {};
  }
}

/** @param {{ detail?: string | (string | { msg?: string })[] }} body */
function detailOf({ detail }) {
  return [detail]
    .flat()
    .map((part) => (typeof part === "object" ? part?.msg : part))
    .filter((part) => typeof part === "string")
    .join("; ");
}

/**
 * An error of the page itself.
 * @param {string} message
 * @param {string} code as in `error.<code>` of the words
 * @returns {ApiError}
 */
export const pageError = (message, code) => Object.assign(new Error(message), { code });
