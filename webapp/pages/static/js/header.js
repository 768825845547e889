// The header: last price with its direction, the day's figures, the document's title.

import { byId, setData, setText } from "./dom.js";
import { changePercent, changeWords, compact, direction, figure } from "./format.js";

export class Header {
  configure({ symbol, base, quote, priceDecimals }) {
    Object.assign(this, { symbol, base, priceDecimals, price: null, way: 0 });
    setText(byId("symbol-base"), base);
    setText(byId("symbol-quote"), quote ? `/ ${quote}` : "");
    setText(byId("book-unit"), base);
    for (const id of ["price", "day-change", "day-high", "day-low", "day-volume"]) setText(byId(id), "–");
    setData(byId("price"), "direction", "flat");
  }

  /** The last price as text; its direction is that of the last change. Returns the direction as -1, 0 or 1. */
  showPrice(text) {
    const moved = this.price === null ? 0 : Math.sign(Number(text) - Number(this.price));
    if (moved) this.way = moved;
    this.price = text;
    const words = figure(text, this.priceDecimals);
    setText(byId("price"), words);
    setData(byId("price"), "direction", direction(this.way));
    document.title = `${words} ${this.symbol} · Candlewire`;
    return this.way;
  }

  showDay(ticker) {
    const change = changePercent(ticker.open, ticker.close);
    setText(byId("day-change"), changeWords(change));
    setData(byId("day-change"), "direction", direction(change));
    setText(byId("day-high"), figure(ticker.high, this.priceDecimals));
    setText(byId("day-low"), figure(ticker.low, this.priceDecimals));
    setText(byId("day-volume"), `${compact(ticker.base_volume)} ${this.base}`);
  }
}
