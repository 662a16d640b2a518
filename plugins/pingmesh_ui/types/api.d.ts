/**
 * The answers of the page's API (API.md) and of Airflow's own, as far as the page reads them.
 * Moments are ISO 8601 in UTC; a window's id is `20261121T220500Z`. Shares are 0…1; names end in their unit.
 */

/** An answer other than 2xx, or none at all: `code` is the API's, or "offline", "expired", "failed", … */
export type ApiError = Error & { code?: string; status?: number };

/** A window, hour or day: `v` changes when it is made anew, `plan` is known where it was asked for. */
export interface WindowEntry {
  id: string;
  v?: string;
  plan?: string;
}

export type MetricCode = "log" | "share" | "count" | "ratio";

export interface Metric {
  name: string;
  unit: string;
  code: MetricCode;
  levels?: string[];
}

export interface Schedule {
  paused: boolean | null;
  next_run_after: string | null;
}

export interface Boot {
  page: number;
  user: string | null;
  now: string;
  window_s: number;
  slow_us: number;
  bad_us: number;
  windows: WindowEntry[];
  newest: (WindowEntry & { plan: string; axis: string; hosts: number }) | null;
  metrics: Metric[];
  levels: string[];
  schedule: Schedule;
  empty: { code: string; message?: string } | null;
}

export interface WindowList {
  windows: WindowEntry[];
  more?: boolean;
}

export interface GroupSpan {
  name: string;
  label: string;
  start: number;
  stop: number;
}

export interface AxisAnswer {
  axis: string;
  plan: string;
  topology: boolean;
  hosts: string[];
  addresses?: string[];
  tors?: GroupSpan[];
  podsets?: GroupSpan[];
  dcs?: GroupSpan[];
}

export interface Pattern {
  name: "normal" | "podset_down" | "podset_failure" | "spine_failure" | "host_down";
  suspects: string[];
  count: number;
}

/** The header of a matrix; `side` is its number of rows at `lod`. */
export interface MatrixHeader {
  window: string;
  level: string;
  metric: string;
  unit: string;
  code: MetricCode;
  lod: number;
  side: number;
  hosts: number;
  plan: string;
  axis: string;
  codes: { low: number; p01: number; p50: number; p99: number; high: number } | null;
  cells: { measured: number; failed: number; missing: number; unclean: number; not_planned: number };
  normal: string | null;
  pattern: Pattern | null;
}

export interface SeriesPoint {
  window: string;
  p50_us: number | null;
  p90_us?: number | null;
  p99_us: number | null;
  loss: number | null;
  pairs?: number;
  failed?: number;
  missing?: number;
}

export interface Series {
  points: SeriesPoint[];
}

/** Steps of a distribution: [µs, share of answers at or below it]. */
export type Steps = [number, number][];

export interface Cdf {
  window: string;
  count: number;
  min_us: number | null;
  max_us: number | null;
  quantiles: { p50_us: number | null; p99_us: number | null; p999_us?: number | null };
  cdf: Steps;
}

export interface GroupFigures {
  src: string | null;
  dst: string | null;
  p50_us: number | null;
  p99_us: number | null;
  loss: number | null;
  pairs: number;
}

/** What can go wrong with a probe, besides its loss. */
export type ProbeFault =
  | "retransmitted"
  | "refused"
  | "unreachable"
  | "reset"
  | "bad_reply"
  | "local_error";

export interface ProtocolFigures extends Record<ProbeFault, number> {
  protocol: string;
  sent: number;
  answered: number;
  lost: number;
  rtt_min_us: number | null;
  rtt_p50_us: number | null;
  rtt_p90_us: number | null;
  rtt_p99_us: number | null;
  rtt_max_us: number | null;
  jitter_us: number | null;
  cdf: Steps;
  normal_p50_us: number | null;
  normal_windows: number;
}

export interface Pair {
  window: string;
  src: string;
  dst: string;
  protocols: ProtocolFigures[];
}

export type Severity = "critical" | "warning";

export interface Finding {
  at: string;
  source: string;
  rule: string;
  scope: string;
  subject: string;
  severity: Severity;
  value?: number | null;
  unit?: string;
  threshold?: number | null;
  normal?: number | null;
  confidence?: number | null;
  affected?: number | null;
  since?: string;
  detail: string;
  advice?: string;
  evidence?: Evidence[] | string;
}

/** A row of evidence: columns differ from rule to rule. */
export type Evidence = Record<string, unknown>;

export interface Hop {
  hop: number;
  router: string | null;
  ports: number;
  stop_here: number;
  sent_beyond: number;
  loss_beyond: number;
}

export interface Trace {
  src: string;
  dst: string;
  verdict: string | null;
  after: string | null;
  hops?: Hop[];
}

export interface Incident extends Finding {
  id: string;
  state: string;
  opened_at?: string;
  last_seen?: string;
  closed_at?: string | null;
  closed_by?: string | null;
  acknowledged_by?: string | null;
  silenced?: boolean;
  stale?: boolean;
  returns?: number;
  symptoms?: { rule: string; subject?: string }[];
  unlisted?: number;
  traces?: Trace[];
}

export interface Silence {
  id: string;
  by: string;
  made_at: string;
  until: string;
  reason: string;
  incident: string | null;
  source: string;
  scope: string;
  subject: string;
  rule: string;
}

export interface Channel {
  channel: string;
  on: boolean;
  failures: number;
  since: string | null;
}

export interface Alarms {
  incidents?: Incident[];
  silences?: Silence[];
  channels?: Channel[];
  looked_at?: Record<string, string>;
}

export interface HostStage {
  host: string;
  stage: string;
  outcome: string;
  detail: string | null;
  clock_offset_us: number | null;
  agent_version: string | null;
  segment_bytes: number | null;
  skipped: number | null;
}

export interface Fleet {
  window: string;
  hosts: HostStage[];
}

export interface UsageFigure {
  server: string;
  measure: string;
  dimension: string;
  key: string | null;
  value: number;
}

export interface Usage {
  window: string | null;
  servers: string[];
  figures: UsageFigure[];
}

export interface Session {
  server: string;
  user: string | null;
  host: string | null;
  address: string | null;
  start_time: string;
  ended_by: string | null;
  duration_s: number;
  operations: number | null;
}

export interface Sessions {
  window: string | null;
  sessions: Session[];
}

/** A run of Airflow's DAG `alert_admin`. */
export interface DagRun {
  dag_run_id: string;
  state?: "queued" | "running" | "success" | "failed";
}
