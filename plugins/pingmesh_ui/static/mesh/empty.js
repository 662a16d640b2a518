/**
 * What stands in the place of the map where there is nothing to draw: why, and what to do about it.
 */
import { get } from "../api.js";
import { $, find, h } from "../dom.js";
import { formatClock } from "../format.js";
import { t } from "../i18n.js";
import { update } from "../state.js";

/** @import { Boot, Schedule } from "../../types/api.js" */
/** @import { View } from "../view.js" */

const POLL_MS = 15_000;

/**
 * No window has been measured: what will be here, when, and what to check if it does not come. The
 * page is loaded anew when the first window is there.
 * @param {Boot} boot
 */
export function showEmpty({ empty, schedule }) {
  const due = h("p", {}, dueText(schedule));
  const checks = ["dag", "hosts", "store"].map((key) => h("li", {}, t(`empty.check.${key}`)));
  find("main").classList.add("nothing");
  find("aside").hidden = true;
  $("toolbar").hidden = true;
  $("maptools").hidden = true;
  $("verdict").textContent = "";
  showInstead(
    h("h2", {}, t(`empty.${empty?.code ?? "no_data"}`)),
    h("p", {}, t("empty.what")),
    due,
    h("ul", {}, ...checks),
    empty?.message ? h("p", { class: "keys" }, empty.message) : "",
    h("button", { class: "primary", onclick: () => location.reload() }, t("again")),
  );
  const timer = setInterval(async () => {
    /** @type {Boot | null} */
    const boot = await get("boot").catch(() => null);
    if (boot?.newest) {
      clearInterval(timer);
      location.reload();
    } else if (boot) {
      due.textContent = dueText(boot.schedule);
    }
  }, POLL_MS);
}

/**
 * When the DAG runs next; of a paused DAG, that it is paused.
 * @param {Schedule} schedule
 */
function dueText({ paused, next_run_after: after }) {
  if (paused) {
    return t("empty.paused");
  }
  return after ? t("empty.when", { when: formatClock(after) }) : "";
}

/**
 * The map of the window was made before there was this metric.
 * @param {View} view
 */
export function showNoTable(view) {
  const usual = t(`metric.${view.context.boot.metrics[0].name}`);
  const onclick = () => update({ m: "", lo: "", hi: "" }, { step: true });
  showInstead(
    h("h2", {}, t("error.no_table")),
    h("p", {}, t("no_table.what")),
    h("button", { class: "primary", onclick }, t("no_table.other", { metric: usual })),
  );
}

/** No host matches the filter. */
export function showNoHost() {
  showInstead(
    h("h2", {}, t("nobody")),
    h("button", { onclick: () => update({ q: "" }) }, t("all.hosts")),
  );
}

/** @param {...(Node | string)} children */
function showInstead(...children) {
  $("empty").replaceChildren(...children);
  $("empty").hidden = false;
}
