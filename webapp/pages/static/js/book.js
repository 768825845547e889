// The order book: a pure ladder made from one snapshot, and the rows that show it.

import { byId, make, setData, setText } from "./dom.js";
import { arrow, direction, figure, fromScaled, group, toScaled } from "./format.js";

export const MAX_ROWS = 20;
export const GROUPINGS = [1, 5, 10, 50, 100];

/**
 * One side, best first, grouped to `step` (in ticks): whole numbers of ticks and of quantity steps, so that nothing is
 * rounded. Bids are grouped downward, asks upward, as orders would fill.
 */
export function groupSide(levels, side, { tick, lot, step }) {
  const grouped = [];
  for (const [price, quantity] of levels) {
    const ticks = toScaled(price, tick);
    const bucket = side === "bid" ? Math.floor(ticks / step) * step : Math.ceil(ticks / step) * step;
    const lots = toScaled(quantity, lot);
    if (lots <= 0) continue;
    if (grouped.at(-1)?.price === bucket) grouped.at(-1).quantity += lots;
    else grouped.push({ price: bucket, quantity: lots });
  }
  let sum = 0;
  for (const level of grouped) {
    sum += level.quantity;
    level.sum = sum;
  }
  return grouped;
}

/** Bars, sums and numbers of one snapshot: `rows` levels a side, spread in ticks and basis points. */
export function ladder(book, rows, units) {
  const asks = groupSide(book.asks, "ask", units).slice(0, rows);
  const bids = groupSide(book.bids, "bid", units).slice(0, rows);
  const most = Math.max(asks.at(-1)?.sum ?? 0, bids.at(-1)?.sum ?? 0, 1);
  for (const level of [...asks, ...bids]) level.share = level.sum / most;
  const ask = book.asks.length ? toScaled(book.asks[0][0], units.tick) : null;
  const bid = book.bids.length ? toScaled(book.bids[0][0], units.tick) : null;
  const spread = ask === null || bid === null ? null : ask - bid;
  const bps = spread === null || ask + bid === 0 ? null : (spread / ((ask + bid) / 2)) * 10_000;
  return { asks, bids, spread, bps };
}

/** Basis points with as many digits as say something. */
export function basisPoints(bps) {
  return bps < 0.1 ? bps.toFixed(3) : bps < 10 ? bps.toFixed(2) : bps.toFixed(0);
}

export class BookPanel {
  constructor() {
    this.rows = { asks: [], bids: [] };
    this.held = { asks: new Map(), bids: new Map() };
    this.count = 0;
    for (const side of ["asks", "bids"]) {
      const holder = byId(side);
      for (let index = 0; index < MAX_ROWS; index += 1) {
        const row = make("div", { className: "level" }, make("span"), make("span"), make("span"));
        row.setAttribute("role", "listitem");
        if (side === "asks") holder.prepend(row);
        else holder.append(row);
        this.rows[side].push(row);
      }
    }
    new ResizeObserver(() => this.#fit()).observe(byId("bids"));
    this.#fit();
  }

  /** `tick`, `lot`: decimals of price and quantity; `step`: ticks of one row. */
  configure(units) {
    this.units = units;
    this.clear();
  }

  clear() {
    this.held = { asks: new Map(), bids: new Map() };
    this.book = null;
    byId("book-empty").hidden = true;
    this.paint();
  }

  #fit() {
    const fits = Math.floor(byId("bids").clientHeight / 18);
    const count = matchMedia("(max-width: 699px)").matches ? MAX_ROWS : Math.max(1, Math.min(MAX_ROWS, fits));
    if (count === this.count) return;
    this.count = count;
    for (const side of ["asks", "bids"]) this.rows[side].forEach((row, index) => { row.hidden = index >= count; });
    this.paint();
  }

  paint() {
    if (this.book) byId("book-empty").hidden = true;
    if (!this.units) return;
    const view = this.book ? ladder(this.book, this.count, this.units) : { asks: [], bids: [], spread: null };
    for (const side of ["asks", "bids"]) this.#paintSide(side, view[side]);
    const words = view.spread === null ? "spread –"
      : `spread ${fromScaled(view.spread, this.units.tick)} · ${basisPoints(view.bps)} bps`;
    setText(byId("book-spread"), words);
  }

  /** Words where no book has come. */
  showEmpty() {
    byId("book-empty").hidden = Boolean(this.book);
  }

  #paintSide(side, levels) {
    const { tick, lot } = this.units;
    const before = this.held[side];
    const now = new Map();
    for (let index = 0; index < this.count; index += 1) {
      const row = this.rows[side][index];
      const level = levels[index];
      const [price, quantity, sum] = row.children;
      setText(price, level ? group(fromScaled(level.price, tick)) : "");
      setText(quantity, level ? group(fromScaled(level.quantity, lot)) : "");
      setText(sum, level ? group(fromScaled(level.sum, lot)) : "");
      row.style.setProperty("--share", level ? level.share.toFixed(4) : "0");
      if (!level) continue;
      now.set(level.price, level.quantity);
      const grew = before.size > 0 && level.quantity > (before.get(level.price) ?? level.quantity);
      if (grew) this.#flash(row);
    }
    this.held[side] = now;
  }

  #flash(row) {
    row.classList.remove("flash");
    requestAnimationFrame(() => row.classList.add("flash"));
  }

  showLast(price, change, decimals) {
    const element = byId("book-last");
    setText(element, `${arrow(change) ? `${arrow(change)} ` : ""}${figure(price, decimals)}`);
    setData(element, "direction", direction(change));
  }
}
