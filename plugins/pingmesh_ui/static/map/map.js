/**
 * The map: two canvases over each other, one for cells, one for all that is drawn on and around them. It knows a
 * matrix, an axis and a view; what a click means is for its owner: `events` are hover, pick, drill, block, view.
 */
import { drawOverlay, marginFor } from "./overlay.js";
import { STATES, buildLut } from "./palette.js";
import { sample } from "./sampler.js";
import { attachInteractions } from "./interactions.js";

const MOST = 120;
const SLOW_MS = 12;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export function createMap(cells, overlay, events, words) {
  const onCells = cells.getContext("2d", { alpha: false });
  const onTop = overlay.getContext("2d");
  const spare = document.createElement("canvas");
  const onSpare = spare.getContext("2d", { alpha: false });
  const map = {
    axis: null,
    levels: null,
    means: null,
    scale: null,
    theme: "light",
    hatch: true,
    view: { x: 0, y: 0 },
    zoom: 1,
    fit: 1,
    geometry: null,
    hover: null,
    cursor: null,
    block: null,
    focus: null,
    rings: [],
    alarms: [],
    moving: false,
    frames: [],
  };
  let lut = null;
  let image = null;
  let dirtyCells = false;
  let dirtyTop = false;
  let waiting = 0;
  let coarse = 1;
  let width = 0;
  let height = 0;
  let flight = 0;
  let goesWhole = false;

  function layout() {
    width = overlay.clientWidth;
    height = overlay.clientHeight;
    if (!map.axis || !width || !height) {
      return;
    }
    const was = map.fit;
    const n = Math.max(1, map.axis.n);
    const side = Math.min(width, height);
    let margin = marginFor(onTop, map.axis, (side - 100) / n);
    map.fit = Math.min(84, Math.max(1, side - margin.size - 2) / n);
    margin = marginFor(onTop, map.axis, map.fit);
    const atFit = goesWhole || Math.abs(map.zoom - was) < was * 1e-6;
    cancelAnimationFrame(flight);
    goesWhole = false;
    map.geometry = { margin: margin.size, names: margin.names, side: side - margin.size - 1 };
    map.fit = Math.min(84, map.geometry.side / n);
    map.zoom = atFit ? map.fit : Math.max(map.fit, map.zoom);
    clamp();
    const ratio = devicePixelRatio || 1;
    const px = Math.round(map.geometry.side * ratio);
    cells.style.left = cells.style.top = `${margin.size}px`;
    cells.style.width = cells.style.height = `${map.geometry.side}px`;
    if (cells.width !== px) {
      cells.width = cells.height = px;
    }
    overlay.width = Math.round(width * ratio);
    overlay.height = Math.round(height * ratio);
    onTop.setTransform(ratio, 0, 0, ratio, 0, 0);
    image = null;
    draw(true);
  }

  function clamp() {
    const most = Math.max(0, map.axis.n - map.geometry.side / map.zoom);
    map.view.x = Math.min(most, Math.max(0, map.view.x));
    map.view.y = Math.min(most, Math.max(0, map.view.y));
  }

  function draw(all = false) {
    dirtyTop = true;
    dirtyCells ||= all;
    if (!waiting) {
      waiting = requestAnimationFrame(frame);
    }
  }

  function frame() {
    waiting = 0;
    if (!map.geometry) {
      return;
    }
    const started = performance.now();
    if (dirtyCells && map.levels && lut) {
      drawCells();
    }
    if (dirtyTop && map.colours) {
      drawTop();
    }
    dirtyCells = dirtyTop = false;
    const took = performance.now() - started;
    map.frames.push(took);
    if (map.frames.length > 240) {
      map.frames.shift();
    }
    if (map.moving) {
      coarse = took > SLOW_MS ? 2 : coarse;
    }
  }

  /** While the view moves and frames are slow, every other pixel is drawn twice; at rest each is drawn. */
  function drawCells() {
    const step = map.moving ? coarse : 1;
    const px = Math.ceil(cells.width / step);
    if (!image || image.width !== px) {
      image = new ImageData(px, px);
    }
    const pixels = new Uint32Array(image.data.buffer);
    const scale = (map.zoom * (devicePixelRatio || 1)) / step;
    sample(pixels, px, px, map.levels, map.view, scale, lut, lut.outside);
    if (step === 1) {
      onCells.putImageData(image, 0, 0);
    } else {
      spare.width = spare.height = px;
      onSpare.putImageData(image, 0, 0);
      onCells.imageSmoothingEnabled = false;
      onCells.drawImage(spare, 0, 0, px * step, px * step);
    }
  }

  function drawTop() {
    const level = map.levels?.[0];
    drawOverlay(onTop, width, height, {
      ...map,
      words,
      codes: level && level.n === map.axis.n ? level.codes : null,
      geometry: { ...map.geometry, scale: map.zoom, view: map.view },
    });
  }

  function setZoom(zoom, px, py) {
    const z = Math.min(Math.max(zoom, map.fit), Math.max(MOST, map.fit));
    map.view.x += px / map.zoom - px / z;
    map.view.y += py / map.zoom - py / z;
    map.zoom = z;
    clamp();
    moved();
  }

  let rest = 0;
  function moved() {
    map.moving = true;
    clearTimeout(rest);
    rest = setTimeout(() => {
      map.moving = false;
      coarse = 1;
      draw(true);
      events.view();
    }, 140);
    draw(true);
  }

  Object.defineProperties(
    map,
    Object.getOwnPropertyDescriptors({
      layout,
      draw,
      setZoom,
      /** Draw now what waits for the next frame: for callers that are at the beginning of one. */
      drawNow() {
        if (waiting) {
          cancelAnimationFrame(waiting);
          frame();
        }
      },
      get isWhole() {
        return map.zoom <= map.fit * 1.001;
      },
      pan(dx, dy) {
        map.view.x += dx / map.zoom;
        map.view.y += dy / map.zoom;
        clamp();
        moved();
      },
      /** The cell under a point of the overlay, or null. */
      cellAt(px, py) {
        if (!map.geometry || !map.axis) {
          return null;
        }
        const { margin, side } = map.geometry;
        const x = px - margin;
        const y = py - margin;
        if (x < 0 || y < 0 || x >= side || y >= side) {
          return null;
        }
        const cell = {
          x: Math.floor(map.view.x + x / map.zoom),
          y: Math.floor(map.view.y + y / map.zoom),
        };
        return cell.x < map.axis.n && cell.y < map.axis.n ? cell : null;
      },
      /** The span of an axis' bracket under a point: { span, isRow }, or null. */
      spanAt(px, py) {
        if (!map.geometry || !map.axis) {
          return null;
        }
        const { margin, side } = map.geometry;
        const isRow = px < margin && py >= margin;
        const isColumn = py < margin && px >= margin;
        if (!isRow && !isColumn) {
          return null;
        }
        const at = Math.floor(
          isRow ? map.view.y + (py - margin) / map.zoom : map.view.x + (px - margin) / map.zoom,
        );
        if (at < 0 || at >= map.axis.n || (isRow ? py : px) > margin + side) {
          return null;
        }
        let depth = Math.floor((margin - 5 - (isRow ? px : py)) / 21);
        if (map.zoom >= 12) {
          if (margin - 5 - (isRow ? px : py) < map.geometry.names) {
            return { isRow, path: map.axis.hosts[at].name, start: at, stop: at + 1 };
          }
          depth = Math.floor((margin - 5 - map.geometry.names - (isRow ? px : py)) / 21);
        }
        const level = map.axis.brackets[Math.max(0, depth)];
        const span = level?.spans.find(({ start, stop }) => at >= start && at < stop);
        return span ? { isRow, path: span.path, start: span.start, stop: span.stop } : null;
      },
      setAxis(axis) {
        map.axis = axis;
        map.levels = map.means = null;
        map.hover = map.cursor = map.block = map.focus = null;
        map.rings = [];
        map.alarms = [];
        map.zoom = map.fit;
        layout();
      },
      setLevels(levels, means) {
        map.levels = levels;
        if (means !== undefined) {
          map.means = means;
        }
        draw(true);
      },
      setLook(scale, theme, colours) {
        const isSame =
          lut &&
          map.theme === theme &&
          Object.keys(scale).every((key) => map.scale[key] === scale[key]);
        Object.assign(map, { scale, theme, colours });
        draw(true);
        if (isSame) {
          return;
        }
        lut = buildLut(scale, theme);
        const paper = STATES[theme].paper;
        lut.outside =
          (0xff000000 |
            (parseInt(paper.slice(5, 7), 16) << 16) |
            (parseInt(paper.slice(3, 5), 16) << 8) |
            parseInt(paper.slice(1, 3), 16)) >>>
          0;
      },
      /** Show cells x0…x1 × y0…y1, with some air around them. */
      fly({ x0, x1, y0, y1 }, whole = false) {
        const { side } = map.geometry;
        const room = Math.max(x1 - x0, y1 - y0, 1) * (whole ? 1 : 1.12);
        const zoom = Math.min(Math.max(map.fit, side / room), Math.max(MOST, map.fit));
        goesWhole = whole;
        glide({ x: (x0 + x1) / 2 - side / zoom / 2, y: (y0 + y1) / 2 - side / zoom / 2, zoom });
      },
      place(x, y, zoom) {
        cancelAnimationFrame(flight);
        map.view = { x, y };
        map.zoom = Math.min(Math.max(zoom, map.fit), Math.max(MOST, map.fit));
        clamp();
        draw(true);
      },
      /** Bring a cell into view. */
      reveal({ x, y }) {
        const seen = map.geometry.side / map.zoom;
        if (x < map.view.x || x + 1 > map.view.x + seen) {
          map.view.x = x + 0.5 - seen / 2;
        }
        if (y < map.view.y || y + 1 > map.view.y + seen) {
          map.view.y = y + 0.5 - seen / 2;
        }
        clamp();
        draw(true);
      },
      /** What is seen, as cells. */
      get seen() {
        const cellsWide = map.geometry.side / map.zoom;
        return {
          x0: map.view.x,
          x1: Math.min(map.axis.n, map.view.x + cellsWide),
          y0: map.view.y,
          y1: Math.min(map.axis.n, map.view.y + cellsWide),
        };
      },
      /** The picture as it is, for saving. */
      picture() {
        const out = document.createElement("canvas");
        const ratio = devicePixelRatio || 1;
        out.width = overlay.width;
        out.height = overlay.height;
        const context = out.getContext("2d");
        context.fillStyle = map.colours.paper;
        context.fillRect(0, 0, out.width, out.height);
        context.drawImage(
          cells,
          Math.round(map.geometry.margin * ratio),
          Math.round(map.geometry.margin * ratio),
        );
        context.drawImage(overlay, 0, 0);
        return out;
      },
    }),
  );

  function glide(to) {
    cancelAnimationFrame(flight);
    const from = { ...map.view, zoom: map.zoom };
    const started = performance.now();
    const length = still.matches ? 0 : 260;
    const step = (now) => {
      const part = length ? Math.min(1, Math.max(0, (now - started) / length)) : 1;
      const ease = 1 - (1 - part) ** 3;
      const zoom = from.zoom * (to.zoom / from.zoom) ** ease;
      const { side } = map.geometry;
      const share =
        to.zoom === from.zoom ? ease : (1 / from.zoom - 1 / zoom) / (1 / from.zoom - 1 / to.zoom);
      const middle = (a, b) =>
        a + side / from.zoom / 2 + (b + side / to.zoom / 2 - a - side / from.zoom / 2) * share;
      map.view = {
        x: middle(from.x, to.x) - side / zoom / 2,
        y: middle(from.y, to.y) - side / zoom / 2,
      };
      map.zoom = zoom;
      clamp();
      moved();
      if (part < 1) {
        flight = requestAnimationFrame(step);
      } else {
        goesWhole = false;
      }
    };
    step(started);
  }

  attachInteractions(map, overlay, events);
  new ResizeObserver(() => layout()).observe(overlay.parentElement);
  return map;
}
