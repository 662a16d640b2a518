/**
 * The state of the page as a plain object that the URL's hash spells: a view is a link. Values at
 * their default are left out. Inside Airflow the page is a frame; `outerLink` is the address that
 * opens the same view in Airflow's own window.
 */
const DEFAULTS = {
  tab: "mesh", // mesh | alarms | fleet | data
  w: "", // window id; "" follows the newest
  m: "p50", // metric
  sc: "log", // scale: log | linear | threshold
  lo: "", // low end of the scale, in µs or a share; "" is from the data
  hi: "", // high end of the scale
  at: "", // the map's view: x,y,scale in cells and px a cell; "" is all
  sel: "", // selection: path>path (a group's place or a host's name)
  blk: "", // a block of cells: x0,y0,x1,y1
  cmp: "", // window to compare with
  q: "", // filter of hosts
  sort: "", // order of hosts: "" topology | name | worst
  hatch: "1",
  lv: "", // level of time: "" windows | hour | day
  from: "", // range of the slider; "" is the newest 24 h (of hours 7 days, of days 31)
  to: "",
  inc: "", // selected incident or finding
  ast: "", // alarms: state
  asev: "", // alarms: severity
  asrc: "", // alarms: source
  aq: "", // alarms: words
  fq: "", // fleet: words
  fbad: "", // fleet: "1" is only hosts in trouble
  srv: "", // data servers: one of them
  dq: "", // data servers: words
};
/** The longest value that is read from a link. */
const MOST_CHARACTERS = 400;

/** @typedef {typeof DEFAULTS} State */
/** @typedef {keyof State} StateKey */
/** @typedef {Partial<Record<StateKey, string | number | null | undefined>>} Changes */

/** @type {Set<(changed: Set<StateKey>) => void>} */
const listeners = new Set();
/** @type {State} */
export const state = { ...DEFAULTS, ...parse(location.hash), ...fromQuery() };

/** @param {Partial<State>} values */
const keysOf = (values) => /** @type {StateKey[]} */ (Object.keys(values));

/**
 * What a hash says; keys that are not known are ignored.
 * @param {string} hash
 */
function parse(hash) {
  /** @type {Partial<State>} */
  const values = {};
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (key in DEFAULTS) {
      values[/** @type {StateKey} */ (key)] = value.slice(0, MOST_CHARACTERS);
    }
  }
  return values;
}

/** `?window=` comes from the link of a DAG run. */
function fromQuery() {
  const wanted = new URLSearchParams(location.search).get("window");
  return wanted && /^\d{8}T\d{6}Z$/.test(wanted) && !location.hash ? { w: wanted } : {};
}

/**
 * The hash of a state, without "#".
 * @param {State} [of]
 */
export function spell(of = state) {
  const query = new URLSearchParams();
  for (const key of keysOf(of)) {
    if (of[key] !== DEFAULTS[key]) {
      query.set(key, of[key]);
    }
  }
  return query.toString().replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%3E", ">");
}

/** Whether the link is behind the state. */
let isUnwritten = false;

/**
 * Change the state, call the listeners, and write the link.
 * @param {Changes} changes
 * @param {{ step?: boolean, later?: boolean }} [options] `step`: "back" returns to the state
 *   before; `later`: leave the writing of the link to the next update without it, because it takes
 *   as long as a frame of play
 */
export function update(changes, { step = false, later = false } = {}) {
  const wanted = Object.fromEntries(
    Object.entries(changes).map(([key, value]) => [key, String(value ?? "")]),
  );
  const changed = keysOf(wanted).filter((key) => state[key] !== wanted[key]);
  Object.assign(state, wanted);

  if (!later && (changed.length || isUnwritten)) {
    writeLink(step);
  }
  isUnwritten = later && (isUnwritten || changed.length > 0);
  notify(changed);
}

/** @param {boolean} step */
function writeLink(step) {
  const hash = spell();
  const url = hash ? `#${hash}` : location.pathname + location.search;
  history[step ? "pushState" : "replaceState"](null, "", url);
}

/** @param {StateKey[]} changed */
function notify(changed) {
  if (!changed.length) {
    return;
  }
  for (const listener of listeners) {
    listener(new Set(changed));
  }
}

/**
 * Call `listener` with the keys that changed.
 * @param {(changed: Set<StateKey>) => void} listener
 */
export const onChange = (listener) => void listeners.add(listener);

addEventListener("popstate", () => {
  const wanted = { ...DEFAULTS, ...parse(location.hash) };
  const changed = keysOf(wanted).filter((key) => state[key] !== wanted[key]);
  Object.assign(state, wanted);
  notify(changed);
});

/** The link to send: Airflow's window around the frame where there is one. */
export function outerLink() {
  const hash = spell();
  const own = new URL(location.href);
  own.hash = hash;
  try {
    if (window.parent !== window) {
      const base = new URL(window.parent.document.baseURI, window.parent.location.origin);
      return new URL(`plugin/pingmesh${own.pathname}${own.hash ? `#${hash}` : ""}`, base).href;
    }
  } catch {
    // The parent is of another origin: only the frame's own address is known.
  }
  return own.href;
}
