/**
 * What the page asks to be done: a run of Airflow's Dag `alert_admin`, by the reader and with the reader's session. Says
 * what becomes of the run, so that nobody waits for one that a paused Dag or a stopped scheduler never starts.
 */
import { adminRun, triggerAdmin } from "../api.js";
import { h, isolate } from "../dom.js";
import { t } from "../i18n.js";

const EVERY_MS = 1_500;
const PATIENCE_MS = 30_000;
const LONGEST_MS = 180_000;
const pause = (ms) =>
  new Promise((done) => {
    setTimeout(done, ms);
  });

/** `said` is the line to show; `act(conf, button)` does it and calls `refresh` when it is done. */
export function createAdmin(context, refresh) {
  const said = h("p", { class: "said", role: "status", hidden: true });
  let asked = 0;
  const say = (text, bad = false) => {
    said.textContent = text;
    said.hidden = !text;
    said.classList.toggle("gone", bad);
  };

  async function act(conf, button) {
    const mine = ++asked;
    const tell = (...words) => {
      if (mine === asked) {
        say(...words);
      }
    };
    button.disabled = true;
    tell(t("alarms.asking"));
    try {
      const { dag_run_id: run } = await triggerAdmin({ ...conf, by: context.boot.user ?? "" });
      tell(t(`alarms.done.${conf.action}`));
      await follow(run, conf.action, tell);
      await refresh();
    } catch (error) {
      tell(
        { expired: t("error.expired"), offline: t("error.offline") }[error.code] ??
          { 403: t("alarms.forbidden"), 404: t("alarms.no_dag") }[error.status] ??
          error.message,
        true,
      );
      if (error.code === "expired") {
        context.report(error);
      }
    } finally {
      button.disabled = false;
    }
  }

  async function follow(run, action, tell) {
    const start = Date.now();
    while (Date.now() - start < LONGEST_MS) {
      await pause(EVERY_MS);
      const { state } = await adminRun(run).catch((error) => {
        if (error.code === "offline") {
          return {};
        }
        throw error;
      });
      if (state === "success") {
        tell(t(`alarms.did.${action}`));
        return;
      }
      if (state === "failed") {
        tell(t("alarms.run.failed", { run: isolate(run) }), true);
        return;
      }
      if (state === "queued" && Date.now() - start > PATIENCE_MS) {
        tell(t("alarms.run.waits", { run: isolate(run) }), true);
      }
    }
  }

  return { said, act };
}
