/**
 * The page: starts with the language and what the server knows (`boot`), shows the tab that the link names, and says in
 * words when something does not work. Each tab is a module that is loaded when it is first opened.
 */
import { HOME, get, warm } from "./api.js";
import { $, h } from "./dom.js";
import {
  LANGUAGES,
  keep,
  language,
  loadLanguage,
  preferredLanguage,
  t,
  translate,
} from "./i18n.js";
import { openMesh } from "./mesh/mesh.js";
import { onChange, outerLink, state, update } from "./state.js";
import { toggleTheme } from "./theme.js";
import { openTime } from "./time/bar.js";

const TABS = ["mesh", "alarms", "fleet", "data"];
const opened = {};
const context = { boot: null, report, countAlarms };

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
  const open = await get("incidents").catch(() => null); // the count beside the tab; nothing waits for it
  if (open && !opened.alarms) {
    countAlarms(open.incidents.filter((one) => !one.acknowledged_by && !one.silenced).length);
  }
}

function fillHead() {
  $("language").replaceChildren(
    ...Object.entries(LANGUAGES).map(([code, label]) =>
      h("option", { value: code, selected: code === language, lang: code }, label),
    ),
  );
  $("language").onchange = () => {
    keep("pingmesh.language", $("language").value);
    location.reload();
  };
  $("theme").onclick = toggleTheme;
  $("copy").onclick = copyLink;
  document.querySelector(".skip").onclick = skip;
  for (const tab of TABS) {
    const button = $(`tab-${tab}`);
    button.onclick = () => update({ tab }, { step: true });
    button.onkeydown = (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (step) {
        const to = TABS[(TABS.indexOf(tab) + step + TABS.length) % TABS.length];
        update({ tab: to });
        $(`tab-${to}`).focus();
      }
    };
  }
}

/** To the map, or to the panel where there is none: what is hidden takes no focus. The hash stays the view's. */
function skip(event) {
  event.preventDefault();
  document.querySelector("[role=tabpanel]:not([hidden])").focus();
  $("overlay").focus();
}

async function showTab() {
  const current = TABS.includes(state.tab) ? state.tab : "mesh";
  for (const tab of TABS) {
    $(`panel-${tab}`).hidden = tab !== current;
    $(`tab-${tab}`).setAttribute("aria-selected", tab === current);
    $(`tab-${tab}`).tabIndex = tab === current ? 0 : -1;
  }
  $("time").hidden = current === "alarms" || !context.boot?.newest;
  try {
    if (context.boot?.newest) {
      context.time ??= openTime(context);
    }
    opened[current] ??=
      current === "mesh"
        ? openMesh(context)
        : (await import(`./panels/${current}.js`)).open($(`panel-${current}`), context);
    (await opened[current])?.show?.();
  } catch (error) {
    delete opened[current];
    // A module that does not come says nothing of why: an expired session, or no network. The API does.
    report(
      error instanceof TypeError
        ? await get("boot").then(
            () => error,
            (reason) => reason,
          )
        : error,
      showTab,
    );
  }
}

onChange((changed) => {
  if (changed.has("tab")) {
    showTab();
  }
});

/** Say what went wrong and what to do about it; null takes it back. */
export function report(error, again) {
  const box = $("notice");
  if (!error || error.name === "AbortError") {
    if (!error) {
      box.hidden = true;
    }
    return;
  }
  const code = error.code ?? "failed";
  const expired = code === "expired";
  const known = t(`error.${code}`);
  box.className = ["expired", "forbidden"].includes(code) ? "bad" : "";
  box.replaceChildren(
    h("strong", {}, known === `error.${code}` ? t("error.failed") : known),
    h("span", {}, expired || code === "offline" ? "" : error.message),
    expired ? h("a", { href: loginLink() }, t("login")) : "",
    expired
      ? ""
      : again
        ? h(
            "button",
            {
              onclick: () => {
                box.hidden = true;
                again();
              },
            },
            t("again"),
          )
        : "",
    h("span", { class: "grow" }),
    h(
      "button",
      {
        class: "quiet",
        "aria-label": t("close"),
        onclick: () => {
          box.hidden = true;
        },
      },
      "×",
    ),
  );
  box.hidden = false;
}

/** Airflow's login, coming back to this view: within the frame, which may not navigate the window around it. */
function loginLink() {
  return `${HOME.pathname.replace(/pingmesh\/$/, "")}auth/login?next=${encodeURIComponent(location.href)}`;
}

async function copyLink() {
  const link = outerLink();
  try {
    await navigator.clipboard.writeText(link);
    $("copy").textContent = t("copied");
  } catch {
    const field = h("input", { value: link, readOnly: true, "aria-label": t("copy"), size: 60 });
    $("notice").className = "";
    $("notice").replaceChildren(
      h("span", {}, t("copy.here")),
      field,
      h(
        "button",
        {
          onclick: () => {
            $("notice").hidden = true;
          },
        },
        t("close"),
      ),
    );
    $("notice").hidden = false;
    field.focus();
    field.select();
    return;
  }
  setTimeout(() => {
    $("copy").textContent = t("copy");
  }, 1600);
}

function countAlarms(count) {
  $("alarm-count").hidden = !count;
  $("alarm-count").textContent = count;
}

start();
