/**
 * The two axes of the map are the same list of hosts. Neighbours of one ToR, podset or DC are a
 * span with a path ("dc1/podset2/tor1"), so that a path, like a host's name, is a range of
 * positions.
 */

/** @typedef {"tor" | "podset" | "dc"} GroupKind from fine to coarse */
/** @typedef {{ name: string, address: string, dc: string, podset: string, tor: string }} Host */
/**
 * @typedef {{ start: number, stop: number, path: string, label: string }} Span `stop` is excluded
 */
/** @typedef {{ kind: GroupKind, spans: Span[] }} Bracket the spans of one kind of group */
/**
 * A path or a name as positions; of all hosts the path is "".
 * @typedef {{ kind: "all" | "host" | GroupKind, path: string, start: number, stop: number }} Range
 */
/**
 * @typedef {object} Axis
 * @property {Host[]} hosts those that are shown, in their order
 * @property {number} n how many they are
 * @property {Int32Array | null} order positions in the inventory; null: all, as they are
 * @property {(name: string) => number} position of a host; −1 where it is not shown
 * @property {Bracket[]} levels
 * @property {Bracket[]} brackets the levels that are drawn: more than one span, fewer than hosts
 * @property {(i: number, kind: "host" | GroupKind) => string} path of the host or group at a
 *   position
 */

const KINDS = /** @type {GroupKind[]} */ (["tor", "podset", "dc"]);

/**
 * @param {Host[]} hosts the inventory
 * @param {Int32Array | null} [order] positions that are shown; null: all, as they are
 * @param {boolean} [hasTopology] whether neighbours belong together
 * @returns {Axis}
 */
export function makeAxis(hosts, order = null, hasTopology = true) {
  const shown = order ? Array.from(order, (i) => hosts[i]) : hosts;
  const positions = new Map(shown.map((host, i) => [host.name, i]));
  const levels = hasTopology ? KINDS.map((kind) => ({ kind, spans: spansOf(shown, kind) })) : [];
  const n = shown.length;
  return {
    hosts: shown,
    n,
    order,
    position: (name) => positions.get(name) ?? -1,
    levels,
    brackets: levels.filter(({ spans }) => spans.length > 1 && spans.length < n),
    path: (i, kind) => pathOf(shown[i], kind),
  };
}

/**
 * @param {Host} host
 * @param {"host" | GroupKind} kind
 */
function pathOf(host, kind) {
  switch (kind) {
    case "host":
      return host.name;
    case "dc":
      return host.dc;
    case "podset":
      return `${host.dc}/${host.podset}`;
    default:
      return `${host.dc}/${host.podset}/${host.tor}`;
  }
}

/**
 * @param {Host[]} hosts
 * @param {GroupKind} kind
 */
function spansOf(hosts, kind) {
  /** @type {Span[]} */
  const spans = [];
  hosts.forEach((host, i) => {
    const path = pathOf(host, kind);
    const last = spans.at(-1);
    if (last?.path === path) {
      last.stop = i + 1;
    } else {
      spans.push({ start: i, stop: i + 1, path, label: host[kind] });
    }
  });
  return spans;
}

/**
 * The range of a path or a name; null where the axis has none.
 * @param {Axis} axis
 * @param {string} path
 * @returns {Range | null}
 */
export function findRange(axis, path) {
  if (!path) {
    return { kind: "all", path: "", start: 0, stop: axis.n };
  }
  const i = axis.position(path);
  if (i >= 0) {
    return { kind: "host", path, start: i, stop: i + 1 };
  }
  for (const { kind, spans } of axis.levels) {
    const first = spans.find((span) => span.path === path);
    const last = spans.findLast((span) => span.path === path);
    if (first && last) {
      return { kind, path, start: first.start, stop: last.stop };
    }
  }
  return null;
}

/**
 * The paths above a path, from wide to narrow, itself included.
 * @param {Axis} axis
 * @param {string} path
 */
export function lineage(axis, path) {
  const range = findRange(axis, path);
  if (!range || range.kind === "all") {
    return [];
  }
  const kinds = ["host", ...axis.brackets.map(({ kind }) => kind)];
  return kinds
    .slice(Math.max(0, kinds.indexOf(range.kind)))
    .reverse()
    .map((kind) => axis.path(range.start, /** @type {"host" | GroupKind} */ (kind)));
}

/** @typedef {(text: string) => number} Measure the width of a text, in px */

/**
 * A label in the room there is: whole, then its initial and number ("podset 4" → "p4"), then
 * nothing.
 * @param {string} label
 * @param {number} room px
 * @param {Measure} measure
 */
export function shortLabel(label, room, measure) {
  if (measure(label) <= room) {
    return label;
  }
  const initial = /[^\d\s._-]/u.exec(label)?.[0] ?? "";
  const number = /(\d+)\D*$/.exec(label)?.[1] ?? "";
  const brief = initial + number;
  return brief.length < label.length && measure(brief) <= room ? brief : "";
}

/**
 * A name in the room there is. Its middle is cut: names of hosts differ at their ends.
 * @param {string} name
 * @param {number} room px
 * @param {Measure} measure
 */
export function shortName(name, room, measure) {
  if (measure(name) <= room) {
    return name;
  }
  for (let k = name.length - 1; k > 3; k--) {
    const head = (k - 1) >> 1;
    const cut = `${name.slice(0, head)}…${name.slice(name.length - (k - 1 - head))}`;
    if (measure(cut) <= room) {
      return cut;
    }
  }
  return "";
}

/**
 * Positions of the hosts whose name, address or place contains each word of `query`.
 * @param {Host[]} hosts
 * @param {string} query
 * @param {string} sort "" as they are | "name" | "worst"
 * @param {ArrayLike<number> | null} scores of the hosts, for "worst"
 * @returns {Int32Array | null} null: all, as they are
 */
export function selectHosts(hosts, query, sort, scores) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  /** @type {number[]} */
  const found = [];
  hosts.forEach((host, i) => {
    const text = searchText(host);
    if (words.every((word) => text.includes(word))) {
      found.push(i);
    }
  });
  if (sort === "name") {
    found.sort((a, b) => hosts[a].name.localeCompare(hosts[b].name, undefined, { numeric: true }));
    return Int32Array.from(found);
  }
  if (sort === "worst" && scores) {
    found.sort((a, b) => scores[b] - scores[a] || a - b);
    return Int32Array.from(found);
  }
  return words.length ? Int32Array.from(found) : null;
}

/** @param {Host} host */
const searchText = ({ name, address, dc, podset, tor }) =>
  `${name} ${address} ${dc}/${podset}/${tor}`.toLowerCase();
