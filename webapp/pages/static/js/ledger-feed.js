// The ledger of what is on screen, kept up to date: asked for every few seconds, and at once when something hints at news.

import { fetchGaps, fetchMinutes } from "./history.js";
import { readGap } from "./ledger.js";

/** While all is well; a hint (an outage, a revised bar) asks earlier. */
const CALM_MS = 5_000;
/** While a gap is open, and soonest after a hint. */
const BUSY_MS = 2_000;
const HINT_MS = 400;
/** The rows behind the gaps are asked for when the gaps have changed, and this often. */
const ROWS_EVERY_MS = 60_000;
/** Most bars of one answer (the API gives 3,000). */
const MAX_ROWS = 2_900;
const MINUTE_MS = 60_000;

/** What is known: `gaps` ascending, `rows` of the API by open time, `completeSince` (ms), `readAt` null = nothing yet. */
export class LedgerFeed {
  /** `first()`: the oldest open time on screen; `now()`: server time; `changed(stale)` with ranges that were revised since the last look. */
  constructor({ api, symbol, stepMs, first, now, changed }) {
    Object.assign(this, { api, symbol, stepMs, first, now, changed });
    this.gaps = [];
    this.rows = new Map();
    this.completeSince = null;
    this.readAt = null;
    this.rowsAt = null;
    this.stopped = new AbortController();
  }

  stop() {
    this.stopped.abort();
    clearTimeout(this.timer);
  }

  /** Something may have changed: look soon; with `rows` at the bars too. */
  hint(rows = false) {
    if (rows) this.rowsAt = null;
    this.#schedule(HINT_MS);
  }

  #schedule(delayMs) {
    if (this.stopped.signal.aborted) return;
    const due = performance.now() + Math.max(delayMs, BUSY_MS - (performance.now() - (this.askedAt ?? -BUSY_MS)));
    if (this.timer && this.due <= due) return;
    clearTimeout(this.timer);
    this.due = due;
    this.timer = setTimeout(() => { this.timer = null; this.look(); }, due - performance.now());
  }

  /** Ask now, unless an answer is on its way or nobody looks. */
  async look() {
    if (this.asking || document.hidden) return;
    this.asking = true;
    this.askedAt = performance.now();
    try {
      const stale = await this.#read();
      if (this.stopped.signal.aborted) return;
      this.readAt = this.now();
      this.changed(stale);
    } catch {
      // What was known stays on screen, with its age (isOld); the next round asks again.
    } finally {
      this.asking = false;
    }
    this.#schedule(this.gaps.some((gap) => gap.state === "open") ? BUSY_MS : CALM_MS);
  }

  /** Nothing was heard of the ledger for long: what is on screen may be out of date. */
  get isOld() {
    return this.readAt === null || this.now() - this.readAt > 6 * CALM_MS;
  }

  async #read() {
    const to = this.now() + this.stepMs;
    const from = this.first() ?? to - 1_000 * this.stepMs;
    const { signal } = this.stopped;
    const found = (await fetchGaps(this.api.gaps, this.symbol, from, to, signal)).map(readGap).filter(Boolean);
    found.sort((left, right) => left.from - right.from);
    const before = this.gaps;
    this.gaps = found;
    const age = this.rowsAt === null ? Infinity : to - this.rowsAt;
    if (age <= ROWS_EVERY_MS && signature(before) === signature(found)) return [];
    const stale = await this.#readRows(from, to);
    this.rowsAt = to;
    return stale;
  }

  async #readRows(from, to) {
    const step = Math.max(this.stepMs, MINUTE_MS);
    const since = Math.max(from, to - MAX_ROWS * step);
    const answer = await fetchMinutes(this.api.minutes, this.symbol, step, since, to, this.stopped.signal);
    const before = this.rows;
    this.rows = new Map(answer.rows.map((row) => [row.open_time_ms, row]));
    this.completeSince = answer.completeSince;
    if (!before.size) return [];
    return revised(before, answer.rows).map((open) => ({ from: open, to: open + step }));
  }
}

/** What makes one ledger differ from another. */
export function signature(gaps) {
  return gaps.map(({ id, from, to, state }) => `${id}:${from}:${to}:${state}`).join(" ");
}

/** Repaired gaps of which the series of single seconds does not hold every one, as far as it reaches back. */
export function lacking(series, gaps) {
  return gaps.filter((gap) => {
    if (gap.state !== "repaired" || series.first === null) return false;
    const from = Math.max(gap.from - (gap.from % series.stepMs), series.first);
    for (let time = from; time < Math.min(gap.to, series.last); time += series.stepMs) if (!series.at(time)) return true;
    return false;
  }).map(({ from, to }) => ({ from, to }));
}

/** Open times of closed bars that have changed. */
export function revised(before, rows) {
  return rows.filter((row) => {
    const held = before.get(row.open_time_ms);
    return held && held.state !== "forming" && (row.revision > held.revision || row.row_count > held.row_count);
  }).map((row) => row.open_time_ms);
}

/** Open times of closed bars of which the series holds an older version, or none. */
export function behind(series, rows) {
  const late = [];
  for (const row of rows.values()) {
    if (row.state === "forming" || !row.row_count || row.open_time_ms < series.first) continue;
    const bar = series.at(row.open_time_ms);
    if (!bar || bar.revision < row.revision || bar.row_count < row.row_count) late.push(row.open_time_ms);
  }
  return late;
}
