/** The notice at the top of the page: what went wrong and what to do about it. */
import { AIRFLOW } from "./api.js";
import { $, h } from "./dom.js";
import { t, wordsOf } from "./i18n.js";

/** @import { ApiError } from "../types/api.js" */

/** Codes that are shown as faults; others may pass. */
const SEVERE = new Set(["expired", "forbidden"]);
/** Codes whose words say all; the message adds nothing. */
const PLAIN = new Set(["expired", "offline"]);

/**
 * Show an error; null hides the notice. A request that was aborted is no error.
 * @param {ApiError | null} error
 * @param {() => unknown} [again] tried again on a click
 */
export function report(error, again) {
  const box = $("notice");
  if (!error) {
    box.hidden = true;
    return;
  }
  if (error.name === "AbortError") {
    return;
  }
  const code = error.code ?? "failed";
  box.className = SEVERE.has(code) ? "bad" : "";
  box.replaceChildren(
    h("strong", {}, wordsOf("error", code) ?? t("error.failed")),
    h("span", {}, PLAIN.has(code) ? "" : error.message),
    code === "expired" ? h("a", { href: loginLink() }, t("login")) : "",
    code !== "expired" && again ? againButton(again) : "",
    h("span", { class: "grow" }),
    h("button", { class: "quiet", "aria-label": t("close"), onclick: hide }, "×"),
  );
  box.hidden = false;
}

function hide() {
  $("notice").hidden = true;
}

/** @param {() => unknown} again */
function againButton(again) {
  const onclick = () => {
    hide();
    again();
  };
  return h("button", { onclick }, t("again"));
}

/**
 * Airflow's login, which returns to this view within the frame: the frame may not navigate its
 * parent.
 */
const loginLink = () => `${AIRFLOW}auth/login?next=${encodeURIComponent(location.href)}`;

/**
 * Show a link to be copied by hand.
 * @param {string} link
 */
export function showLink(link) {
  const field = h("input", { value: link, readOnly: true, "aria-label": t("copy"), size: 60 });
  const box = $("notice");
  box.className = "";
  box.replaceChildren(
    h("span", {}, t("copy.here")),
    field,
    h("button", { onclick: hide }, t("close")),
  );
  box.hidden = false;
  field.focus();
  field.select();
}
