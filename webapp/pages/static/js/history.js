// Pages of stored bars and of the gap ledger over HTTP, with a bounded number of tries.

import { INTERVAL_MS } from "./join.js";

/** Bars of one page; the most the API gives. */
export const PAGE_BARS = 1_000;
/** The longest range that the API answers for the ledger (366 days), less one. */
const MAX_GAPS_MS = 365 * 86_400_000;
const MAX_TRIES = 5;
const TRY_TIMEOUT_MS = 8_000;
const MAX_DELAY_MS = 8_000;

/** An answer that trying again does not change: what is wrong in `message`, the HTTP status in `status`. */
export class Refused extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** The address of a page of bars: the newest ones, or the newest before `endMs` (exclusive), from `startMs` on. */
export function klinesUrl(base, symbol, interval, endMs = null, startMs = null) {
  const query = new URLSearchParams({ symbol, interval, limit: String(PAGE_BARS) });
  if (endMs !== null) query.set("end", String(Math.ceil(endMs)));
  if (startMs !== null) query.set("start", String(Math.floor(startMs)));
  return `${base}?${query}`;
}

/** `bars` of a page, oldest first, and whether there are `more` before them. `signal` ends the wait. */
export async function fetchBars(url, signal, onRetry = () => {}) {
  const answer = await fetchJson(url, signal, onRetry);
  return { bars: readBars(answer), more: answer.next_cursor !== null };
}

/** Rows of the API under their column names, as the live bars have them. */
export function readBars({ columns, rows }) {
  return rows.map((row) => Object.fromEntries(columns.map((name, index) => [name, row[index]])));
}

/** Rows of the gap ledger that touch [fromMs, toMs); of the last year when the range is longer. */
export async function fetchGaps(base, symbol, fromMs, toMs, signal) {
  const since = Math.max(fromMs, toMs - MAX_GAPS_MS);
  const query = new URLSearchParams({ symbol, from: String(Math.floor(since)), to: String(Math.ceil(toMs)) });
  return (await fetchJson(`${base}?${query}`, signal)).gaps ?? [];
}

/** Bars of [fromMs, toMs) as the ledger counts them, under their column names, and since when all is complete. */
export async function fetchMinutes(base, symbol, stepMs, fromMs, toMs, signal) {
  const interval = Object.keys(INTERVAL_MS).find((name) => INTERVAL_MS[name] === stepMs);
  const query = new URLSearchParams({ symbol, interval, from: String(Math.floor(fromMs)), to: String(Math.ceil(toMs)) });
  const answer = await fetchJson(`${base}?${query}`, signal);
  return { rows: readBars(answer), completeSince: answer.complete_since_ms ?? null };
}

/** JSON of a GET. Tries again with full jitter on network trouble, 429 and 5xx; other answers raise Refused. */
export async function fetchJson(url, signal, onRetry = () => {}) {
  for (let attempt = 1; ; attempt += 1) {
    try {
      const limit = AbortSignal.any([signal, AbortSignal.timeout(TRY_TIMEOUT_MS)]);
      const response = await fetch(url, { signal: limit });
      if (response.ok) return await response.json();
      const reason = await reasonOf(response);
      if (response.status < 500 && response.status !== 429) throw new Refused(reason, response.status);
      throw new Error(reason);
    } catch (error) {
      if (signal.aborted || error instanceof Refused || attempt >= MAX_TRIES) throw error;
      onRetry(attempt, error);
      await pause(Math.random() * Math.min(MAX_DELAY_MS, 300 * 2 ** attempt), signal);
    }
  }
}

async function reasonOf(response) {
  try {
    const body = await response.json();
    return body.detail ?? body.msg ?? body.title ?? `answer ${response.status}`;
  } catch {
    return `answer ${response.status}`;
  }
}

/** Resolves after `ms`, or at once when `signal` aborts. */
export function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
