/**
 * The page: loads the language and what the server knows (`boot`), and shows the tab that the link
 * names. Each tab is a module that is loaded when it is first opened.
 */
import { get } from "./api.js";
import { $, find, h } from "./dom.js";
import {
  LANGUAGES,
  keep,
  language,
  loadLanguage,
  preferredLanguage,
  t,
  translate,
} from "./i18n.js";
import { warm } from "./matrix_workers.js";
import { openMesh } from "./mesh/mesh.js";
import { report, showLink } from "./notice.js";
import { onChange, outerLink, state, update } from "./state.js";
import { toggleTheme } from "./theme.js";
import { openTime } from "./time/bar.js";

/** @import { Boot, Incident, WindowEntry } from "../types/api.js" */
/** @import { Frame } from "./view.js" */
/** @import { Time } from "./time/windows.js" */

/**
 * What the tabs share.
 * @typedef {object} Context
 * @property {Boot} boot
 * @property {typeof report} report
 * @property {(count: number) => void} countAlarms show how many incidents are open
 * @property {Time} [time] once there are windows
 * @property {(entry: WindowEntry) => Promise<Frame>} [frame] a window as play shows it
 * @property {() => void} [arrive] the map is to show what is selected next
 */
/**
 * @typedef {{ show?: () => unknown }} Panel a tab that is open; `show` is called when it is seen
 *   again
 */
/** @typedef {(typeof TABS)[number]} Tab */

const TABS = /** @type {const} */ (["mesh", "alarms", "fleet", "data"]);
/** Steps between the tabs, by key. */
const STEPS = new Map([
  ["ArrowRight", 1],
  ["ArrowLeft", -1],
]);
const COPIED_MS = 1_600;

/** @type {Partial<Record<Tab, Promise<Panel>>>} */
const opened = {};
/** @type {Context} */
const context = { boot: /** @type {any} */ (null), report, countAlarms };

async function start() {
  warm();
  const [boot] = await Promise.allSettled([get("boot"), loadLanguage(preferredLanguage())]);
  translate();
  fillHead();
  if (boot.status === "rejected") {
    report(boot.reason, start);
    return;
  }
  context.boot = boot.value;
  report(null);
  await showTab();
  await countOpenIncidents();
}

/** The count beside the tab; nothing waits for it. */
async function countOpenIncidents() {
  const alarms = await get("incidents").catch(() => null);
  if (alarms && !opened.alarms) {
    /** @param {Incident} incident */
    const isOpen = (incident) => !incident.acknowledged_by && !incident.silenced;
    countAlarms(alarms.incidents.filter(isOpen).length);
  }
}

function fillHead() {
  const options = Object.entries(LANGUAGES).map(([code, label]) =>
    h("option", { value: code, selected: code === language, lang: code }, label),
  );
  $("language").replaceChildren(...options);
  $("language").onchange = () => {
    keep("pingmesh.language", $("language").value);
    location.reload();
  };
  $("theme").onclick = toggleTheme;
  $("copy").onclick = copyLink;
  find(".skip").onclick = skip;
  for (const tab of TABS) {
    const button = $(`tab-${tab}`);
    button.onclick = () => update({ tab }, { step: true });
    button.onkeydown = ({ key }) => stepFrom(tab, STEPS.get(key));
  }
}

/**
 * @param {Tab} tab
 * @param {number} [step]
 */
function stepFrom(tab, step) {
  if (step) {
    const to = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
    update({ tab: to });
    $(`tab-${to}`).focus();
  }
}

/**
 * To the map, or to the panel of another tab: the map takes no focus while it is hidden. The hash
 * stays that of the view.
 * @param {Event} event
 */
function skip(event) {
  event.preventDefault();
  find("[role=tabpanel]:not([hidden])").focus();
  $("overlay").focus();
}

async function showTab() {
  const current = TABS.find((tab) => tab === state.tab) ?? "mesh";
  for (const tab of TABS) {
    const isCurrent = tab === current;
    $(`panel-${tab}`).hidden = !isCurrent;
    $(`tab-${tab}`).setAttribute("aria-selected", String(isCurrent));
    $(`tab-${tab}`).tabIndex = isCurrent ? 0 : -1;
  }
  const hasWindows = Boolean(context.boot?.newest);
  $("time").hidden = current === "alarms" || !hasWindows;
  try {
    if (hasWindows) {
      context.time ??= openTime(context);
    }
    opened[current] ??= open(current);
    const panel = await opened[current];
    panel?.show?.();
  } catch (error) {
    delete opened[current];
    report(await reasonOf(error), showTab);
  }
}

/**
 * @param {Tab} tab
 * @returns {Promise<Panel>}
 */
async function open(tab) {
  if (tab === "mesh") {
    return openMesh(context);
  }
  const panel = await import(`./panels/${tab}.js`);
  return panel.open($(`panel-${tab}`), context);
}

/**
 * A module that cannot be loaded gives a TypeError without a reason (an expired session, no
 * network); a request to the API gives it.
 * @param {Error} error
 */
async function reasonOf(error) {
  if (!(error instanceof TypeError)) {
    return error;
  }
  return get("boot").then(
    () => error,
    (reason) => reason,
  );
}

onChange((changed) => {
  if (changed.has("tab")) {
    showTab();
  }
});

async function copyLink() {
  const link = outerLink();
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    showLink(link); // the frame may not write to the clipboard
    return;
  }
  $("copy").textContent = t("copied");
  setTimeout(() => {
    $("copy").textContent = t("copy");
  }, COPIED_MS);
}

/** @param {number} count */
function countAlarms(count) {
  $("alarm-count").hidden = !count;
  $("alarm-count").textContent = String(count);
}

start();
