// The bars of one symbol and interval: the first page and the live channel at once, joined, mended, handed to the chart.

import { PAGE_BARS, fetchBars, klinesUrl, pause } from "./history.js";
import { BarSeries, INTERVAL_MS, MAX_BARS } from "./join.js";

const MAX_HOLE_TRIES = 4;
/** Bars that may come in while a page is asked for. */
const PAGE_MARGIN_BARS = 100;
const HOLE_DELAY_MS = 900;

export class BarFeed {
  /** `listener`: changed(change, feed), failed(error), retrying(attempt). */
  constructor({ symbol, interval, live, klinesPath, listener }) {
    Object.assign(this, { symbol, interval, live, klinesPath, listener });
    this.stepMs = INTERVAL_MS[interval];
    this.series = new BarSeries(this.stepMs);
    this.channel = `kline:${symbol}:${interval}`;
    this.stopped = new AbortController();
    this.holeTries = 0;
    this.reachedStart = false;
    this.loadingOlder = false;
  }

  start() {
    this.live.subscribe(this.channel, (message, arrivedAt) => this.#receive(message, arrivedAt));
    return this.reload();
  }

  stop() {
    this.stopped.abort();
    this.live.unsubscribe(this.channel);
  }

  /** The newest page again: at the start, after a long sleep, and to mend a hole. */
  async reload() {
    try {
      const url = klinesUrl(this.klinesPath, this.symbol, this.interval);
      const { bars, more } = await fetchBars(url, this.stopped.signal, (attempt) => this.listener.retrying(attempt));
      if (this.stopped.signal.aborted) return;
      if (!this.series.joined) this.reachedStart = !more;
      this.#apply(this.series.addHistory(bars), null, null);
    } catch (error) {
      if (!this.stopped.signal.aborted) this.listener.failed(error);
    }
  }

  /** One page further back; nothing when there is none, or one is on its way. */
  async loadOlder() {
    if (this.loadingOlder || this.reachedStart || !this.series.joined || this.series.first === null) return;
    if (this.series.size >= MAX_BARS) return;
    this.loadingOlder = true;
    try {
      const url = klinesUrl(this.klinesPath, this.symbol, this.interval, this.series.first);
      const { bars, more } = await fetchBars(url, this.stopped.signal);
      const older = bars.filter((bar) => bar.open_time_ms < this.series.first);
      this.reachedStart = !more || !older.length;
      if (older.length) this.#apply(this.series.addHistory(older), null, null);
    } catch (error) {
      if (!this.stopped.signal.aborted) await pause(3_000, this.stopped.signal);
    } finally {
      this.loadingOlder = false;
    }
  }

  /** Bars of [from, to) that have changed in the store. */
  async refresh(from, to) {
    if (!this.series.joined || this.series.first === null) return;
    try {
      const first = Math.max(from, this.series.first);
      if (first >= to) return;
      const { bars } = await fetchBars(klinesUrl(this.klinesPath, this.symbol, this.interval, to, first), this.stopped.signal);
      if (!this.stopped.signal.aborted && bars.length) this.#apply(this.series.addLive(bars), null, null);
    } catch {
      // The next look at the ledger finds the same bars behind.
    }
  }

  #receive(message, arrivedAt) {
    if (message.kind === "reset") {
      // Bars older than the snapshot that follows may have been revised meanwhile.
      if (this.series.joined) this.reload();
      return;
    }
    const bars = message.kind === "snapshot" ? message.data.bars : [message.data];
    this.#apply(this.series.addLive(bars), message, arrivedAt);
  }

  #apply(change, message, arrivedAt) {
    if (change.hole) this.#mend(change.hole);
    if (change.kind !== "none") this.listener.changed(change, this, message, arrivedAt);
  }

  /** History does not touch the live bars yet (rows are stored in batches): ask again, a few times. */
  async #mend(hole) {
    if (hole.from !== this.holeFrom) this.holeTries = 0;
    this.holeFrom = hole.from;
    if (this.mending || this.holeTries >= MAX_HOLE_TRIES) return;
    this.mending = true;
    this.holeTries += 1;
    await pause(HOLE_DELAY_MS * this.holeTries, this.stopped.signal);
    this.mending = false;
    if (this.stopped.signal.aborted) return;
    // Longer than a page (a laptop slept): begin anew rather than leave a hole in the middle.
    if ((hole.to - hole.from) / this.stepMs > PAGE_BARS - PAGE_MARGIN_BARS) this.series = new BarSeries(this.stepMs);
    await this.reload();
  }
}
