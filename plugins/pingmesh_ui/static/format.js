/** Numbers and times in the reader's language. Times are UTC, as everywhere in this house. */
import { language, t } from "./i18n.js";

const cache = new Map();
function formatter(kind, options) {
  const key = kind + language + JSON.stringify(options);
  if (!cache.has(key)) {
    cache.set(
      key,
      kind === "date"
        ? new Intl.DateTimeFormat(language, options)
        : new Intl.NumberFormat(language, options),
    );
  }
  return cache.get(key);
}

const three = (value) =>
  formatter("number", {
    maximumFractionDigits: value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2,
  }).format(value);

export const formatCount = (count) =>
  Number.isFinite(count) ? formatter("number", { maximumFractionDigits: 0 }).format(count) : "–";

/** `83 µs`, `2.14 ms`, `10 s`. */
export function formatUs(us) {
  if (us === null || !Number.isFinite(us)) {
    return "–";
  }
  return us < 999.5
    ? `${three(us)} µs`
    : us < 999_500
      ? `${three(us / 1e3)} ms`
      : `${three(us / 1e6)} s`;
}

/** `0 %`, `0.3 %`, `12 %`; never `0 %` for what is not zero. */
export function formatShare(share) {
  if (share === null || !Number.isFinite(share)) {
    return "–";
  }
  const percent = 100 * share;
  return percent > 0 && percent < 0.01
    ? `<${formatter("number", { maximumFractionDigits: 2 }).format(0.01)} %`
    : `${percent >= 99.95 && percent < 100 ? ">99.9" : three(percent)} %`;
}

export function formatRatio(ratio) {
  return !Number.isFinite(ratio) ? "–" : ratio >= 1 ? `× ${three(ratio)}` : `÷ ${three(1 / ratio)}`;
}

/** `1.8 ×`, for sentences: how many times something. */
export const formatTimes = (ratio) =>
  Number.isFinite(ratio) ? t("times", { value: three(ratio) }) : "–";

/** `+3.3`, `−0.05`, `0`: a difference of shares in percentage points. */
export const formatPoints = (points) =>
  Number.isFinite(points)
    ? `${points > 0 ? "+" : points < 0 ? "−" : ""}${three(Math.abs(100 * points))}`
    : "–";

const FORMATS = {
  share: formatShare,
  ratio: formatRatio,
  count: formatCount,
  points: (points) => `${formatPoints(points)} pp`,
};
export const formatValue = (value, kind) => (FORMATS[kind] ?? formatUs)(value);

/** The Date of `20261121T220500Z`, and back. */
export const parseId = (id) =>
  new Date(id.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, "$1-$2-$3T$4:$5:$6Z"));
export const formatId = (date) => date.toISOString().replace(/[-:]|\.\d+/g, "");

const UTC = { timeZone: "UTC", hourCycle: "h23" };
export const formatDay = (date) =>
  formatter("date", { ...UTC, year: "numeric", month: "short", day: "numeric" }).format(date);
export const formatTime = (date) =>
  formatter("date", { ...UTC, hour: "2-digit", minute: "2-digit" }).format(date);
export const formatMoment = (date) =>
  formatter("date", {
    ...UTC,
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    second: "2-digit",
  }).format(date);

/** `2026-11-21 22:05–22:10 UTC` in the reader's way. */
export const formatWindow = (id, lengthS) => {
  const start = parseId(id);
  const end = new Date(+start + 1000 * lengthS);
  return `${formatDay(start)}, ${formatTime(start)}–${formatTime(end)} UTC`;
};

/** The day and time at which a window begins. */
export const formatClock = (id) => `${formatDay(parseId(id))}, ${formatTime(parseId(id))} UTC`;

/** `2 h 5 min`, `43 s`. */
export function formatDuration(seconds) {
  if (!Number.isFinite(seconds)) {
    return "–";
  }
  const unit = (value, name) =>
    formatter("number", {
      style: "unit",
      unit: name,
      unitDisplay: "short",
      maximumFractionDigits: 0,
    }).format(value);
  const s = Math.round(seconds);
  const d = Math.floor(s / 86400);
  const hours = Math.floor((s % 86400) / 3600);
  const minutes = Math.floor((s % 3600) / 60);
  if (d) {
    return `${unit(d, "day")} ${unit(hours, "hour")}`;
  }
  if (hours) {
    return `${unit(hours, "hour")} ${unit(minutes, "minute")}`;
  }
  return minutes
    ? `${unit(minutes, "minute")}${s % 60 && minutes < 10 ? ` ${unit(s % 60, "second")}` : ""}`
    : unit(s, "second");
}

export const formatBytes = (bytes) => {
  for (const [limit, unit, size] of [
    [1e3, "byte", 1],
    [1e6, "kilobyte", 1e3],
    [1e9, "megabyte", 1e6],
    [Infinity, "gigabyte", 1e9],
  ]) {
    if (bytes < limit) {
      return formatter("number", {
        style: "unit",
        unit,
        unitDisplay: "short",
        maximumFractionDigits: 1,
      }).format(bytes / size);
    }
  }
  return "–";
};
