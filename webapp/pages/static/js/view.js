// One symbol on screen: its channels, its bars, and what is painted of them.

import { BarFeed } from "./bars.js";
import { byId, setText } from "./dom.js";
import { countdown, decimalsOf } from "./format.js";
import { frame } from "./frame.js";
import { hopsOf } from "./latency.js";
import { LedgerPanel } from "./ledger-panel.js";

const BOOK_PAINT_EVERY_MS = 120;
/** An empty book says what would be here once it has had time to come. */
const EMPTY_AFTER_MS = 2_000;

export class View {
  constructor({ config, live, chart, panels, latency, formats }) {
    Object.assign(this, { config, live, chart, panels, latency, formats });
    this.channels = [];
    this.ledger = new LedgerPanel({ api: config.api, chart, now: () => this.now() });
    this.hovered = null;
    this.newsAt = null;
    this.outage = null;
    this.dirty = false;
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#resume(); });
  }

  /** Another symbol: everything of the old one leaves the screen. `row` carries its assets and steps. */
  openSymbol(row, interval) {
    this.#leave();
    this.symbol = row.symbol;
    this.row = row;
    this.decimals = decimalsOf(row.tick);
    const lot = decimalsOf(row.lot);
    const { header, book, tape } = this.panels;
    header.configure({ symbol: row.symbol, base: row.base ?? row.symbol, quote: row.quote, priceDecimals: this.decimals });
    book.configure({ tick: this.decimals, lot, step: this.grouping ?? 1 });
    tape.clear();
    tape.configure({ priceDecimals: this.decimals, quantityDecimals: lot, formats: this.formats });
    Object.assign(this, { newsAt: null, outage: null, price: null, openedSymbolAt: performance.now() });
    this.ledger.openSymbol();
    this.#listen(`trade:${row.symbol}`, (message, at) => this.#trades(message, at));
    this.#listen(`book:${row.symbol}`, (message) => this.#book(message));
    this.#listen(`ticker:${row.symbol}`, (message) => this.#ticker(message));
    this.#listen(`feed:${row.symbol}`, (message) => this.#feedNews(message));
    this.openInterval(interval);
  }

  /** Another interval of the same symbol: only the bars change. */
  openInterval(interval) {
    this.feed?.stop();
    this.interval = interval;
    if (this.pulse) this.live.unsubscribe(this.pulse);
    this.pulse = interval === "1s" ? null : `kline:${this.symbol}:1s`;
    this.hovered = null;
    this.chart.clear();
    this.openedAt = performance.now();
    byId("skeleton").hidden = false;
    this.feed = new BarFeed({
      symbol: this.symbol, interval, live: this.live, klinesPath: this.config.api.klines,
      listener: {
        changed: (change, feed, message, at) => this.#bars(change, feed, message, at),
        failed: (error) => this.#notice("The stored candles could not be read", `${error.message}. Live candles are drawn as they come.`),
        retrying: () => this.#notice("Reading the stored candles again", "The server did not answer at once."),
      },
    });
    this.chart.configure({ decimals: this.decimals, stepMs: this.feed.stepMs, formats: this.formats });
    this.feed.start().then(() => this.#landed());
    if (this.pulse) this.live.subscribe(this.pulse, (message, at) => this.#second(message, at));
    this.ledger.open(this.symbol, this.feed, this.formats);
  }

  setFormats(formats) {
    this.formats = formats;
    this.chart.configure({ decimals: this.decimals, stepMs: this.feed.stepMs, formats });
    this.panels.tape.configure({ formats });
    this.ledger.setFormats(formats);
  }

  setGrouping(step) {
    this.grouping = step;
    if (this.panels.book.units) this.panels.book.units.step = step;
    this.panels.book.held = { asks: new Map(), bids: new Map() };
    this.panels.book.paint();
  }

  /** The pointer is on a bar (open time in ms, `point` within the chart) or has left (null). */
  hover(openTimeMs, point = null) {
    this.hovered = openTimeMs;
    this.ledger.hover(openTimeMs, point);
    frame.paint("legend", () => this.paintLegend());
  }

  paintLegend() {
    if (!this.feed) return;
    const { series } = this.feed;
    this.panels.legend.show(this.hovered === null ? series.newest : series.at(this.hovered), this.decimals);
    this.ledger.paint();
  }

  /** Brings a gap into view and tells of it, for those without a pointer. */
  showGap(gap) {
    const shown = this.chart.show(gap.from);
    if (shown) this.hover(shown.time, shown.point);
  }

  /** Each second: what only the clock changes. */
  tick() {
    const stepMs = this.feed?.stepMs;
    if (!stepMs) return;
    const now = this.now();
    setText(byId("closes-in"), stepMs >= 60_000 ? `closes in ${countdown(stepMs - (now % stepMs))}` : "");
    if (performance.now() - this.openedSymbolAt > EMPTY_AFTER_MS) this.panels.book.showEmpty();
    this.ledger.tick();
  }

  /** The server's time now (ms UTC). */
  now() {
    return this.live.clock() + this.live.offset.ms;
  }

  #listen(channel, handler) {
    this.channels.push(channel);
    this.live.subscribe(channel, (message, at) => {
      if (message.kind === "update") this.newsAt = this.live.clock();
      handler(message, at);
    });
  }

  #leave() {
    this.feed?.stop();
    if (this.pulse) this.live.unsubscribe(this.pulse);
    this.pulse = null;
    for (const channel of this.channels) this.live.unsubscribe(channel);
    this.channels = [];
  }

