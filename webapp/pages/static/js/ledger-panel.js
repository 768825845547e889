// The ledger on the page: the line under the chart, the card at the pointer, the sheet with all gaps, the chart's strip.

import { byId, make, setData, setText } from "./dom.js";
import { GapCard, cardLines } from "./gap-card.js";
import { LedgerFeed, behind, lacking } from "./ledger-feed.js";
import { STATES, barWords, completeSince, gapOfOutage, gapWords, gapsIn, gapsWords, slotState, spanWords } from "./ledger.js";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const HOUR_MS = 3_600_000;
const MAX_LISTED = 200;
const MAX_REFRESHED = 20;
const NO_COUNTS = new Map();
/** Rows of the ledger are of this stream's seconds. */
const LEDGER_STREAM = "kline_1s";

export class LedgerPanel {
  /** `api`: addresses; `now()`: server time (ms UTC). */
  constructor({ api, chart, now }) {
    Object.assign(this, { api, chart, now });
    this.card = new GapCard();
    this.hovered = null;
    this.point = null;
    this.outage = null;
    chart.strip.now = now;
    byId("ledger-legend").append(...legend());
    byId("ledger-key").append(...legend());
  }

  /** Another symbol: nothing is known of its feed yet. */
  openSymbol() {
    this.outage = null;
  }

  /** The bars `feed` of `symbol` come on screen. */
  open(symbol, feed, formats) {
    this.ledger?.stop();
    this.bars = feed;
    this.formats = formats;
    this.asked = new Map();
    this.hover(null);
    this.ledger = new LedgerFeed({
      api: this.api, symbol, stepMs: feed.stepMs, first: () => feed.series.first, now: this.now,
      changed: (stale) => this.#changed(feed, stale),
    });
    this.#draw();
    this.ledger.hint();
  }

  setFormats(formats) {
    this.formats = formats;
    this.paint();
  }

  hint(rows) {
    this.ledger?.hint(rows);
  }

  /** The producer's word that its feed is out, or in again. */
  onOutage(record) {
    if (record?.stream !== LEDGER_STREAM) return;
    const ended = record.to_time_ms !== null;
    // What has ended stays on screen until the ledger was read again, which has it as a gap or knows better.
    if (!ended || this.outage) this.outage = { ...record, ended };
    this.#draw();
    this.hint(true);
  }

  /** Each second: what grows with the clock. */
  tick() {
    if (this.outage && !this.outage.ended) this.#draw();
    this.#since();
  }

  /** The pointer is on a slot (open time in ms, `point` in the chart) or has left (null). */
  hover(openTimeMs, point = null) {
    this.hovered = openTimeMs;
    this.point = point;
  }

  get gaps() {
    const known = this.ledger?.gaps ?? [];
    if (!this.outage) return known;
    const lasting = gapOfOutage(this.outage, this.outage.to_time_ms ?? this.now());
    return [...known, lasting].sort((left, right) => left.from - right.from);
  }

  /** The bar's seconds that came later, where the API counts them. */
  counts(openTimeMs) {
    return this.bars.stepMs === SECOND_MS ? null : this.ledger.rows.get(openTimeMs) ?? null;
  }

  paint() {
    if (!this.bars || !this.formats) return;
    const { series, stepMs } = this.bars;
    const slot = this.hovered;
    const touching = slot === null ? [] : gapsIn(this.gaps, slot, slot + stepMs);
    const bar = slot === null ? lastClosed(series) : series.at(slot);
    this.#since();
    const spoken = touching.at(-1);
    setText(byId("ledger-words"), spoken ? `${spanWords(spoken, this.formats, this.now())} · ${gapWords(spoken)}` : "");
    byId("ledger-legend").hidden = Boolean(spoken);
    const words = stepMs === SECOND_MS ? minuteWords(series, bar?.open_time_ms ?? slot) : barWords(bar, touching, this.counts(bar?.open_time_ms ?? slot));
    setText(byId("ledger-count"), series.size ? words : "–");
    this.#card(slot, slot === null ? null : series.at(slot), touching);
  }

