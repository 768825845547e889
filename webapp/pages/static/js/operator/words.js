// Figures of operators in words. What is not known is N/A, never 0.

import { THIN, MINUS, countdown, group } from "../format.js";
import { lengthWords } from "../ledger.js";

export const NA = "N/A";
const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];
/** A headroom that moves less than this is steady (seconds per second). */
const STEADY = 0.05;

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** 1234567 -> "1 234 567". */
export function count(value) {
  return known(value) ? group(String(Math.round(value))) : NA;
}

/** 1234567 -> "1.23 MB" (powers of 1000). */
export function bytes(value) {
  if (!known(value)) return NA;
  const step = value < 1000 ? 0 : Math.min(BYTE_UNITS.length - 1, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** step;
  return `${step === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toPrecision(3)}${THIN}${BYTE_UNITS[step]}`;
}

/** Per second: 0.25 -> "0.25 /s", 412.3 -> "412 /s". */
export function rate(value) {
  if (!known(value)) return NA;
  return `${value < 10 ? Number(value.toFixed(2)) : group(String(Math.round(value)))}${THIN}/s`;
}

/** 0.4 -> "0.4 s", 38.2 -> "38 s", 754 -> "12 min 34 s". */
export function seconds(value) {
  if (!known(value)) return NA;
  const size = Math.abs(value);
  const sign = value < 0 ? MINUS : "";
  if (size < 10) return `${sign}${Number(size.toFixed(1))}${THIN}s`;
  return sign + lengthWords(Math.round(size) * 1000);
}

/** A setting of the broker in ms; -1 is its word for no limit. */
export function setting(ms) {
  return ms === -1 ? "unlimited" : seconds(known(ms) ? ms / 1000 : null);
}

/** 38.4 -> "38 ms", 1250 -> "1.25 s". */
export function millis(value) {
  if (!known(value)) return NA;
  return value < 1000 ? `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)}${THIN}ms` : `${(value / 1000).toFixed(2)}${THIN}s`;
}

/** 0.1234 -> "12.3 %". */
export function share(value) {
  if (!known(value)) return NA;
  return `${Number((value * 100).toFixed(value < 0.1 ? 2 : 1))}${THIN}%`;
}

/** The share that is there; never 100 % while a second is missing. */
export function completeShare(expected, missing) {
  if (!known(expected) || !known(missing) || expected <= 0) return NA;
  if (missing <= 0) return `100${THIN}%`;
  return `${(Math.floor(((expected - missing) / expected) * 100_000) / 1000).toFixed(3)}${THIN}%`;
}

/** How the headroom moves: an arrow with its word, so that neither colour nor shape is alone. */
export function trend(value) {
  if (!known(value)) return NA;
  if (Math.abs(value) < STEADY) return "→ steady";
  return `${value > 0 ? "▲ +" : `▼ ${MINUS}`}${Math.abs(value).toFixed(2)}${THIN}s/s`;
}

/** Seconds until a shrinking headroom is used up, `sinceS` seconds after it was measured; null = it does not shrink. */
export function untilOverrun(headroomS, trendS, sinceS = 0) {
  if (!known(headroomS) || !known(trendS) || trendS > -STEADY) return null;
  return Math.max(0, headroomS / -trendS - sinceS);
}

/** "in 11:35", "now", "not in sight", N/A. */
export function overrunWords(headroomS, trendS, sinceS) {
  if (!known(headroomS)) return NA;
  if (headroomS <= 0) return "now";
  if (!known(trendS)) return NA;
  const left = untilOverrun(headroomS, trendS, sinceS);
  if (left === null) return "not in sight";
  return left <= 0 ? "now" : `in ${countdown(left * 1000)}`;
}

/** A figure by the unit at the end of its name, as operator_sample and the API spell them. */
export function byName(name, value) {
  if (/bytes/.test(name)) return bytes(value);
  if (/per_second$/.test(name)) return rate(value);
  if (/_ms$/.test(name)) return millis(value);
  if (/trend$/.test(name)) return trend(value);
  if (/(_s|_seconds)$/.test(name)) return seconds(value);
  if (/(share|ratio)$/.test(name)) return share(value);
  return count(value);
}

/** "lag_records" -> "lag, records"; the unit is in the figure itself where it has one. */
export function nameWords(name) {
  return name.replace(/_(s|ms|seconds|bytes|share)$/, "").replaceAll("_", " ");
}
