// From the exchange's event to the pixel, hop by hop; medians of the last updates, clocks aligned by ping and pong.

const SHOWN_UPDATES = 20;
const KEPT_TOTALS = 1_000;
/** What the page reports of its own: of each second one update, and the newest of them. */
const REPORT_STEP_MS = 1_000;
const MAX_REPORTED = 60;
const MAX_REPORTED_MS = 60_000;
/** Beyond this an "event time" belongs to another day (a tape with its original times), not to a delay. */
const FOREIGN_EVENT_MS = 3_600_000;

export const HOPS = ["producer", "Kafka", "relay", "browser", "pixel"];

/** The middle value; null of nothing. */
export function median(values) {
  return quantile(values, 0.5);
}

/** Nearest-rank quantile; null of nothing. */
export function quantile(values, share) {
  if (!values.length) return null;
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(share * sorted.length) - 1))];
}

/** Milliseconds of each hop; a hop whose ends are not both known is null. Server times are put on our clock. */
export function hopsOf(times, arrivedAt, paintedAt, offsetMs) {
  const between = (from, to) => (Number.isFinite(from) && Number.isFinite(to) ? Math.max(0, to - from) : null);
  const foreign = Number.isFinite(times.event) && Math.abs(times.received - times.event) > FOREIGN_EVENT_MS;
  const event = foreign ? null : times.event;
  const relayed = Number.isFinite(times.relayed) ? times.relayed - offsetMs : null;
  const start = Number.isFinite(event) ? event : times.received;
  return {
    producer: between(event, times.received),
    Kafka: between(times.received, times.appended),
    relay: between(times.appended ?? times.received, times.relayed),
    browser: between(relayed, arrivedAt),
    pixel: between(arrivedAt, paintedAt),
    total: between(Number.isFinite(start) ? start - offsetMs : null, paintedAt),
  };
}

export class LatencyWindow {
  constructor() {
    this.recent = [];
    this.totals = [];
    this.painted = [];
    this.reportedAt = -Infinity;
  }

  add(hops, paintedAt) {
    this.recent.push(hops);
    if (this.recent.length > SHOWN_UPDATES) this.recent.shift();
    if (hops.total !== null) this.totals.push(hops.total);
    if (this.totals.length > KEPT_TOTALS) this.totals.shift();
    if (hops.browser === null || hops.pixel === null || paintedAt - this.reportedAt < REPORT_STEP_MS) return;
    this.reportedAt = paintedAt;
    this.painted.push(Math.min(hops.browser + hops.pixel, MAX_REPORTED_MS));
    if (this.painted.length > MAX_REPORTED) this.painted.shift();
  }

  /** Relay to pixel in ms of some updates since the last call. */
  takePainted() {
    return this.painted.splice(0).map((took) => Math.round(took * 10) / 10);
  }

  /** Median of one hop, or of "total", over the last updates. */
  median(hop) {
    return median(this.recent.map((hops) => hops[hop]).filter((value) => value !== null && value !== undefined));
  }

  /** For tests and the curious: event to pixel in ms. */
  summary() {
    const hops = Object.fromEntries(HOPS.map((hop) => [hop, this.median(hop)]));
    return { count: this.totals.length, p50: quantile(this.totals, 0.5), p95: quantile(this.totals, 0.95), hops };
  }
}

/** "< 1 ms", "38 ms", "1.2 s". */
export function milliseconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 0.5) return "< 1 ms";
  return value < 1000 ? `${Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
