/** What Airflow says, with 403, of a token that it did not sign, or not with today's key: the session is over. */
const NO_TOKEN = "Invalid JWT token";

/**
 * What an answer other than 2xx means: an Error with `status` and the API's `code` and message. Airflow's own API says
 * `detail`, a sentence or a list of what is wrong with the request.
 */
export async function failure(response) {
  let said = {};
  try {
    said = await response.json();
  } catch {
    // Something other than an API answered (a proxy, a login page): the status is all there is.
  }
  const { status } = response;
  const detail = [said.detail]
    .flat()
    .map((one) => one?.msg ?? one)
    .filter((one) => typeof one === "string")
    .join("; ");
  const message = said.error?.message ?? (detail || `${status} ${response.statusText}`);
  const expired = status === 401 || (status === 403 && message === NO_TOKEN);
  const fallback = { 403: "forbidden", 404: "not_found", 503: "busy" }[status] ?? "failed";
  return Object.assign(new Error(message), {
    status,
    code: expired ? "expired" : (said.error?.code ?? fallback),
  });
}