  #card(slot, bar, gaps) {
    if (slot === null) {
      this.card.show("", [], null);
      return;
    }
    const counts = this.counts(slot);
    const state = slotState(bar, gaps, counts);
    const lines = cardLines({ state, gaps, bar, counts, formats: this.formats, now: this.now() });
    this.card.show(state, lines, this.point);
  }

  #since() {
    if (!this.bars || !this.formats) return;
    const { formats, ledger, outage } = this;
    const now = this.now();
    const since = ledger.completeSince ?? (ledger.readAt === null ? null : completeSince(this.bars.series, ledger.gaps, this.bars.stepMs));
    // To the second while it is fresh news, to the minute later.
    const start = since === null ? "–" : now - since < HOUR_MS ? formats.seconds(since) : formats.moment(since, now);
    const isOver = outage && since !== null && since <= outage.from_time_ms;
    let words = isOver ? `Complete ${start} to ${formats.seconds(outage.from_time_ms)}` : `Complete since ${start}`;
    if (ledger.readAt !== null && ledger.isOld) words = `Ledger not read since ${formats.seconds(ledger.readAt)}`;
    setText(byId("ledger-since"), words);
    const { gaps } = this;
    setText(byId("ledger-button"), ledger.readAt === null && !gaps.length ? "gaps –" : gapsWords(gaps));
    setData(byId("ledger-button"), "state", gaps.some((gap) => gap.state === "open" || gap.state === "unrepairable") ? "open" : "calm");
  }

  #changed(feed, stale) {
    if (feed !== this.bars) return;
    if (this.outage?.ended) this.outage = null;
    this.#draw();
    const { stepMs, series } = feed;
    const late = stepMs === SECOND_MS
      ? [...stale, ...lacking(series, this.ledger.gaps)]
      : behind(series, this.ledger.rows).map((open) => ({ from: open, to: open + stepMs }));
    for (const { from, to } of joined(late)) this.#refresh(feed, from, to);
    this.paint();
    if (byId("ledger-dialog").open) this.list();
  }

  /** Read bars again; the same range but a few times, so that a bar the API does not give is not asked for ever. */
  #refresh(feed, from, to) {
    const key = `${from}:${to}`;
    const tries = this.asked.get(key) ?? 0;
    if (tries >= MAX_REFRESHED) return;
    this.asked.set(key, tries + 1);
    feed.refresh(from, to);
  }

  #draw() {
    this.chart.strip.setLedger(this.gaps, this.bars?.stepMs === SECOND_MS ? NO_COUNTS : this.ledger?.rows ?? NO_COUNTS);
  }

  /** Fills the sheet: each gap of what is loaded, newest first; a press shows it on the chart. */
  list(goTo = this.goTo) {
    this.goTo = goTo;
    const gaps = this.gaps.slice(-MAX_LISTED).reverse();
    setText(byId("ledger-sheet-since"), byId("ledger-since").textContent);
    const rows = gaps.map((gap) => {
      const button = make("button", { type: "button", className: "gap-row" },
        make("span", {}, spanWords(gap, this.formats, this.now())), make("b", {}, gapWords(gap)));
      button.dataset.state = gap.state;
      button.addEventListener("click", () => goTo(gap));
      return make("li", {}, button);
    });
    byId("ledger-list").replaceChildren(...(rows.length ? rows : [make("li", { className: "empty" }, "No gap in the bars that are loaded.")]));
  }
}

function legend() {
  return Object.entries(STATES).map(([state, words]) => {
    const entry = make("span", {}, make("i", {}), words);
    entry.dataset.mark = state;
    return entry;
  });
}

/** Neighbouring ranges as one. */
export function joined(ranges) {
  const sorted = [...ranges].sort((left, right) => left.from - right.from);
  const whole = [];
  for (const range of sorted) {
    const last = whole.at(-1);
    if (last && range.from <= last.to) last.to = Math.max(last.to, range.to);
    else whole.push({ ...range });
  }
  return whole;
}

/** Of single seconds, how many of their minute are stored: the minute before where this one still runs. */
function minuteWords(series, time) {
  if (time === null) return "–";
  let minute = time - (time % MINUTE_MS);
  if (minute + MINUTE_MS > series.last && minute - MINUTE_MS >= series.first) minute -= MINUTE_MS;
  let stored = 0;
  for (let second = minute; second < minute + MINUTE_MS; second += SECOND_MS) if (series.at(second)) stored += 1;
  return `${stored} / 60 s`;
}

function lastClosed(series) {
  for (let time = series.last, tries = 0; time !== null && tries < 5; time -= series.stepMs, tries += 1) {
    const bar = series.at(time);
    if (bar && bar.is_closed !== false) return bar;
  }
  return series.newest;
}
