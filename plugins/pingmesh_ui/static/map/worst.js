/** The worst of a matrix: hosts that are gone, then single cells, each explained once. */
import { FAILED, HIGHEST, MISSING, NOT_PLANNED } from "./codes.js";

const COUNT = 40;
const HALF = 0.5;
const EACH = 3;

/**
 * `{ hosts: [{ at, failedFrom, failedTo, missing }], cells: [{ x, y, code }] }`, worst first. A host is gone when half of its
 * row or column is failed or missing; its cells are then not listed one by one. One row or column has EACH cells at most.
 */
export function findWorst(codes, n) {
  const row = counters(n);
  const column = counters(n);
  for (let y = 0, at = 0; y < n; y++) {
    for (let x = 0; x < n; x++, at++) {
      const code = codes[at];
      if (code === NOT_PLANNED) {
        continue;
      }
      row.planned[y]++;
      column.planned[x]++;
      if (code === FAILED) {
        row.failed[y]++;
        column.failed[x]++;
      } else if (code === MISSING) {
        row.missing[y]++;
        column.missing[x]++;
      }
    }
  }
  const hosts = [];
  const gone = new Uint8Array(n);
  for (let i = 0; i < n; i++) {
    const failedFrom = share(row.failed[i], row.planned[i]);
    const failedTo = share(column.failed[i], column.planned[i]);
    const missing = share(row.missing[i], row.planned[i]);
    if (Math.max(failedFrom, failedTo, missing) >= HALF) {
      gone[i] = 1;
      hosts.push({ at: i, failedFrom, failedTo, missing });
    }
  }
  hosts.sort(
    (a, b) =>
      b.failedFrom + b.failedTo + b.missing / 2 - a.failedFrom - a.failedTo - a.missing / 2 ||
      a.at - b.at,
  );
  return { hosts, cells: worstCells(codes, n, gone) };
}

function worstCells(codes, n, gone) {
  const counts = new Uint32Array(FAILED + 1);
  const wanted = 20 * COUNT;
  for (let y = 0, at = 0; y < n; y++) {
    if (gone[y]) {
      at += n;
      continue;
    }
    for (let x = 0; x < n; x++, at++) {
      if (!gone[x]) {
        counts[codes[at]]++;
      }
    }
  }
  let least = FAILED;
  let seen = counts[FAILED];
  while (least > 1 && seen < wanted) {
    seen += counts[--least];
  }
  const found = [];
  for (let y = 0; y < n && found.length < 50 * wanted; y++) {
    if (gone[y]) {
      continue;
    }
    for (let x = 0, at = y * n; x < n; x++, at++) {
      if (codes[at] >= least && !gone[x]) {
        found.push({ x, y, code: codes[at] });
      }
    }
  }
  found.sort((a, b) => b.code - a.code || a.y - b.y || a.x - b.x);
  const rows = new Map();
  const columns = new Map();
  const out = [];
  for (const cell of found) {
    const r = rows.get(cell.y) ?? 0;
    const c = columns.get(cell.x) ?? 0;
    if (r >= EACH || c >= EACH) {
      continue;
    }
    rows.set(cell.y, r + 1);
    columns.set(cell.x, c + 1);
    if (out.push(cell) === COUNT) {
      break;
    }
  }
  return out;
}

const counters = (n) => ({
  planned: new Uint32Array(n),
  failed: new Uint32Array(n),
  missing: new Uint32Array(n),
});
const share = (part, all) => (all ? part / all : 0);

/** A score of each host by how bad its row and column are, for sorting: states weigh most, then the mean of its codes. */
export function hostScores(codes, n) {
  const scores = new Float64Array(n);
  const planned = new Uint32Array(n);
  for (let y = 0, at = 0; y < n; y++) {
    for (let x = 0; x < n; x++, at++) {
      const code = codes[at];
      if (!code) {
        continue;
      }
      const weight = code > HIGHEST ? 20_000 : code;
      scores[y] += weight;
      scores[x] += weight;
      planned[y]++;
      planned[x]++;
    }
  }
  return scores.map((score, i) => (planned[i] ? score / planned[i] : 0));
}
