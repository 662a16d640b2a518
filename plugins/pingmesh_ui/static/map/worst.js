/** The worst of a matrix: hosts that are gone, then single cells, each explained once. */
import { FAILED, HIGHEST, MISSING, NOT_PLANNED } from "./codes.js";

/** Cells that are listed, and of one row or column at most. */
const LISTED = 40;
const EACH = 3;
/** Cells that are looked at to find those that are listed: rows and columns may repeat. */
const CANDIDATES = 20 * LISTED;
/** Candidates that are sorted; many cells may have the least code that is looked at. */
const MOST_SORTED = 50 * CANDIDATES;
/** A host is gone when so much of its row or column is failed or missing. */
const HALF = 0.5;
/** What a state weighs in the score of a host; values weigh their code. */
const STATE_WEIGHT = 20_000;

/**
 * A host that is gone: the share of its planned pairs, as a source and as a destination, that
 * failed, and of its row that is missing.
 * @typedef {{ at: number, failedFrom: number, failedTo: number, missing: number }} GoneHost
 */
/** @typedef {{ x: number, y: number, code: number }} WorstCell */
/** @typedef {{ hosts: GoneHost[], cells: WorstCell[] }} Worst worst first */

/**
 * Cells of hosts that are gone are not listed one by one.
 * @param {Uint16Array} codes
 * @param {number} n
 * @returns {Worst}
 */
export function findWorst(codes, n) {
  const hosts = goneHosts(codes, n);
  const isGone = new Uint8Array(n);
  for (const { at } of hosts) {
    isGone[at] = 1;
  }
  return { hosts, cells: worstCells(codes, n, isGone) };
}

/**
 * @param {Uint16Array} codes
 * @param {number} n
 * @returns {GoneHost[]}
 */
function goneHosts(codes, n) {
  const { row, column } = countStates(codes, n);
  /** @type {GoneHost[]} */
  const hosts = [];
  for (let at = 0; at < n; at++) {
    const failedFrom = share(row.failed[at], row.planned[at]);
    const failedTo = share(column.failed[at], column.planned[at]);
    const missing = share(row.missing[at], row.planned[at]);
    if (Math.max(failedFrom, failedTo, missing) >= HALF) {
      hosts.push({ at, failedFrom, failedTo, missing });
    }
  }
  return hosts.sort((a, b) => gravity(b) - gravity(a) || a.at - b.at);
}

/** @param {GoneHost} host */
const gravity = ({ failedFrom, failedTo, missing }) => failedFrom + failedTo + missing / 2;

/**
 * Planned, failed and missing cells of each row and column.
 * @param {Uint16Array} codes
 * @param {number} n
 */
function countStates(codes, n) {
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
  return { row, column };
}

/** @param {number} n */
const counters = (n) => ({
  planned: new Uint32Array(n),
  failed: new Uint32Array(n),
  missing: new Uint32Array(n),
});

/**
 * @param {number} part
 * @param {number} all
 */
const share = (part, all) => (all ? part / all : 0);

/**
 * @param {Uint16Array} codes
 * @param {number} n
 * @param {Uint8Array} isGone
 */
function worstCells(codes, n, isGone) {
  const least = leastCandidate(codes, n, isGone);
  /** @type {WorstCell[]} */
  const candidates = [];
  for (let y = 0; y < n && candidates.length < MOST_SORTED; y++) {
    if (isGone[y]) {
      continue;
    }
    for (let x = 0, at = y * n; x < n; x++, at++) {
      if (codes[at] >= least && !isGone[x]) {
        candidates.push({ x, y, code: codes[at] });
      }
    }
  }
  candidates.sort((a, b) => b.code - a.code || a.y - b.y || a.x - b.x);
  return fewOfEach(candidates);
}

/**
 * The code from which there are about CANDIDATES cells.
 * @param {Uint16Array} codes
 * @param {number} n
 * @param {Uint8Array} isGone
 */
function leastCandidate(codes, n, isGone) {
  const counts = new Uint32Array(FAILED + 1);
  for (let y = 0; y < n; y++) {
    if (isGone[y]) {
      continue;
    }
    for (let x = 0, at = y * n; x < n; x++, at++) {
      if (!isGone[x]) {
        counts[codes[at]]++;
      }
    }
  }
  let least = FAILED;
  let seen = counts[FAILED];
  while (least > 1 && seen < CANDIDATES) {
    seen += counts[--least];
  }
  return least;
}

/**
 * The first LISTED cells, at most EACH of one row or column.
 * @param {WorstCell[]} sorted
 */
function fewOfEach(sorted) {
  /** @type {Map<number, number>} */
  const rows = new Map();
  /** @type {Map<number, number>} */
  const columns = new Map();
  /** @type {WorstCell[]} */
  const listed = [];
  for (const cell of sorted) {
    const inRow = rows.get(cell.y) ?? 0;
    const inColumn = columns.get(cell.x) ?? 0;
    if (inRow >= EACH || inColumn >= EACH) {
      continue;
    }
    rows.set(cell.y, inRow + 1);
    columns.set(cell.x, inColumn + 1);
    listed.push(cell);
    if (listed.length === LISTED) {
      break;
    }
  }
  return listed;
}

/**
 * A score of each host by how bad its row and column are, for sorting: the mean of its codes, in
 * which states weigh most.
 * @param {Uint16Array} codes
 * @param {number} n
 */
export function hostScores(codes, n) {
  const scores = new Float64Array(n);
  const planned = new Uint32Array(n);
  for (let y = 0, at = 0; y < n; y++) {
    for (let x = 0; x < n; x++, at++) {
      const code = codes[at];
      if (code === NOT_PLANNED) {
        continue;
      }
      const weight = code > HIGHEST ? STATE_WEIGHT : code;
      scores[y] += weight;
      scores[x] += weight;
      planned[y]++;
      planned[x]++;
    }
  }
  return scores.map((score, i) => (planned[i] ? score / planned[i] : 0));
}
