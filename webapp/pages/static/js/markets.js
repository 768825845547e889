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

/** What a ticker says of a row. */
export function withTicker(row, ticker) {
  const change = changePercent(ticker.open, ticker.close);
  return Object.assign(row, {
    open: ticker.open, last: ticker.close, high: ticker.high, low: ticker.low, turnover: ticker.quote_volume,
    baseVolume: ticker.base_volume, change,
  });
}

/** One symbol as the API gives it. */
export function readSymbol(entry) {
  const row = {
    symbol: entry.symbol, base: entry.base_asset, quote: entry.quote_asset, tick: entry.tick_size, lot: entry.step_size,
    rank: entry.rank ?? 0,
  };
  const ticker = entry.ticker ?? entry;
  return ticker.close !== undefined && ticker.close !== null ? withTicker(row, ticker) : row;
}

export class Markets {
  constructor(path, live) {
    Object.assign(this, { path, live });
    this.rows = new Map();
    this.watchers = new Set();
  }

  /** All symbols; asked for once, shared by the list, the menu and the header. */
  load() {
    this.loading ??= fetchJson(this.path, new AbortController().signal).then((answer) => {
      for (const entry of answer.symbols ?? answer) {
        const row = readSymbol(entry);
        this.rows.set(row.symbol, Object.assign(row, this.rows.get(row.symbol)));
      }
      this.#tell();
    }).catch((error) => { this.loading = null; throw error; });
    return this.loading;
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
