/**
 * The two axes of the map are the same list of hosts. Neighbours of one ToR, podset or DC are a span with a path
 * ("dc1/podset2/tor1"), so a path, like a host's name, is a range of positions.
 */
const KINDS = ["tor", "podset", "dc"];

/** `hosts` as the API gives them: [{ name, address, dc, podset, tor }]. `order`: positions shown, null for all as they are. */
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
    /** Levels worth a bracket: more than one span, fewer than there are hosts. */
    brackets: levels.filter(({ spans }) => spans.length > 1 && spans.length < n),
    path: (i, kind) => pathOf(shown[i], kind),
  };
}

function pathOf(host, kind) {
  if (kind === "host") {
    return host.name;
  }
  if (kind === "dc") {
    return host.dc;
  }
  return kind === "podset" ? `${host.dc}/${host.podset}` : `${host.dc}/${host.podset}/${host.tor}`;
}

function spansOf(hosts, kind) {
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

/** What a path or a name means here: { kind, path, start, stop }, or null. The whole mesh is "". */
export function findRange(axis, path) {
  if (!path) {
    return { kind: "all", path: "", start: 0, stop: axis.n };
  }
  const i = axis.position(path);
  if (i >= 0) {
    return { kind: "host", path, start: i, stop: i + 1 };
  }
  for (const { kind, spans } of axis.levels) {
    const same = spans.filter((span) => span.path === path);
    if (same.length) {
      return { kind, path, start: same[0].start, stop: same.at(-1).stop };
    }
  }
  return null;
}

/** The paths above a path, from wide to narrow, itself included: for breadcrumbs. */
export function lineage(axis, path) {
  const range = findRange(axis, path);
  if (!range || range.kind === "all") {
    return [];
  }
  const kinds = ["host", ...axis.brackets.map((level) => level.kind)];
  return kinds
    .slice(Math.max(0, kinds.indexOf(range.kind)))
    .reverse()
    .map((kind) => axis.path(range.start, kind));
}

/** A label in the room there is: whole, then initials and number ("podset 4" → "p4"), then nothing. */
export function shortLabel(label, room, measure) {
  if (measure(label) <= room) {
    return label;
  }
  const digits = /(\d+)\D*$/.exec(label)?.[1] ?? "";
  const brief = (/[^\d\s._-]/u.exec(label)?.[0] ?? "") + digits;
  return brief.length < label.length && measure(brief) <= room ? brief : "";
}

/** The middle goes: hosts differ at their ends. */
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

/** Positions of the hosts that `query` names (name, address or group contains each of its words), sorted as asked. */
export function selectHosts(hosts, query, sort, score) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (host) =>
    `${host.name} ${host.address} ${host.dc}/${host.podset}/${host.tor}`.toLowerCase();
  const found = [];
  hosts.forEach((host, i) => {
    if (words.every((word) => text(host).includes(word))) {
      found.push(i);
    }
  });
  if (sort === "name") {
    found.sort((a, b) => hosts[a].name.localeCompare(hosts[b].name, undefined, { numeric: true }));
  }
  if (sort === "worst" && score) {
    found.sort((a, b) => score[b] - score[a] || a - b);
  }
  return !words.length && sort !== "name" && !(sort === "worst" && score)
    ? null
    : Int32Array.from(found);
}
