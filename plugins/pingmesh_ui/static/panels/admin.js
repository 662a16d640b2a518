/**
 * What the page has Airflow do: a run of the DAG `alert_admin`, with the reader's session. The
 * state of the run is shown, so that nobody waits for a run that a paused DAG or a stopped
 * scheduler never starts.
 */
import { adminRun, triggerAdmin } from "../api.js";
import { h, isolate } from "../dom.js";
import { t } from "../i18n.js";

/** @import { ApiError, DagRun } from "../../types/api.js" */
/** @import { Context } from "../app.js" */

/** @typedef {{ action: string, [key: string]: unknown }} Conf of the run */
/** @typedef {(text: string, isBad?: boolean) => void} Say */

const POLL_MS = 1_500;
/** A run that is queued for so long may never start. */
const PATIENCE_MS = 30_000;
const LONGEST_MS = 180_000;

/** @param {number} ms */
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

export class Admin {
  /** The line that says how the last run is going. */
  line = h("p", { class: "said", role: "status", hidden: true });
  #context;
  #refresh;
  #runs = 0;

  /**
   * @param {Context} context
   * @param {() => Promise<void>} refresh called when a run has ended
   */
  constructor(context, refresh) {
    this.#context = context;
    this.#refresh = refresh;
  }

  /**
   * @param {Conf} conf
   * @param {HTMLButtonElement} button disabled until the run has ended
   */
  async act(conf, button) {
    const run = ++this.#runs;
    /** @type {Say} only of the last run */
    const say = (text, isBad = false) => {
      if (run === this.#runs) {
        this.#say(text, isBad);
      }
    };
    button.disabled = true;
    say(t("alarms.asking"));
    try {
      const by = this.#context.boot.user ?? "";
      const { dag_run_id: id } = await triggerAdmin({ ...conf, by });
      say(t(`alarms.done.${conf.action}`));
      await follow(id, conf.action, say);
      await this.#refresh();
    } catch (error) {
      say(reasonOf(error), true);
      if (error.code === "expired") {
        this.#context.report(error);
      }
    } finally {
      button.disabled = false;
    }
  }

  /**
   * @param {string} text
   * @param {boolean} isBad
   */
  #say(text, isBad) {
    this.line.textContent = text;
    this.line.hidden = !text;
    this.line.classList.toggle("gone", isBad);
  }
}

/** @param {ApiError} error */
function reasonOf({ code, status, message }) {
  if (code === "expired" || code === "offline") {
    return t(`error.${code}`);
  }
  if (status === 403) {
    return t("alarms.forbidden");
  }
  return status === 404 ? t("alarms.no_dag") : message;
}

/**
 * Say how a run is going until it has ended.
 * @param {string} run
 * @param {string} action
 * @param {Say} say
 */
async function follow(run, action, say) {
  const start = Date.now();
  while (Date.now() - start < LONGEST_MS) {
    await pause(POLL_MS);
    const state = await stateOf(run);
    if (state === "success") {
      say(t(`alarms.did.${action}`));
      return;
    }
    if (state === "failed") {
      say(t("alarms.run.failed", { run: isolate(run) }), true);
      return;
    }
    if (state === "queued" && Date.now() - start > PATIENCE_MS) {
      say(t("alarms.run.waits", { run: isolate(run) }), true);
    }
  }
}

/**
 * The state of a run; undefined while Airflow does not answer.
 * @param {string} run
 * @returns {Promise<DagRun["state"]>}
 */
async function stateOf(run) {
  try {
    return (await adminRun(run)).state;
  } catch (error) {
    if (error.code === "offline") {
      return undefined;
    }
    throw error;
  }
}
