/**
 * Mouse, touch and keys on the map: wheel and pinch zoom to the pointer, dragging pans, dragging with shift (or in
 * block mode) selects a block, a double click drills down; arrow keys move a cell cursor.
 */
const WHEEL = 0.0016;
const CLICK_PX = 4;
const KEY_ZOOM = 1.5;

export function attachInteractions(map, target, events) {
  const pointers = new Map();
  let start = null;
  let pinch = 0;
  let blocking = false;
  const at = (event) => {
    const box = target.getBoundingClientRect();
    return { px: event.clientX - box.left, py: event.clientY - box.top };
  };
  const inside = ({ px, py }) => ({ px: px - map.geometry.margin, py: py - map.geometry.margin });

  target.addEventListener(
    "wheel",
    (event) => {
      if (!map.geometry) {
        return;
      }
      event.preventDefault();
      const { px, py } = inside(at(event));
      const delta = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
      map.setZoom(
        map.zoom *
          Math.exp(-Math.max(-240, Math.min(240, delta)) * WHEEL * (event.ctrlKey ? 4 : 1)),
        Math.max(0, px),
        Math.max(0, py),
      );
      hover(event);
    },
    { passive: false },
  );

  target.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || !map.geometry) {
      return;
    }
    target.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, at(event));
    start = { ...at(event), cell: map.cellAt(at(event).px, at(event).py), moved: false };
    blocking = (event.shiftKey || map.blockMode) && start.cell;
    if (pointers.size === 2) {
      pinch = distance();
    }
  });

  target.addEventListener("pointermove", (event) => {
    if (!map.geometry) {
      return;
    }
    const before = pointers.get(event.pointerId);
    const now = at(event);
    if (!before) {
      hover(event);
      return;
    }
    pointers.set(event.pointerId, now);
    if (pointers.size === 2) {
      const wide = distance();
      const [a, b] = pointers.values();
      const { px, py } = inside({ px: (a.px + b.px) / 2, py: (a.py + b.py) / 2 });
      map.pan((before.px - now.px) / 2, (before.py - now.py) / 2);
      if (pinch && wide) {
        map.setZoom(map.zoom * (wide / pinch), px, py);
      }
      pinch = wide;
      start.moved = true;
      return;
    }
    if (!start.moved && Math.hypot(now.px - start.px, now.py - start.py) < CLICK_PX) {
      return;
    }
    start.moved = true;
    if (blocking) {
      const cell = map.cellAt(now.px, now.py);
      if (cell) {
        map.block = {
          x0: Math.min(start.cell.x, cell.x),
          x1: Math.max(start.cell.x, cell.x) + 1,
          y0: Math.min(start.cell.y, cell.y),
          y1: Math.max(start.cell.y, cell.y) + 1,
        };
        map.draw();
      }
    } else {
      target.classList.add("dragging");
      map.pan(before.px - now.px, before.py - now.py);
    }
    events.hover(null);
  });

  const release = (event) => {
    if (!pointers.delete(event.pointerId)) {
      return;
    }
    target.classList.remove("dragging");
    if (pointers.size || !start) {
      return;
    }
    const { moved, px, py } = start;
    const wasBlock = blocking;
    start = null;
    blocking = false;
    pinch = 0;
    if (event.type === "pointercancel") {
      return;
    }
    if (moved) {
      if (wasBlock) {
        events.block(map.block);
      }
      return;
    }
    const cell = map.cellAt(px, py);
    if (cell) {
      map.cursor = cell;
      map.draw();
      events.pick(cell);
    } else if (map.spanAt(px, py)) {
      events.span(map.spanAt(px, py));
    }
  };
  target.addEventListener("pointerup", release);
  target.addEventListener("pointercancel", release);
  target.addEventListener("pointerleave", () => {
    if (!pointers.size) {
      map.hover = null;
      map.draw();
      events.hover(null);
    }
  });
  target.addEventListener("dblclick", (event) => {
    const cell = map.cellAt(at(event).px, at(event).py);
    if (cell) {
      events.drill(cell);
    }
  });

  function hover(event) {
    const { px, py } = at(event);
    const cell = map.cellAt(px, py);
    if (cell?.x !== map.hover?.x || cell?.y !== map.hover?.y) {
      map.hover = cell;
      map.draw();
    }
    target.classList.toggle("on-axis", !cell && Boolean(map.spanAt(px, py)));
    events.hover(cell, event);
  }

  function distance() {
    const [a, b] = pointers.values();
    return Math.hypot(a.px - b.px, a.py - b.py);
  }

  target.addEventListener("keydown", (event) => {
    if (!map.axis?.n || !map.geometry || event.altKey || event.metaKey) {
      return;
    }
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const move = moves[event.key];
    const middle = map.geometry.side / 2;
    if (move) {
      const seen = map.seen;
      const from = map.cursor ?? {
        x: Math.floor((seen.x0 + seen.x1) / 2),
        y: Math.floor((seen.y0 + seen.y1) / 2),
      };
      const step = event.ctrlKey
        ? Math.max(1, Math.round(map.axis.n / 20))
        : event.shiftKey
          ? 10
          : 1;
      const last = map.axis.n - 1;
      map.cursor =
        map.cursor || step > 1
          ? {
              x: Math.min(last, Math.max(0, from.x + move[0] * step)),
              y: Math.min(last, Math.max(0, from.y + move[1] * step)),
            }
          : from;
      map.reveal(map.cursor);
      events.cursor(map.cursor);
    } else if (event.key === "+" || event.key === "=") {
      map.setZoom(map.zoom * KEY_ZOOM, ...anchor(middle));
    } else if (event.key === "-") {
      map.setZoom(map.zoom / KEY_ZOOM, ...anchor(middle));
    } else if (event.key === "0") {
      events.whole();
    } else if (event.key === "Enter" && map.cursor) {
      if (event.shiftKey) {
        events.drill(map.cursor);
      } else {
        events.pick(map.cursor);
      }
    } else if (event.key === "Escape") {
      events.up();
    } else {
      return;
    }
    event.preventDefault();
  });

  /** The cursor's place where it is in view, else the middle. */
  function anchor(middle) {
    const x = map.cursor ? (map.cursor.x + 0.5 - map.view.x) * map.zoom : -1;
    const y = map.cursor ? (map.cursor.y + 0.5 - map.view.y) * map.zoom : -1;
    return x >= 0 && y >= 0 && x <= 2 * middle && y <= 2 * middle ? [x, y] : [middle, middle];
  }
}
