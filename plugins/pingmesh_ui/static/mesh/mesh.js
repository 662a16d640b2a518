/**
 * The mesh tab: the map, what is known of the cell under the pointer and of the selection, and what
 * is worst. Changes of the state come in through `follow`, windows through `load` (loader.js).
 */
import { $ } from "../dom.js";
import { formatPoints, formatValue } from "../format.js";
import { t } from "../i18n.js";
import { MeshMap } from "../map/map.js";
import { hostScores } from "../map/worst.js";
import { onChange, state, update } from "../state.js";
import { onTheme } from "../theme.js";
import { createView, sharpen } from "../view.js";
import { describeCell } from "./cell_text.js";
import { showEmpty } from "./empty.js";
import { arrangeAxis, frameOf, load } from "./loader.js";
import { fitMap } from "./map_size.js";
import { look } from "./scale.js";
import { drill, goUp, select, showSelection } from "./selection.js";
import { fillToolbar, mirrorToolbar } from "./toolbar.js";
import { showTip } from "./tooltip.js";

/** @import { Context } from "../app.js" */
/** @import { MapEvents } from "../map/map.js" */
/** @import { MapWords } from "../map/overlay.js" */
/** @import { StateKey } from "../state.js" */
/** @import { Time } from "../time/windows.js" */
/** @import { View } from "../view.js" */

/** The map stays where it is when the link differs by no more than this: px a cell, and cells. */
const SAME_ZOOM = 0.01;
const SAME_PLACE = 0.02;

/**
 * Open the tab with the window that the link names.
 * @param {Context} context
 */
export async function openMesh(context) {
  const view = createView(context);
  view.map = new MeshMap($("cells"), $("overlay"), eventsOf(view), wordsOn(view));
  fitMap();
  if (!context.boot.newest) {
    showEmpty(context.boot);
    return view;
  }
  view.time = /** @type {Time} */ (context.time);
  fillToolbar(view);
  context.frame = (entry) => frameOf(view, entry);
  context.arrive = () => {
    view.arriving = true;
    view.flying = true;
  };
  onTheme(() => look(view));
  onChange((changed) => follow(view, changed));
  view.show = () => {
    view.map.layout();
    if (view.waiting) {
      load(view, view.waiting);
    }
  };
  await view.time.follow((entry, options) => {
    if ($("panel-mesh").hidden) {
      view.waiting = entry;
      return undefined;
    }
    return load(view, entry, options);
  });
  view.time.rest();
  return view;
}

/**
 * @param {View} view
 * @returns {MapEvents}
 */
const eventsOf = (view) => ({
  hover: (cell, event) => showTip(view, cell, event),
  pick: (cell) => select(view, sharpen(view, cell)),
  drill: (cell) => drill(view, cell),
  span: ({ path }) => {
    view.flying = true;
    const isHost = view.axis.position(path) >= 0;
    update({ sel: isHost ? `${path}>` : `${path}>${path}` }, { step: true });
  },
  block: (block) => {
    const blk = block ? [block.x0, block.y0, block.x1, block.y1].join() : "";
    update({ blk }, { step: true });
  },
  cursor: (cell) => {
    $("cell").textContent = describeCell(view, cell);
  },
  whole: () => update({ sel: "", at: "" }, { step: true }),
  up: () => goUp(view),
  view: () => rememberView(view),
});

/**
 * Words on the map, in the language that is loaded by now.
 * @param {View} view
 * @returns {MapWords}
 */
const wordsOn = (view) => ({
  destination: t("destination.arrow"),
  source: t("source.arrow"),
  value: (value) => {
    const kind = view.kind();
    return kind === "points" ? formatPoints(value) : formatValue(value, kind);
  },
});

/** @param {View} view */
function rememberView({ map }) {
  const place = [map.view.x, map.view.y, map.zoom].map((value) => +value.toFixed(2));
  update({ at: map.isWhole ? "" : place.join() });
}

/**
 * What a change of the state means for the tab.
 * @param {View} view
 * @param {Set<StateKey>} changed
 */
function follow(view, changed) {
  /** @param {StateKey[]} keys */
  const any = (...keys) => keys.some((key) => changed.has(key));
  mirrorToolbar(view);
  if (any("lv")) {
    view.abort?.abort(); // the requests that run are for another level of time
  }
  if (any("q", "sort")) {
    scoreHosts(view);
    arrangeAxis(view);
    load(view, view.window);
  } else if (any("m", "cmp")) {
    load(view, view.window);
  } else if (any("sc", "lo", "hi")) {
    look(view);
  }
  if (any("hatch")) {
    look(view);
  }
  if (any("sel", "blk") && view.axis) {
    const flies = changed.has("sel") && (view.flying || view.arriving);
    view.flying = false;
    showSelection(view, flies);
  } else if (any("at")) {
    followPlace(view);
  }
}

/**
 * The scores for sorting by the worst, from the matrix that is shown.
 * @param {View} view
 */
function scoreHosts(view) {
  if (state.sort === "worst" && view.levels?.[0] && !view.axis.order) {
    view.scores = hostScores(view.levels[0].codes, view.axis.n);
  }
}

/**
 * Go where the link says, unless the link was written by the map itself.
 * @param {View} view
 */
function followPlace({ map }) {
  if (map.moving || !map.geometry) {
    return;
  }
  const [x, y, zoom] = (state.at || `0,0,${map.fit}`).split(",").map(Number);
  const isElsewhere =
    Math.abs(zoom - map.zoom) > SAME_ZOOM ||
    Math.abs(x - map.view.x) > SAME_PLACE ||
    Math.abs(y - map.view.y) > SAME_PLACE;
  if (isElsewhere) {
    map.place(x, y, zoom);
  }
}
