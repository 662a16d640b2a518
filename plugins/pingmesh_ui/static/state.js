/**
 * What is looked at, as a plain object that the URL's hash spells: a view is a link. Values at their default are left
 * out. Inside Airflow the page is a frame; `outerLink` is the address that opens the same view in Airflow's own window.
 */
const DEFAULTS = {
  tab: "mesh", // mesh | alarms | fleet | data
  w: "", // window id; "" follows the newest
  m: "p50", // metric
  sc: "log", // scale: log | linear | threshold
  lo: "",
  hi: "", // its ends, in µs or shares; "" is from the data
  at: "", // the map's view: x,y,scale in cells and px a cell; "" is all
  sel: "", // what is selected: path>path (a group's place or a host's name)
  blk: "", // a block of cells: x0,y0,x1,y1
  cmp: "", // window to compare with
  q: "",
  sort: "", // hosts: filter, order ("" topology | name | worst)
  hatch: "1",
  lv: "", // level of time: "" windows | hour | day
  from: "",
  to: "", // range of the slider; "" is the newest 24 h (of hours 7 days, of days 31)
  inc: "", // incident or anomaly looked at
  ast: "",
  asev: "",
  asrc: "",
  aq: "", // alarms: state, severity, source, words
  fq: "",
  fbad: "", // fleet: words; "1" is only those in trouble
  srv: "",
  dq: "", // data servers: one of them, words
};

const listeners = new Set();
export const state = { ...DEFAULTS, ...parse(location.hash), ...fromQuery() };

function parse(hash) {
  const out = {};
  for (const [key, value] of new URLSearchParams(hash.replace(/^#/, ""))) {
    if (key in DEFAULTS) {
      out[key] = value.slice(0, 400);
    }
  }
  return out;
}

/** `?window=` comes from a DAG run's link. */
function fromQuery() {
  const wanted = new URLSearchParams(location.search).get("window");
  return wanted && /^\d{8}T\d{6}Z$/.test(wanted) && !location.hash ? { w: wanted } : {};
}

export function spell(of = state) {
  const query = new URLSearchParams();
  for (const [key, value] of Object.entries(of)) {
    if (value !== DEFAULTS[key]) {
      query.set(key, value);
    }
  }
  return query.toString().replaceAll("%2C", ",").replaceAll("%2F", "/").replaceAll("%3E", ">");
}

let unwritten = false;

/**
 * Change the state, tell who listens, and write the link. `step` makes it one that "back" returns from; `later` leaves
 * the writing, which takes as long as a frame of play, to the next update without it.
 */
export function update(changes, { step = false, later = false } = {}) {
  const changed = Object.keys(changes).filter((key) => state[key] !== String(changes[key] ?? ""));
  for (const key of changed) {
    state[key] = String(changes[key] ?? "");
  }
  if (!later && (changed.length || unwritten)) {
    const hash = spell();
    history[step ? "pushState" : "replaceState"](
      null,
      "",
      hash ? `#${hash}` : location.pathname + location.search,
    );
  }
  unwritten = later && (unwritten || changed.length > 0);
  if (!changed.length) {
    return;
  }
  for (const listener of listeners) {
    listener(new Set(changed));
  }
}

export const onChange = (listener) => listeners.add(listener);

addEventListener("popstate", () => {
  const wanted = { ...DEFAULTS, ...parse(location.hash) };
  const changed = Object.keys(wanted).filter((key) => state[key] !== wanted[key]);
  Object.assign(state, wanted);
  if (changed.length) {
    for (const listener of listeners) {
      listener(new Set(changed));
    }
  }
});

/** The link to send: Airflow's window around the frame where there is one. */
export function outerLink() {
  const hash = spell();
  const own = new URL(location.href);
  own.hash = hash;
  try {
    if (window.parent !== window) {
      const base = window.parent.document.baseURI;
      return new URL(
        `plugin/pingmesh${own.pathname}${own.hash ? `#${hash}` : ""}`,
        new URL(base, window.parent.location.origin),
      ).href;
    }
  } catch {
    // A parent of another origin: the frame's own address is all that is known.
  }
  return own.href;
}