  #bars(change, feed, message, arrivedAt) {
    if (feed !== this.feed) return;
    if (message?.kind === "update") this.newsAt = arrivedAt;
    if (document.hidden) {
      this.dirty = true;
      return;
    }
    if (change.kind === "set") this.chart.set(feed.series, this.shown === feed.series);
    else this.chart.update(change.points);
    this.shown = feed.series;
    if (feed.series.size) {
      byId("skeleton").hidden = true;
      byId("notice").hidden = true;
    }
    if (!this.price && feed.series.newest) this.#price(feed.series.newest.close);
    if (change.hole || isNewsForLedger(message, feed.series)) this.ledger.hint(true);
    frame.paint("legend", () => this.paintLegend());
    if (this.interval === "1s") this.#measure(message, arrivedAt);
  }

  #landed() {
    if (!performance.getEntriesByName("candlewire:first-chart").length && this.feed.series.size) {
      frame.painted(() => performance.mark("candlewire:first-chart"));
    }
    if (this.feed.series.joined) {
      frame.painted(() => { this.switchMs = performance.now() - this.openedAt; });
      byId("skeleton").hidden = true;
      if (!this.feed.series.size) {
        this.#notice("No candles of this interval yet", "They appear here as the first ones close, and with the history that is being fetched.");
      }
    }
    this.ledger.hint(true);
  }

  #feedNews(message) {
    this.outage = message.data?.to_time_ms === null ? message.data : null;
    if (message.kind !== "reset") this.ledger.onOutage(message.data);
  }

  #second(message, arrivedAt) {
    if (message.kind === "update") this.newsAt = arrivedAt;
    this.#measure(message, arrivedAt);
  }

  #trades(message, arrivedAt) {
    if (message.kind === "reset") return;
    const trades = message.kind === "snapshot" ? message.data.trades : [message.data];
    if (!trades.length) return;
    this.panels.tape.add(trades);
    this.price = this.panels.tape.trades[0].price;
    frame.paint("tape", () => this.panels.tape.paint());
    frame.paint("price", () => this.#price(this.price));
    this.#measure(message, arrivedAt);
  }

  #price(text) {
    const way = this.panels.header.showPrice(text);
    this.panels.book.showLast(text, way, this.decimals);
    if (this.feed?.series.size) this.chart.setLastPrice(Number(text));
  }

  #book(message) {
    if (message.kind === "reset" || !message.data?.bids) return;
    this.panels.book.book = message.data;
    if (this.bookTimer) return;
    const wait = Math.max(0, BOOK_PAINT_EVERY_MS - (performance.now() - (this.bookPaintedAt ?? 0)));
    this.bookTimer = setTimeout(() => {
      this.bookTimer = null;
      frame.paint("book", () => {
        this.bookPaintedAt = performance.now();
        this.panels.book.paint();
      });
    }, wait);
  }

  #ticker(message) {
    if (message.kind === "reset" || !message.data?.close) return;
    frame.paint("day", () => this.panels.header.showDay(message.data));
  }

  #measure(message, arrivedAt) {
    if (message?.kind !== "update") return;
    const offset = this.live.offset.ms;
    frame.painted((paintedAt) => this.latency.add(hopsOf(message.t, arrivedAt, paintedAt, offset), paintedAt));
  }

  #notice(title, words) {
    if (this.feed.series.size) return;
    const notice = byId("notice");
    notice.replaceChildren(Object.assign(document.createElement("strong"), { textContent: title }), words);
    notice.hidden = false;
  }

  /** Back from a hidden tab or a long sleep: one clean paint, and a look whether the line still stands. */
  #resume() {
    this.live.check();
    if (this.dirty && this.feed) this.chart.set(this.feed.series, true);
    this.dirty = false;
    this.ledger.hint(true);
  }
}

/** A bar that was revised, or closed with seconds missing, has an entry in the ledger. */
function isNewsForLedger(message, series) {
  if (message?.kind !== "update") return false;
  const bar = message.data;
  return bar.is_closed && (bar.revision > 0 || bar.is_complete === false) && bar.open_time_ms <= series.last;
}
