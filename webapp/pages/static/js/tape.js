// Trades, newest first: at most a hundred rows, a size filter, still under the pointer.

import { byId, make, setText } from "./dom.js";
import { figure } from "./format.js";
import { median } from "./latency.js";

export const MAX_TRADES = 100;
const LARGE_TIMES_MEDIAN = 12;
const MAX_SLIDES_PER_FRAME = 1;

/** `held` (newest first) with `incoming` (any order): unique by trade id, newest first, cut to `limit`. */
export function mergeTrades(held, incoming, limit = MAX_TRADES) {
  const newest = held[0]?.trade_id ?? -1;
  const later = incoming.filter((trade) => trade.trade_id > newest);
  if (later.length === incoming.length && later.length) {
    return [...later.sort((a, b) => b.trade_id - a.trade_id), ...held].slice(0, limit);
  }
  const byTrade = new Map([...held, ...incoming].map((trade) => [trade.trade_id, trade]));
  return [...byTrade.values()].sort((a, b) => b.trade_id - a.trade_id).slice(0, limit);
}

/** Steps of the size filter that suit this market, from the median quantity: 0, then 1-2-5 around it. */
export function filterSteps(trades) {
  const middle = median(trades.map((trade) => Number(trade.quantity)));
  if (!middle) return ["0"];
  const base = 10 ** Math.floor(Math.log10(middle));
  return ["0", ...[1, 5, 10, 50, 100].map((factor) => String(Number((base * factor).toPrecision(1))))];
}

export class TapePanel {
  constructor() {
    this.list = byId("tape");
    this.trades = [];
    this.minimum = 0;
    this.paused = false;
    this.rows = new Map();
    const pause = (paused) => { this.paused = paused; byId("tape-paused").hidden = !paused; if (!paused) this.paint(); };
    this.list.addEventListener("pointerenter", (event) => { if (event.pointerType === "mouse") pause(true); });
    this.list.addEventListener("pointerleave", () => pause(false));
  }

  configure({ priceDecimals, quantityDecimals, formats }) {
    Object.assign(this, { priceDecimals, quantityDecimals, formats });
    this.rows.clear();
    this.list.replaceChildren();
    this.paint();
  }

  clear() {
    this.trades = [];
    this.rows.clear();
    this.list.replaceChildren();
  }

  setMinimum(minimum) {
    this.minimum = Number(minimum);
    this.paint();
  }

  add(trades) {
    this.trades = mergeTrades(this.trades, trades);
  }

  paint() {
    if (this.paused) return;
    const shown = this.trades.filter((trade) => Number(trade.quantity) >= this.minimum);
    const large = LARGE_TIMES_MEDIAN * (median(this.trades.map((trade) => Number(trade.quantity))) ?? Infinity);
    const ids = new Set(shown.map((trade) => trade.trade_id));
    for (const [id, row] of this.rows) if (!ids.has(id)) { row.remove(); this.rows.delete(id); }
    const fresh = shown.filter((trade) => !this.rows.has(trade.trade_id));
    const slides = this.rows.size > 0 && fresh.length <= MAX_SLIDES_PER_FRAME;
    let next = null;
    for (let index = shown.length - 1; index >= 0; index -= 1) {
      const trade = shown[index];
      let row = this.rows.get(trade.trade_id);
      if (!row) {
        row = this.#row(trade, large, slides);
        this.rows.set(trade.trade_id, row);
        this.list.insertBefore(row, next ?? null);
      }
      next = row;
    }
    const empty = byId("tape-empty");
    empty.hidden = shown.length > 0;
    if (!shown.length) {
      setText(empty, this.trades.length ? "No trade of this size among the last 100." : "Each trade appears here as it happens.");
    }
  }

  #row(trade, large, slides) {
    const sold = trade.is_buyer_maker;
    const row = make("li", { className: `trade ${sold ? "sell" : "buy"}` },
      make("span", {}, make("i", {}, sold ? "▼" : "▲"), figure(trade.price, this.priceDecimals)),
      make("span", {}, figure(trade.quantity, this.quantityDecimals)),
      make("span", {}, this.formats.millis(trade.trade_time_ms)));
    if (Number(trade.quantity) >= large) row.classList.add("large");
    if (slides) row.classList.add("new");
    return row;
  }
}
