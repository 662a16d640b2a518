/** What an answer other than 2xx means: an Error with `status` and the API's `code` and message. */
export async function failure(response) {
  let detail = {};
  try {
    detail = (await response.json()).error ?? {};
  } catch {
    // Something other than the API answered (a proxy, a login page): the status is all there is.
  }
  const fallback = { 401: "expired", 403: "forbidden", 404: "not_found", 503: "busy" }[response.status] ?? "failed";
  const error = new Error(detail.message ?? `${response.status} ${response.statusText}`);
  return Object.assign(error, { status: response.status, code: response.status === 401 ? "expired" : detail.code ?? fallback });
}
