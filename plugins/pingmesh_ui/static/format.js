/** Numbers and times in the reader's language. Times are UTC. */
import { language, t } from "./i18n.js";

const NONE = "–";
/** @type {Map<string, Intl.NumberFormat>} */
const numbers = new Map();
/** @type {Map<string, Intl.DateTimeFormat>} */
const dates = new Map();

/**
 * @template T
 * @param {Map<string, T>} cache
 * @param {object} options
 * @param {() => T} make
 * @returns {T}
 */
function cached(cache, options, make) {
  const key = language + JSON.stringify(options);
  let formatter = cache.get(key);
  if (!formatter) {
    formatter = make();
    cache.set(key, formatter);
  }
  return formatter;
}

/** @param {Intl.NumberFormatOptions} options */
const numberFormat = (options) =>
  cached(numbers, options, () => new Intl.NumberFormat(language, options));

/** @param {Intl.DateTimeFormatOptions} options */
function dateFormat(options) {
  const utc = /** @type {Intl.DateTimeFormatOptions} */ ({
    timeZone: "UTC",
    hourCycle: "h23",
    ...options,
  });
  return cached(dates, utc, () => new Intl.DateTimeFormat(language, utc));
}

/**
 * @param {number | null | undefined} value
 * @returns {value is number}
 */
const isNumber = (value) => Number.isFinite(value);

// ---- figures ------------------------------------------------------------------------------------

/**
 * Three digits: `0.04`, `2.14`, `12.3`, `187`.
 * @param {number} value
 */
function threeDigits(value) {
  const places = value < 9.995 ? 2 : 1;
  return numberFormat({ maximumFractionDigits: value >= 99.95 ? 0 : places }).format(value);
}

/** @param {number | null | undefined} count */
export const formatCount = (count) =>
  isNumber(count) ? numberFormat({ maximumFractionDigits: 0 }).format(count) : NONE;

/**
 * `83 µs`, `2.14 ms`, `10 s`.
 * @param {number | null | undefined} us
 */
export function formatUs(us) {
  if (!isNumber(us)) {
    return NONE;
  }
  if (us < 999.5) {
    return `${threeDigits(us)} µs`;
  }
  return us < 999_500 ? `${threeDigits(us / 1e3)} ms` : `${threeDigits(us / 1e6)} s`;
}

/**
 * `0 %`, `0.3 %`, `12 %`; a share that is not 0 never reads `0 %`, one below 1 never `100 %`.
 * @param {number | null | undefined} share 0…1
 */
export function formatShare(share) {
  if (!isNumber(share)) {
    return NONE;
  }
  const percent = 100 * share;
  if (percent > 0 && percent < 0.01) {
    return `<${threeDigits(0.01)} %`;
  }
  return percent >= 99.95 && percent < 100 ? ">99.9 %" : `${threeDigits(percent)} %`;
}

/** @param {number | null | undefined} ratio `× 2` or `÷ 2` */
export function formatRatio(ratio) {
  if (!isNumber(ratio)) {
    return NONE;
  }
  return ratio >= 1 ? `× ${threeDigits(ratio)}` : `÷ ${threeDigits(1 / ratio)}`;
}

/**
 * `1.8 ×`, for sentences.
 * @param {number} ratio
 */
export const formatTimes = (ratio) =>
  isNumber(ratio) ? t("times", { value: threeDigits(ratio) }) : NONE;

/**
 * `+3.3`, `−0.05`, `0`: a difference of shares in percentage points.
 * @param {number} points −1…1
 */
export function formatPoints(points) {
  if (!isNumber(points)) {
    return NONE;
  }
  const figure = threeDigits(Math.abs(100 * points));
  if (points > 0) {
    return `+${figure}`;
  }
  return points < 0 ? `−${figure}` : figure;
}

/** @type {Record<string, (value: number) => string>} */
const FORMATS = {
  us: formatUs,
  share: formatShare,
  ratio: formatRatio,
  count: formatCount,
  points: (points) => `${formatPoints(points)} pp`,
};

/**
 * A figure of the map.
 * @param {number} value
 * @param {import("./map/codes.js").Kind} kind
 */
export const formatValue = (value, kind) => FORMATS[kind](value);

// ---- times --------------------------------------------------------------------------------------

/**
 * The Date of `20261121T220500Z`.
 * @param {string} id
 */
export const parseId = (id) =>
  new Date(id.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));

/**
 * The id of a Date.
 * @param {Date} date
 */
export const formatId = (date) => date.toISOString().replace(/[-:]|\.\d+/g, "");

/** @param {Date} date */
export const formatDay = (date) =>
  dateFormat({ year: "numeric", month: "short", day: "numeric" }).format(date);

/** @param {Date} date */
export const formatTime = (date) => dateFormat({ hour: "2-digit", minute: "2-digit" }).format(date);

/** @param {Date} date */
export const formatMoment = (date) =>
  dateFormat({
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  }).format(date);

/**
 * `Nov 21, 2026, 22:05–22:10 UTC`.
 * @param {string} id
 * @param {number} lengthS
 */
export function formatWindow(id, lengthS) {
  const start = parseId(id);
  const end = new Date(+start + 1000 * lengthS);
  return `${formatDay(start)}, ${formatTime(start)}–${formatTime(end)} UTC`;
}

/**
 * The day and time at which a window begins.
 * @param {string} id
 */
export const formatClock = (id) => `${formatDay(parseId(id))}, ${formatTime(parseId(id))} UTC`;

// ---- units --------------------------------------------------------------------------------------

/**
 * @param {number} value
 * @param {string} unit
 * @param {number} places
 */
const withUnit = (value, unit, places) =>
  numberFormat({
    style: "unit",
    unit,
    unitDisplay: "short",
    maximumFractionDigits: places,
  }).format(value);

/**
 * `2 h 5 min`, `3 min 20 s`, `43 s`: the two greatest units, seconds only below ten minutes.
 * @param {number} seconds
 */
export function formatDuration(seconds) {
  if (!isNumber(seconds)) {
    return NONE;
  }
  const s = Math.round(seconds);
  const days = Math.floor(s / 86400);
  const hours = Math.floor((s % 86400) / 3600);
  const minutes = Math.floor((s % 3600) / 60);
  if (days) {
    return `${withUnit(days, "day", 0)} ${withUnit(hours, "hour", 0)}`;
  }
  if (hours) {
    return `${withUnit(hours, "hour", 0)} ${withUnit(minutes, "minute", 0)}`;
  }
  if (!minutes) {
    return withUnit(s, "second", 0);
  }
  const rest = s % 60 && minutes < 10 ? ` ${withUnit(s % 60, "second", 0)}` : "";
  return withUnit(minutes, "minute", 0) + rest;
}

/** @type {[limit: number, unit: string, size: number][]} */
const SIZES = [
  [1e3, "byte", 1],
  [1e6, "kilobyte", 1e3],
  [1e9, "megabyte", 1e6],
  [Number.POSITIVE_INFINITY, "gigabyte", 1e9],
];

/** @param {number} bytes */
export function formatBytes(bytes) {
  const found = SIZES.find(([limit]) => bytes < limit);
  return found ? withUnit(bytes / found[2], found[1], 1) : NONE;
}
