/**
 * The size of the map: the height that the window leaves between controls and time bar, and as much
 * width.
 */
import { $, find } from "../dom.js";

/** From this width on, the panel is beside the map, and is so wide. */
const WIDE_PX = 1_000;
const PANEL_PX = 380;
const LEAST_PX = 400;
/** Below that width: the map's least height, and its part of the window's. */
const LEAST_NARROW_PX = 340;
const NARROW_PART = 0.7;
/** Room of the time bar before it is shown, and below the map. */
const TIME_PX = 52;
const BELOW_PX = 40;

/** Fit the map to the window, now and whenever something above it changes its height. */
export function fitMap() {
  const stage = find(".stage");
  const fit = () => {
    if (!$("panel-mesh").hidden) {
      stage.style.setProperty("--map", `${Math.round(sizeFor(stage))}px`);
    }
  };
  fit();
  new ResizeObserver(fit).observe($("toolbar"));
  new ResizeObserver(fit).observe($("verdict"));
  addEventListener("resize", fit);
}

/** @param {HTMLElement} stage */
function sizeFor(stage) {
  if (innerWidth <= WIDE_PX) {
    return Math.min(stage.clientWidth, Math.max(LEAST_NARROW_PX, innerHeight * NARROW_PART));
  }
  const above = stage.getBoundingClientRect().top + scrollY;
  const room = innerHeight - above - ($("time").offsetHeight || TIME_PX) - BELOW_PX;
  return Math.max(LEAST_PX, Math.min(room, innerWidth - PANEL_PX));
}
