/** The controls around the map: they change the state, and show what it is. */
import { $, h } from "../dom.js";
import { saveCells, savePicture } from "../export.js";
import { t } from "../i18n.js";
import { state, update } from "../state.js";
import { isComparable, isOffered } from "../view.js";

/** @import { StateKey } from "../state.js" */
/** @import { View } from "../view.js" */

const ZOOM = 1.6;
/** The list of hosts is filtered when the reader has not typed for so long. */
const TYPING_MS = 250;
const SCALES = ["log", "linear", "threshold"];

/** @param {View} view */
export function fillToolbar(view) {
  const { metrics } = view.context.boot;
  const options = metrics.map(({ name }) => h("option", { value: name }, t(`metric.${name}`)));
  $("metric").replaceChildren(...options);
  attachChoices(view);
  attachSearch();
  attachZoom(view);
  attachExport(view);
  mirrorToolbar(view);
}

/** @param {View} view */
function attachChoices(view) {
  $("metric").onchange = () => update({ m: $("metric").value, lo: "", hi: "" }, { step: true });
  $("scale").onchange = () => update({ sc: $("scale").value, lo: "", hi: "" });
  $("compare").onchange = () => update({ cmp: $("compare").value }, { step: true });
  $("hatch").onchange = () => update({ hatch: $("hatch").checked ? "1" : "0" });
  $("sort").onchange = () => update({ sort: $("sort").value, at: "", blk: "" }, { step: true });
  attachEnd(view, $("low"), "lo");
  attachEnd(view, $("high"), "hi");
}

/**
 * An end of the scale is written in ms or per cent.
 * @param {View} view
 * @param {HTMLInputElement} field
 * @param {StateKey} key
 */
function attachEnd(view, field, key) {
  field.onchange = () => {
    const value = Number(field.value.replace(",", "."));
    const end = view.kind() === "share" ? value / 100 : value * 1000;
    update({ [key]: value > 0 ? end : "" });
  };
}

function attachSearch() {
  let timer = 0;
  $("search").oninput = () => {
    clearTimeout(timer);
    const filter = () => update({ q: $("search").value.trim(), at: "", blk: "" });
    timer = setTimeout(filter, TYPING_MS);
  };
}

/** @param {View} view */
function attachZoom({ map }) {
  $("zoom-in").onclick = () => map.zoomBy(ZOOM);
  $("zoom-out").onclick = () => map.zoomBy(1 / ZOOM);
  $("zoom-all").onclick = () => {
    map.flyToAll();
    update({ sel: "", at: "", blk: "" }, { step: true });
  };
  $("block").onclick = () => {
    map.blockMode = !map.blockMode;
    $("block").setAttribute("aria-pressed", String(map.blockMode));
  };
}

/** @param {View} view */
function attachExport(view) {
  const fileName = () => `pingmesh-${view.window.id}-${view.metric().name}`;
  $("save-png").onclick = () => savePicture(view.map.picture(), fileName());
  $("save-csv").onclick = () => saveCells(view, "csv", fileName());
  $("save-json").onclick = () => saveCells(view, "json", fileName());
}

/**
 * Controls show what the state says.
 * @param {View} view
 */
export function mirrorToolbar(view) {
  for (const option of $("metric").options) {
    option.disabled = !isOffered(view, option.value);
  }
  $("metric").value = view.metric().name;
  $("compare").disabled = !isComparable(view);
  $("scale").value = SCALES.includes(state.sc) ? state.sc : "log";
  $("hatch").checked = state.hatch === "1";
  $("sort").value = state.sort;
  if (document.activeElement !== $("search")) {
    $("search").value = state.q;
  }
}
