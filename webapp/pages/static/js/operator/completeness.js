// The account of every hour as a strip: a row for each symbol, a mark for each hour. A press shows the hour's gaps.

import { byId, make, setText } from "../dom.js";
import { gapWords, readGap, spanWords } from "../ledger.js";
import { colours } from "../theme.js";
import { readJson } from "./poll.js";
import { completeShare, count } from "./words.js";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const ROW_PX = 16;
const MARK_PX = 11;
const AXIS_PX = 18;
/** What is on screen is read whole when an hour has passed (a month once one asks for it); the running hours, this often. */
const MONTH_MS = 30 * DAY_MS;
const RUNNING_EVERY_MS = 60_000;
/** Narrower than this a mark has no hairline between itself and its neighbour. */
const SPACED_PX = 4;

/** What an hour of the account is: gap, absent, repaired, exchange (never on the stream), complete, or none (nothing expected). */
export function hourState(hour) {
  if (!hour || !hour.expected) return "none";
  if (hour.open > 0) return "gap";
  if (hour.absent > 0) return "absent";
  const later = (hour.rest ?? 0) + (hour.trades ?? 0);
  if (later > 0) return hour.stream ? "repaired" : "exchange";
  return "complete";
}

const WORST = ["gap", "absent", "repaired", "exchange", "complete", "none"];

/** Of several hours under one mark the worst is shown. */
export function worst(hours) {
  const states = hours.map(hourState);
  return WORST.find((state) => states.includes(state)) ?? "none";
}

/** "3 600 of 3 600 s" with what came later and what is missing. */
export function hourWords(hour) {
  if (!hour || !hour.expected) return "nothing expected";
  const here = hour.expected - hour.open - hour.absent;
  const later = (hour.rest ?? 0) + (hour.trades ?? 0);
  const words = [`${count(here)} of ${count(hour.expected)} s`];
  if (hour.open > 0) words.push(`${count(hour.open)} s missing`);
  if (hour.absent > 0) words.push(`${count(hour.absent)} s the exchange does not have`);
  if (later > 0) words.push(`${count(later)} s came from the exchange's REST or trades`);
  return words.join(", ");
}

