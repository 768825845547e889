// The ledger in words and states, no drawing: what each slot of the chart is, and what is said of a gap.

import { THIN } from "./format.js";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const DAY_MS = 86_400_000;

/** Words for the causes of the gap ledger. */
export const CAUSES = {
  disconnect: "disconnect", silence: "silence", overflow: "overflow", log_expired: "log expired",
  offset_jump: "offset jump", trade_chain: "trade chain", downtime: "downtime", unknown: "unknown cause",
};
const DETECTORS = {
  open_times: "missing seconds", log: "the Kafka log", feed: "the feed's own watch", trade_chain: "trade ids that do not join",
  audit: "the audit", operator: "an operator",
};
const RESOLVERS = {
  rest: "repaired from REST", stream: "arrived late", trades: "rebuilt from trades", archive: "filled from the archive",
};
/** States of a slot in the order of the legend, with their words. */
export const STATES = {
  complete: "complete", exchange: "taken whole from the exchange", repaired: "repaired", gap: "gap", absent: "exchange has no data",
  unknown: "not known",
};

/** A gap row of the API with times as ms; null when it cannot be read. */
export function readGap(row) {
  const { from_time_ms: from, to_time_ms: to } = row;
  if (!(from < to)) return null;
  return {
    id: row.id, from, to, cause: row.cause, state: row.state, resolvedBy: row.resolved_by ?? null,
    detector: row.detector ?? null, detectedAt: row.detected_at_ms ?? null, attempts: row.attempts ?? 0,
    lastError: row.last_error ?? null,
  };
}

/** A feed that is out now, in the shape of a gap that grows: the ledger has its row only once the feed is back. */
export function gapOfOutage(outage, now) {
  const { from_time_ms: from, cause } = outage;
  const to = Math.max(now, from + SECOND_MS);
  return { id: "feed", from, to, cause, state: "open", resolvedBy: null, detector: "feed", detectedAt: null, attempts: 0, lastError: null, lasts: true };
}

const MENDED = new Set(["repaired", "absent"]);

/**
 * How one slot stands: a name of STATES, or "forming". `counts` says how many of its seconds came later
 * ({rest_count, trades_count}); a slot without a bar and without a gap is not known, which is not calm.
 */
export function slotState(bar, gaps, counts = null) {
  if (gaps.some((gap) => !MENDED.has(gap.state))) return "gap";
  if (gaps.some((gap) => gap.state === "absent")) return "absent";
  if (bar === null) return "unknown";
  // The relay's own bar of seconds whose start it has not seen: history will say.
  if (bar.revision < 0) return bar.is_closed === false ? "forming" : "unknown";
  const whole = bar.is_complete !== false || bar.is_closed === false;
  if (whole && gaps.length) return "repaired";
  if (bar.source === "rest" || bar.source === "archive") return "exchange";
  if (bar.is_closed === false) return "forming";
  // Seconds are missing of which the ledger says nothing: they are not a gap before it does.
  if (!whole) return gaps.length ? "gap" : "unknown";
  return bar.revision > 0 && laterSeconds(counts) > 0 ? "repaired" : "complete";
}

function laterSeconds(counts) {
  return (counts?.rest_count ?? 0) + (counts?.trades_count ?? 0);
}

/** Rows of `gaps` (ascending by from) that touch [from, to). */
export function gapsIn(gaps, from, to) {
  return gaps.filter((gap) => gap.from < to && gap.to > from);
}

/** "12 s", "5 min 12 s", "3 h 20 min", "2 d 3 h". */
export function lengthWords(ms) {
  const units = [[DAY_MS, "d"], [HOUR_MS, "h"], [MINUTE_MS, "min"], [SECOND_MS, "s"]];
  const first = units.findIndex(([unit]) => ms >= unit);
  if (first < 0) return `${ms} ms`;
  const parts = units.slice(first, first + 2).map(([unit, name], index) => {
    const value = Math.floor((index ? ms % units[first][0] : ms) / unit);
    return value || !index ? `${value}${THIN}${name}` : "";
  });
  return parts.filter(Boolean).join(" ");
}

/** "gap: disconnect, 12 s, repairing". */
export function gapWords(gap) {
  const tries = gap.attempts > 1 ? `, ${gap.attempts} tries` : "";
  const outcome = {
    repaired: RESOLVERS[gap.resolvedBy] ?? "repaired", open: gap.lasts ? "feed is out" : `repairing${tries}`,
    absent: "exchange has no data", unrepairable: "cannot be repaired",
  }[gap.state] ?? gap.state;
  return `gap: ${CAUSES[gap.cause] ?? gap.cause}, ${lengthWords(gap.to - gap.from)}, ${outcome}`;
}

/** "14:02:03 to 14:02:15", with the day where it is not today's. */
export function spanWords(gap, formats, now) {
  const long = gap.to - gap.from >= HOUR_MS;
  const today = formats.day(gap.from) === formats.day(now);
  const end = gap.lasts ? "now" : long ? formats.moment(gap.to, now) : formats.seconds(gap.to);
  if (long) return `${formats.moment(gap.from, now)} to ${end}`;
  return `${today ? "" : `${formats.day(gap.from)} `}${formats.seconds(gap.from)} to ${end}`;
}

/** "found by missing seconds at 14:02:17", or null. */
export function detectorWords(gap, formats) {
  if (!gap.detector) return null;
  const at = gap.detectedAt === null ? "" : ` at ${formats.seconds(gap.detectedAt)}`;
  return `found by ${DETECTORS[gap.detector] ?? gap.detector}${at}`;
}

/** "60 / 60 s" with what more is known of a bar. */
export function barWords(bar, gaps, counts = null) {
  if (!bar) return gaps.length ? "0 s stored" : "not known: no row, no gap listed";
  const words = [];
  if (bar.expected_count > 0 && Number.isFinite(bar.row_count)) words.push(`${bar.row_count} / ${bar.expected_count} s`);
  if (bar.source === "rest") words.push("from the exchange's REST");
  else if (bar.source === "archive") words.push("from the archive");
  if (laterSeconds(counts) > 0 && bar.source === "seconds") {
    if (counts.rest_count > 0) words.push(`${counts.rest_count} s from REST`);
    if (counts.trades_count > 0) words.push(`${counts.trades_count} s from trades`);
  }
  if (bar.is_closed === false) words.push("forming");
  if (bar.revision > 0) words.push(`revision ${bar.revision}`);
  return words.join(" · ") || "complete";
}

/** Of all gaps: "no gaps", "1 open gap", "3 gaps, 1 open", "2 gaps, none open". */
export function gapsWords(gaps) {
  if (!gaps.length) return "no gaps";
  const open = gaps.filter((gap) => !MENDED.has(gap.state)).length;
  const noun = gaps.length === 1 ? "gap" : "gaps";
  return open === gaps.length ? `${open} open ${noun}` : `${gaps.length} ${noun}, ${open || "none"} open`;
}

/** Since when nothing is missing among what is loaded; for as long as the server has not said it. Null: not known. */
export function completeSince(series, gaps, stepMs) {
  if (!series || series.first === null) return null;
  const holes = gaps.filter((gap) => !MENDED.has(gap.state)).map((gap) => gap.to);
  let since = Math.max(series.first, ...holes);
  for (let time = series.last; time > since; time -= stepMs) {
    const bar = series.at(time);
    const state = slotState(bar, gapsIn(gaps, time, time + stepMs));
    if (state === "gap" || state === "unknown") since = time + stepMs;
  }
  return since;
}
