// Symbols and their day: pure ranking, and the one place that holds the newest ticker of each.

import { changePercent } from "./format.js";
import { fetchJson } from "./history.js";

/** Columns a list can be sorted by: how a row is measured, and the first direction. */
export const SORTS = {
  symbol: { of: (row) => row.symbol, first: 1 },
  last: { of: (row) => Number(row.last ?? NaN), first: -1 },
  change: { of: (row) => row.change ?? NaN, first: -1 },
  high: { of: (row) => Number(row.high ?? NaN), first: -1 },
  low: { of: (row) => Number(row.low ?? NaN), first: -1 },
  volume: { of: (row) => Number(row.turnover ?? NaN), first: -1 },
};

/** Rows that match the words, favourites first, then by the column; unknown figures last whatever the direction. */
export function rankMarkets(rows, { words = "", sort = "volume", direction = -1, favourites = [] } = {}) {
  const wanted = words.trim().toUpperCase().replace(/[\s/]+/g, "");
  const starred = new Set(favourites);
  const measure = SORTS[sort]?.of ?? SORTS.volume.of;
  const shown = wanted ? rows.filter((row) => row.symbol.includes(wanted)) : [...rows];
  const compare = (left, right) => {
    const a = measure(left);
    const b = measure(right);
    if (typeof a === "string") return direction * (a < b ? -1 : a > b ? 1 : 0);
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return direction * (a - b);
  };
  const starts = (row) => (wanted && row.symbol.startsWith(wanted) ? 0 : 1);
  return shown.sort((left, right) => starred.has(right.symbol) - starred.has(left.symbol) || starts(left) - starts(right)
    || compare(left, right) || (left.rank ?? 0) - (right.rank ?? 0) || (left.symbol < right.symbol ? -1 : 1));
}

/** What a ticker of the live channel says of a row. */
export function withTicker(row, ticker) {
  return Object.assign(row, {
    last: ticker.close, high: ticker.high, low: ticker.low, turnover: ticker.quote_volume,
    change: changePercent(ticker.open, ticker.close),
  });
}

/** One symbol as the API gives it. */
export function readSymbol(entry, rank) {
  return {
    symbol: entry.symbol, base: entry.base_asset, quote: entry.quote_asset, tick: entry.tick_size, lot: entry.step_size,
    rank, last: entry.last, high: entry.high, low: entry.low, turnover: entry.quote_volume,
    change: entry.change_percent === null ? null : Number(entry.change_percent), sparkline: entry.sparkline,
  };
}

export class Markets {
  constructor(path, live) {
    Object.assign(this, { path, live });
    this.rows = new Map();
    this.watchers = new Set();
    this.loaded = false;
  }

  /** All symbols; asked for once, shared by the list, the menu and the header. */
  load() {
    this.loading ??= this.reload().catch((error) => { this.loading = null; throw error; });
    return this.loading;
  }

  /** All symbols as they are now. */
  async reload() {
    const answer = await fetchJson(this.path, new AbortController().signal);
    answer.symbols.forEach((entry, rank) => this.rows.set(entry.symbol, readSymbol(entry, rank)));
    this.loaded = true;
    this.#tell();
  }

  /** `call()` when figures changed; the tickers channel is only held while someone watches. */
  watch(call) {
    this.watchers.add(call);
    if (this.watchers.size === 1) this.live.subscribe("tickers", (message) => this.#receive(message));
  }

  unwatch(call) {
    this.watchers.delete(call);
    if (this.watchers.size === 0) this.live.unsubscribe("tickers");
  }

  #receive(message) {
    if (message.kind === "reset") return;
    for (const ticker of message.data?.tickers ?? []) {
      const row = this.rows.get(ticker.symbol);
      if (row) withTicker(row, ticker);
    }
    this.#tell();
  }

  #tell() {
    for (const call of this.watchers) call();
  }
}
