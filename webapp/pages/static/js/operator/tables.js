// What stands in the tables: topics, readers, rooms, hops. Pure: rows of the API in, words out.

import { bytes, count, millis, overrunWords, rate, seconds, setting, share, trend } from "./words.js";

/** Settings of a topic that a difference may be in: all but sizes are times. */
function settingWords(name, value) {
  if (value === null || value === undefined) return "N/A";
  const number = Number(value);
  if (!Number.isFinite(number)) return String(value);
  return /bytes$/.test(name) ? bytes(number) : /ms$/.test(name) ? setting(number) : count(number);
}

/** Max null = without limit. */
const between = (range, form) => (range ? `${form(range.min)} to ${range.max === null ? "no limit" : form(range.max)}` : "N/A");

export const TOPICS = [
  { head: "Topic", numeric: false, value: (row) => row.topic },
  { head: "Kind", numeric: false, more: true, title: "fact: must arrive once in the end; state: a newer one replaces it; chain: worthless after a missing link", value: (row) => row.kind ?? "N/A" },
  { head: "Configured", title: "retention.ms in topics.toml or KAFKA_RETENTION_MS", value: (row) => setting(row.retention_ms) },
  { head: "Measured", title: "Age of the oldest record that can still be read", value: (row) => (row.records === 0 ? "empty" : seconds(row.measured_oldest_age_s)) },
  { head: "Predicted", more: true, title: "Age of the oldest record that these settings give at this rate", value: (row) => between(row.predicted_oldest_age_s, seconds) },
  { head: "Rate", value: (row) => rate(row.records_per_second) },
  { head: "Records", more: true, value: (row) => count(row.records) },
  { head: "Size", more: true, title: "On the broker's disk", value: (row) => bytes(row.bytes) },
  { head: "Partitions", more: true, value: (row) => count(row.partitions) },
  { head: "Segment", more: true, title: "segment.ms: a record goes with its whole segment, once that is closed", value: (row) => setting(row.segment_ms) },
  {
    head: "Broker", numeric: false, more: true, title: "Difference between topics.toml and the broker",
    value: (row) => (row.state === "unknown" || !row.differences ? "N/A" : row.differences.length ? `${row.differences.length} differ` : "as declared"),
    state: (row) => (row.differences?.length ? "bad" : "ok"),
  },
];

export function topicDetails(row) {
  return [
    ["Formula", row.formula ?? "N/A"],
    ["Predicted oldest age", between(row.predicted_oldest_age_s, seconds)],
    ["Segment closed after", `${setting(row.segment_ms)} or ${bytes(row.segment_bytes)}`],
    ["Deletion looked for each", setting(row.check_interval_ms)],
    ...(row.differences ?? []).map(({ setting: name, declared, broker }) => [
      name, `declared ${settingWords(name, declared)}, the broker has ${settingWords(name, broker)}`,
    ]),
  ];
}

const sinceTaken = (row) => row.sinceTakenS ?? 0;

/** Headroom shrinks while nobody asks: what it should be by now. Growth is not foretold: it ends at the retention. */
export function headroomNow(row) {
  if (row.headroom_seconds === null || row.headroom_seconds === undefined) return null;
  return Math.max(0, row.headroom_seconds + Math.min(0, row.headroom_trend ?? 0) * sinceTaken(row));
}

export const READERS = [
  { head: "Reader", numeric: false, value: (row) => `${row.room} ${row.topic}/${row.partition}` },
  { head: "Headroom", title: "Time until the record at the checkpoint may be deleted", value: (row) => (headroomNow(row) === 0 ? "used up" : seconds(headroomNow(row))) },
  { head: "Trend", more: true, title: "Seconds of headroom won or lost each second", value: (row) => trend(row.headroom_trend) },
  { head: "Overrun", title: "When the headroom is used up, if it goes on like this", value: (row) => overrunWords(row.headroom_seconds, row.headroom_trend, sinceTaken(row)) },
  { head: "Lag", title: "Age of the next record to be read", value: (row) => seconds(row.lag_seconds) },
  { head: "Records behind", more: true, value: (row) => count(row.lag_records) },
  { head: "Log start", more: true, value: (row) => count(row.log_start_offset) },
  { head: "Checkpoint", more: true, title: "Next record to be read, as stored", value: (row) => count(row.checkpoint_offset) },
  { head: "Log end", more: true, value: (row) => count(row.log_end_offset) },
];

function roomState(row) {
  if (row.is_paused) return "paused";
  if (row.state === "unknown") return "N/A";
  if (row.ready) return "ready";
  return row.ready === false ? "not ready" : "N/A";
}

/** `formats` of the zone, `now()` server time. */
export const roomColumns = (now) => [
  { head: "Room", numeric: false, value: (row) => row.name },
  { head: "State", numeric: false, value: roomState },
  { head: "Up for", more: true, value: (row) => seconds(row.started_at_ms === null ? null : Math.max(0, (now() - row.started_at_ms) / 1000)) },
  { head: "Restarts", more: true, value: (row) => count(row.restarts) },
  { head: "CPU", title: "Share of one core", value: (row) => share(row.cpu_share) },
  { head: "Memory", title: "Resident", value: (row) => bytes(row.memory_bytes) },
  { head: "Why, or last error", numeric: false, more: true, value: (row) => row.reasons?.join("; ") || row.last_error || (row.state === "unknown" ? "N/A" : "none") },
];

const HOPS = {
  exchange_to_received: "exchange → received", received_to_kafka: "received → in Kafka", kafka_to_committed: "in Kafka → committed",
  kafka_to_relayed: "in Kafka → relayed", relayed_to_painted: "relayed → painted",
};

export const HOP_COLUMNS = [
  { head: "Hop", numeric: false, value: (row) => HOPS[row.hop] ?? row.hop.replaceAll("_", " ") },
  { head: "p50", value: (row) => millis(row.p50_ms) },
  { head: "p95", value: (row) => millis(row.p95_ms) },
  { head: "p99", value: (row) => millis(row.p99_ms) },
];