export class CompletenessStrip {
  /** `now()`: server time; `repair(gap)`, `reopen(gap)`: offers of the dialog of an hour. */
  constructor({ api, formats, now, repair, reopen }) {
    Object.assign(this, { api, formats, now, repair, reopen, hours: new Map(), symbols: [], spanMs: DAY_MS, at: null, readHour: null, readMs: 0, readAt: -Infinity, turn: 0 });
    this.canvas = byId("strip-canvas");
    byId("strip-spans").addEventListener("click", (event) => {
      const span = event.target.closest("button")?.dataset.span;
      if (!span) return;
      this.spanMs = Number(span);
      for (const button of byId("strip-spans").children) button.setAttribute("aria-pressed", String(button.dataset.span === span));
      this.paint();
      this.refresh();
    });
    this.canvas.addEventListener("pointermove", (event) => this.#point(this.#under(event)));
    this.canvas.addEventListener("pointerleave", () => this.#point(null));
    this.canvas.addEventListener("click", (event) => { this.#point(this.#under(event)); this.#open(); });
    this.canvas.addEventListener("keydown", (event) => this.#key(event));
    this.canvas.addEventListener("focus", () => this.#point(this.at ?? { row: 0, hour: this.#lastHour() }));
    new ResizeObserver(() => this.paint()).observe(byId("strip"));
  }

  /** Asks when something can have changed: all that is on screen once an hour, the running hours each minute. */
  async refresh() {
    const hour = this.#lastHour();
    const wantedMs = this.spanMs > DAY_MS ? MONTH_MS : Math.max(DAY_MS, this.readMs);
    const isWhole = this.readHour !== hour || this.readMs < wantedMs;
    if (document.hidden || (!isWhole && performance.now() - this.readAt < RUNNING_EVERY_MS)) return;
    this.readAt = performance.now();
    const turn = this.turn += 1;
    const from = isWhole ? hour - wantedMs + HOUR_MS : hour - HOUR_MS;
    try {
      const { hours } = await readJson(`${this.api.completeness}?${new URLSearchParams({ from: String(from), to: String(hour + HOUR_MS) })}`);
      if (turn !== this.turn) return;
      if (isWhole) this.hours.clear();
      for (const row of hours) this.hours.set(`${row.symbol} ${row.hour}`, row);
      this.symbols = [...new Set([...this.hours.values()].map((row) => row.symbol))].sort();
      Object.assign(this, { readHour: hour, readMs: Math.max(wantedMs, this.readMs) });
      setText(byId("strip-note"), this.symbols.length ? "" : "No hour has been counted yet. The first appears some seconds after the first stored rows.");
    } catch (error) {
      if (turn !== this.turn) return;
      this.readHour = null;
      setText(byId("strip-note"), this.symbols.length ? `Not read again: ${error.message}.` : `N/A: ${error.message}.`);
    }
    byId("strip-note").hidden = !byId("strip-note").textContent;
    this.paint();
  }

  /** Ask anew at the next turn, whatever the hour. */
  forget() {
    this.readHour = null;
  }

  #lastHour() {
    const now = this.now();
    return now - (now % HOUR_MS);
  }

  /** Hours on screen, the last one running. */
  #columns() {
    return this.spanMs / HOUR_MS;
  }

  #firstHour() {
    return this.#lastHour() - this.spanMs + HOUR_MS;
  }

  paint() {
    const names = byId("strip-symbols");
    if (this.drawnSymbols !== this.symbols.join()) {
      this.drawnSymbols = this.symbols.join();
      names.replaceChildren(...this.symbols.map((symbol) => make("li", {}, symbol)));
      byId("strip").hidden = !this.symbols.length;
    }
    setText(byId("strip-share"), this.#shareWords());
    const width = Math.floor(byId("strip-stage").clientWidth);
    if (!this.symbols.length || width < 40) return;
    const height = this.symbols.length * ROW_PX + AXIS_PX;
    const ratio = devicePixelRatio || 1;
    if (this.canvas.width !== Math.round(width * ratio) || this.canvas.height !== Math.round(height * ratio)) {
      this.canvas.width = Math.round(width * ratio);
      this.canvas.height = Math.round(height * ratio);
      this.canvas.style.height = `${height}px`;
    }
    const context = this.canvas.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    this.width = width;
    this.#marks(context);
    this.#axis(context);
    this.#cursor(context);
  }

  #marks(context) {
    const { up, down, accent, line, faint } = colours();
    const paints = { gap: [down, 1], absent: [faint, 1], repaired: [accent, 0.9], exchange: [up, 0.2], complete: [up, 0.42], none: [line, 0.6] };
    const columns = this.#columns();
    const step = this.width / columns;
    const first = this.#firstHour();
    // Where hours are narrower than a pixel, several share a mark.
    const perMark = Math.max(1, Math.ceil(1.5 / step));
    const gap = step * perMark >= SPACED_PX ? 1 : 0;
    this.symbols.forEach((symbol, row) => {
      for (let column = 0; column < columns; column += perMark) {
        const hours = [];
        for (let extra = 0; extra < perMark; extra += 1) hours.push(this.hours.get(`${symbol} ${first + (column + extra) * HOUR_MS}`));
        const [fill, alpha] = paints[worst(hours)];
        context.globalAlpha = alpha;
        context.fillStyle = fill;
        const left = column * step;
        context.fillRect(left, row * ROW_PX + (ROW_PX - MARK_PX) / 2, Math.min(perMark * step, this.width - left) - gap, MARK_PX);
      }
    });
    context.globalAlpha = 1;
  }

  #axis(context) {
    const { muted } = colours();
    context.fillStyle = muted;
    context.font = "11px 'Inter Variable', system-ui, sans-serif";
    context.textBaseline = "bottom";
    const step = this.width / this.#columns();
    const first = this.#firstHour();
    const byDay = this.spanMs > DAY_MS;
    const every = byDay ? Math.ceil(96 / (24 * step)) * 24 : Math.ceil(56 / step);
    for (let column = 0; column < this.#columns(); column += 1) {
      const time = first + column * HOUR_MS;
      const number = Math.floor(time / HOUR_MS);
      if (number % every) continue;
      const words = byDay ? this.formats.day(time) : this.formats.minutes(time);
      if (column * step + context.measureText(words).width <= this.width) context.fillText(words, column * step, this.symbols.length * ROW_PX + AXIS_PX);
    }
  }

  #cursor(context) {
    if (!this.at) return;
    const step = this.width / this.#columns();
    const column = (this.at.hour - this.#firstHour()) / HOUR_MS;
    if (column < 0 || column >= this.#columns()) return;
    context.strokeStyle = colours().text;
    context.lineWidth = 1.5;
    context.strokeRect(column * step - 0.75, this.at.row * ROW_PX + 0.75, Math.max(3, step), ROW_PX - 1.5);
  }

  #shareWords() {
    const first = this.#firstHour();
    let expected = 0;
    let missing = 0;
    for (const row of this.hours.values()) {
      if (row.hour < first) continue;
      expected += row.expected;
      missing += row.open;
    }
    return expected ? `${completeShare(expected, missing)} complete, ${count(missing)} s missing` : "N/A";
  }

  #under(event) {
    const box = this.canvas.getBoundingClientRect();
    const row = Math.floor((event.clientY - box.top) / ROW_PX);
    const column = Math.floor(((event.clientX - box.left) / box.width) * this.#columns());
    if (row < 0 || row >= this.symbols.length || column < 0 || column >= this.#columns()) return null;
    return { row, hour: this.#firstHour() + column * HOUR_MS };
  }

  #point(at) {
    this.at = at;
    const symbol = at && this.symbols[at.row];
    const words = symbol ? `${symbol}, ${this.formats.day(at.hour)} ${this.formats.minutes(at.hour)}: ${hourWords(this.hours.get(`${symbol} ${at.hour}`))}` : "";
    setText(byId("strip-words"), words);
    byId("strip-legend").hidden = Boolean(words);
    this.paint();
  }

  #key(event) {
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (event.key === "Enter" || event.key === " ") this.#open();
    else if (moves[event.key]) {
      const [down, right] = moves[event.key];
      const { row, hour } = this.at ?? { row: 0, hour: this.#lastHour() };
      this.#point({
        row: Math.max(0, Math.min(this.symbols.length - 1, row + down)),
        hour: Math.max(this.#firstHour(), Math.min(this.#lastHour(), hour + right * HOUR_MS)),
      });
    } else return;
    event.preventDefault();
  }

  /** The hour's gaps, and the way to repair it. */
  async #open() {
    const symbol = this.at && this.symbols[this.at.row];
    if (!symbol) return;
    const { hour } = this.at;
    const list = byId("hour-gaps");
    setText(byId("hour-title"), `${symbol}, ${this.formats.day(hour)} ${this.formats.minutes(hour)}`);
    setText(byId("hour-words"), hourWords(this.hours.get(`${symbol} ${hour}`)));
    list.replaceChildren(make("li", { className: "empty" }, "The gaps are being read."));
    byId("hour-repair").onclick = () => this.repair({ symbol, from: hour, to: Math.min(hour + HOUR_MS, Math.floor(this.now())) });
    byId("hour-dialog").showModal();
    try {
      const { gaps } = await readJson(`${this.api.gaps}?${new URLSearchParams({ symbol, from: String(hour), to: String(hour + HOUR_MS) })}`);
      const rows = gaps.map(readGap).filter(Boolean).reverse().map((gap) => this.#gapRow(symbol, gap));
      list.replaceChildren(...(rows.length ? rows : [make("li", { className: "empty" }, "No gap is listed in this hour.")]));
    } catch (error) {
      list.replaceChildren(make("li", { className: "empty" }, `The gaps could not be read: ${error.message}.`));
    }
  }

  #gapRow(symbol, gap) {
    const item = make("li", {}, make("b", {}, gapWords(gap)), make("span", {}, spanWords(gap, this.formats, this.now())));
    item.dataset.state = gap.state;
    if (gap.lastError && gap.state !== "repaired") item.append(make("span", {}, `last try: ${gap.lastError.slice(0, 140)}`));
    if (gap.state === "unrepairable") {
      const button = make("button", { type: "button", className: "quiet" }, "Open again");
      button.addEventListener("click", () => this.reopen(gap));
      item.append(button);
    } else if (gap.state === "open") {
      const button = make("button", { type: "button", className: "quiet" }, "Repair this gap");
      button.addEventListener("click", () => this.repair({ symbol, from: gap.from, to: gap.to }));
      item.append(button);
    }
    return item;
  }
}
