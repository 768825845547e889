// History and live as one series of bars. No hole, no double, nothing the chart library would throw at.
//
// Bars are joined by open_time_ms. Of two versions of one bar the higher revision wins, then the later
// covered_until_ms; of equals the one that came later. Live bars wait until history has landed. Every slot of
// the grid between two bars is filled with an empty point, because the library's axis counts points, not time.

/** Slots without a bar that are filled in one hole; a longer hole stays one step on the axis. */
export const MAX_FILLED_SLOTS = 5_000;
/** Bars kept for one view; older pages are not asked for beyond it. */
export const MAX_BARS = 40_000;
/** Live bars that wait for history; a second each, so far more than any history request lasts. */
const MAX_WAITING_BARS = 5_000;

/** Length of a bar in ms, by the interval's name. */
export const INTERVAL_MS = {
  "1s": 1_000, "1m": 60_000, "5m": 300_000, "15m": 900_000, "1h": 3_600_000, "4h": 14_400_000, "1d": 86_400_000,
};

/** Whether `next` replaces `held`. */
export function isNewer(next, held) {
  if (!held) return true;
  const byRevision = (next.revision ?? 0) - (held.revision ?? 0);
  if (byRevision) return byRevision > 0;
  return (next.covered_until_ms ?? next.close_time_ms ?? 0) >= (held.covered_until_ms ?? held.close_time_ms ?? 0);
}

/**
 * What a change asks of the chart.
 * @typedef {{kind: "none"|"set"|"update", points: {time: number, bar: object|null, older: boolean}[],
 *            hole: {from: number, to: number}|null}} Change
 */
const NOTHING = Object.freeze({ kind: "none", points: [], hole: null });

export class BarSeries {
  constructor(stepMs) {
    this.stepMs = stepMs;
    this.bars = new Map();
    this.slots = new Set();
    this.first = null;
    this.last = null;
    this.waiting = [];
    this.hole = null;
    this.joined = false;
  }

  get size() {
    return this.bars.size;
  }

  /** The bar at an open time, or null. */
  at(openTimeMs) {
    return this.bars.get(openTimeMs) ?? null;
  }

  /** The newest bar, or null. */
  get newest() {
    return this.last === null ? null : this.bars.get(this.last);
  }

  /** A page of history: the first one opens the door for the live bars that waited. Returns a Change. */
  addHistory(bars) {
    let changed = !this.joined;
    for (const bar of bars) changed = this.#keep(bar) || changed;
    this.joined = true;
    const newestOfHistory = bars.length ? bars.at(-1).open_time_ms : null;
    this.#holeBefore(this.waiting, newestOfHistory);
    for (const bar of this.waiting) changed = this.#keep(bar) || changed;
    this.waiting = [];
    const hole = this.#holeLeft();
    return changed || hole ? { kind: changed ? "set" : "none", points: [], hole } : NOTHING;
  }

  /** Bars from the live channel, oldest first (one of an update, many of a snapshot). Returns a Change. */
  addLive(bars) {
    if (!this.joined) {
      this.waiting.push(...bars);
      this.waiting.splice(0, Math.max(0, this.waiting.length - MAX_WAITING_BARS));
      return NOTHING;
    }
    const hole = this.#holeBefore(bars, this.last);
    const points = [];
    let mustSet = false;
    for (const bar of bars) {
      const before = this.last;
      if (!this.#keep(bar)) continue;
      const time = bar.open_time_ms;
      if (before === null || time < this.first) mustSet = true;
      else if (time > before) points.push(...this.#steps(before, time));
      else if (this.slots.has(time)) points.push({ time, bar, older: time < before });
      else mustSet = true;
      this.slots.add(time);
    }
    if (mustSet || points.length > 200) return { kind: "set", points: [], hole };
    return points.length || hole ? { kind: points.length ? "update" : "none", points, hole } : NOTHING;
  }

  /** All points in time order, empty slots with bar null; remembers which slots the chart then knows. */
  points() {
    const times = [...this.bars.keys()].sort((left, right) => left - right);
    const points = [];
    let before = null;
    for (const time of times) {
      if (before !== null) points.push(...this.#steps(before, time));
      else points.push({ time, bar: this.bars.get(time), older: false });
      before = time;
    }
    this.slots = new Set(points.map((point) => point.time));
    return points;
  }

  /** The points after `before` up to and with `time`: empty slots of a hole, then the bar. */
  #steps(before, time) {
    const points = [];
    if ((time - before) / this.stepMs <= MAX_FILLED_SLOTS) {
      for (let slot = before + this.stepMs; slot < time; slot += this.stepMs) {
        points.push({ time: slot, bar: null, older: false });
        this.slots.add(slot);
      }
    }
    points.push({ time, bar: this.bars.get(time), older: false });
    return points;
  }

  #keep(bar) {
    const time = bar.open_time_ms;
    if (!Number.isSafeInteger(time) || !isNewer(bar, this.bars.get(time))) return false;
    this.bars.set(time, bar);
    this.first = this.first === null ? time : Math.min(this.first, time);
    this.last = this.last === null ? time : Math.max(this.last, time);
    return true;
  }

  /** The hole between the newest bar we have and the first newer live bar, or null. Remembered until it is filled. */
  #holeBefore(bars, newest) {
    const later = newest === null ? [] : bars.map((bar) => bar.open_time_ms).filter((time) => time > newest);
    const firstNew = later.length ? Math.min(...later) : null;
    if (firstNew === null || firstNew <= newest + this.stepMs) return null;
    this.hole = { from: newest + this.stepMs, to: firstNew };
    return this.hole;
  }

  /** The remembered hole, unless bars have come to both of its ends. */
  #holeLeft() {
    const { hole } = this;
    if (hole && this.bars.has(hole.from) && this.bars.has(hole.to - this.stepMs)) this.hole = null;
    return this.hole;
  }
}

/** A bar as the chart draws it; null (an empty point) where nothing traded, so that calm is not drawn as a price. */
export function candlePoint(time, bar) {
  if (!bar || bar.trade_count === 0) return { time: time / 1000 };
  return { time: time / 1000, open: +bar.open, high: +bar.high, low: +bar.low, close: +bar.close };
}
