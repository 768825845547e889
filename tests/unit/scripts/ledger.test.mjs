import assert from "node:assert/strict";
import { test } from "node:test";

import { cardLines } from "../../../webapp/pages/static/js/gap-card.js";
import { BarSeries } from "../../../webapp/pages/static/js/join.js";
import { LedgerFeed, behind, lacking, revised, signature } from "../../../webapp/pages/static/js/ledger-feed.js";
import { joined } from "../../../webapp/pages/static/js/ledger-panel.js";
import {
  barWords, completeSince, gapOfOutage, gapWords, gapsWords, lengthWords, readGap, slotState, spanWords,
} from "../../../webapp/pages/static/js/ledger.js";
import { LedgerStrip } from "../../../webapp/pages/static/js/strip.js";
import { zoneFormats } from "../../../webapp/pages/static/js/timezone.js";
import { seeded } from "./random.mjs";

const THIN = "\u202f";
const formats = zoneFormats("UTC");
const row = { id: 1, from_time_ms: 0, to_time_ms: 12_000, cause: "disconnect", state: "open", resolved_by: null };
const gap = readGap(row);
const own = { source: "seconds", is_closed: true, is_complete: true, row_count: 60, expected_count: 60, revision: 0 };
const incomplete = { ...own, is_complete: false, row_count: 48 };
const state = (...states) => states.map((name) => ({ ...gap, state: name }));

test("a gap in short and exact words", () => {
  assert.equal(gapWords(gap), `gap: disconnect, 12${THIN}s, repairing`);
  assert.equal(gapWords({ ...gap, attempts: 3 }), `gap: disconnect, 12${THIN}s, repairing, 3 tries`);
  assert.equal(gapWords({ ...gap, state: "repaired", resolvedBy: "rest" }), `gap: disconnect, 12${THIN}s, repaired from REST`);
  assert.equal(gapWords({ ...gap, state: "absent", cause: "log_expired" }), `gap: log expired, 12${THIN}s, exchange has no data`);
  assert.equal(gapWords({ ...gap, state: "unrepairable", cause: "unknown" }), `gap: unknown cause, 12${THIN}s, cannot be repaired`);
  assert.equal(readGap({ ...row, to_time_ms: 0 }), null);
  assert.equal(gapsWords([]), "no gaps");
  assert.equal(gapsWords(state("open")), "1 open gap");
  assert.equal(gapsWords(state("open", "absent", "unrepairable")), "3 gaps, 2 open");
  assert.equal(gapsWords(state("repaired", "absent")), "2 gaps, none open");
});

test("lengths and spans keep two units, and the day where it is another", () => {
  assert.deepEqual([999, 1_000, 72_000, 60_000, 12_000_000, 180_000_000].map(lengthWords), [
    "999 ms", `1${THIN}s`, `1${THIN}min 12${THIN}s`, `1${THIN}min`, `3${THIN}h 20${THIN}min`, `2${THIN}d 2${THIN}h`,
  ]);
  assert.equal(spanWords(gap, formats, 60_000), "00:00:00 to 00:00:12");
  assert.equal(spanWords(gap, formats, 86_400_000), "1 Jan 00:00:00 to 00:00:12");
  assert.equal(spanWords({ ...gap, to: 7_200_000 }, formats, 7_200_000), "00:00 to 02:00");
  const lasting = gapOfOutage({ from_time_ms: 5_000, cause: "silence" }, 9_000);
  assert.equal(spanWords(lasting, formats, 9_000), "00:00:05 to now");
  assert.equal(gapWords(lasting), `gap: silence, 4${THIN}s, feed is out`);
});

test("what is not known is neither calm nor a gap, and what the exchange lacks is neither", () => {
  assert.equal(slotState(own, []), "complete");
  assert.equal(slotState(null, []), "unknown");
  assert.equal(slotState(own, state("open")), "gap");
  assert.equal(slotState(null, state("unrepairable")), "gap");
  assert.equal(slotState(incomplete, state("absent")), "absent");
  assert.equal(slotState(null, state("absent", "open")), "gap");
  assert.equal(slotState(null, state("repaired")), "unknown", "said to be repaired, but not here yet");
  assert.equal(slotState(incomplete, state("repaired")), "gap");
  assert.equal(slotState(own, state("repaired")), "repaired");
  assert.equal(slotState({ ...own, revision: 1 }, [], { rest_count: 12 }), "repaired");
  assert.equal(slotState({ ...own, revision: 1 }, [], { rest_count: 0, trades_count: 0 }), "complete");
  assert.equal(slotState({ ...own, revision: 1 }, []), "complete");
  assert.equal(slotState({ ...own, source: "rest" }, []), "exchange");
  assert.equal(slotState({ ...own, is_closed: false, is_complete: false }, []), "forming");
  assert.equal(slotState(incomplete, []), "unknown", "missing seconds are no gap before the ledger says so");
  assert.equal(slotState({ ...incomplete, revision: -1 }, []), "unknown");
  assert.equal(slotState({ ...incomplete, is_closed: false, revision: -1 }, []), "forming");
});

test("a bar says how many seconds it has and where they came from", () => {
  assert.equal(barWords(own, []), "60 / 60 s");
  assert.equal(barWords({ ...own, revision: 2 }, [], { rest_count: 12, trades_count: 1 }), "60 / 60 s · 12 s from REST · 1 s from trades · revision 2");
  assert.match(barWords(null, []), /not known/);
});

test("the card tells of what needs words, with the last gaps first to hand", () => {
  const told = (name, gaps, bar = own) => cardLines({ state: name, gaps, bar, counts: { rest_count: 12 }, formats, now: 0 });
  assert.deepEqual(told("complete", []), []);
  assert.deepEqual(told("gap", [{ ...gap, detector: "feed", detectedAt: 17_000, lastError: "503" }]), [{
    words: `gap: disconnect, 12${THIN}s, repairing`,
    detail: ["00:00:00 to 00:00:12", "found by the feed's own watch at 00:00:17", "last try: 503"],
  }]);
  assert.equal(told("gap", state("open", "open", "open", "open", "open")).at(-1).words, "and 2 more in this bar");
  assert.deepEqual(told("unknown", [], incomplete)[0], { words: "seconds are missing, no gap is listed", detail: ["48 / 60 s · 12 s from REST"] });
  assert.match(told("repaired", [])[0].detail[0], /12 s from REST/);
  assert.match(told("unknown", [], null)[0].words, /not known/);
});

test("complete since the end of the last hole, absent seconds are none", () => {
  const series = new BarSeries(60_000);
  series.addHistory([0, 1, 2, 4, 5].map((slot) => ({ ...own, open_time_ms: slot * 60_000 })));
  assert.equal(completeSince(series, [], 60_000), 240_000);
  assert.equal(completeSince(series, [{ ...gap, from: 290_000, to: 301_000 }], 60_000), 301_000);
  assert.equal(completeSince(series, [{ ...gap, from: 180_000, to: 240_000, state: "absent" }], 60_000), 0);
  assert.equal(completeSince(new BarSeries(1_000), [], 1_000), null);
});

test("only what has changed is read again", () => {
  const before = state("open", "repaired").map((one, id) => ({ ...one, id }));
  assert.notEqual(signature(before), signature(state("repaired", "repaired").map((one, id) => ({ ...one, id }))));
  assert.equal(signature(before), signature(structuredClone(before)));
  const minute = (slot, more = {}) => ({ open_time_ms: slot * 60_000, state: "complete", revision: 0, row_count: 60, ...more });
  const held = new Map([0, 1, 2].map((slot) => [slot * 60_000, minute(slot, slot === 2 ? { state: "forming", row_count: 9 } : {})]));
  assert.deepEqual(revised(held, [minute(0), minute(1, { revision: 1 }), minute(2), minute(3)]), [60_000]);
  const series = new BarSeries(60_000);
  series.addHistory([{ ...own, open_time_ms: 0 }, { ...incomplete, open_time_ms: 60_000 }, { ...own, open_time_ms: 180_000 }]);
  const rows = [minute(-1), minute(0), minute(1), minute(2), minute(3, { state: "forming", revision: 5 }), minute(4, { row_count: 0, state: "gap" })];
  assert.deepEqual(behind(series, new Map(rows.map((one) => [one.open_time_ms, one]))), [60_000, 120_000]);
  const seconds = new BarSeries(1_000);
  seconds.addHistory([5, 6, 9, 10].map((slot) => ({ ...own, open_time_ms: slot * 1_000 })));
  const span = (from, to, name) => ({ ...gap, from: from * 1_000, to: to * 1_000, state: name });
  const found = lacking(seconds, [span(0, 6, "repaired"), span(6, 8, "repaired"), span(7, 9, "open"), span(7, 9, "absent"), span(10, 60, "repaired")]);
  assert.deepEqual(found, [{ from: 6_000, to: 8_000 }]);
  assert.deepEqual(joined([{ from: 5, to: 6 }, { from: 0, to: 2 }, { from: 2, to: 4 }]), [{ from: 0, to: 4 }, { from: 5, to: 6 }]);
});

/** A LedgerFeed whose server answers from `served`. */
function feedOf(served) {
  globalThis.document = { hidden: false };
  globalThis.fetch = async (url) => {
    served.asked.push(url);
    if (served.broken) return { ok: false, status: 400, json: async () => ({ detail: "no" }) };
    const body = url.startsWith("/gaps") ? { gaps: served.gaps } : { columns: ["open_time_ms", "state", "revision", "row_count"], rows: served.rows, complete_since_ms: 7 };
    return { ok: true, json: async () => structuredClone(body) };
  };
  const heard = [];
  const feed = new LedgerFeed({
    api: { gaps: "/gaps", minutes: "/minutes" }, symbol: "X", stepMs: 60_000, first: () => 0, now: () => 600_000,
    changed: (stale) => heard.push(stale),
  });
  return { feed, heard };
}

test("the ledger feed asks for the bars only when the gaps have changed, and keeps what it knew when the server is away", async () => {
  const served = { asked: [], gaps: [row], rows: [[0, "gap", 0, 48]] };
  const { feed, heard } = feedOf(served);
  await feed.look();
  assert.deepEqual(heard, [[]]);
  assert.equal(feed.completeSince, 7);
  await feed.look();
  assert.equal(served.asked.filter((url) => url.startsWith("/minutes")).length, 1);
  served.gaps = [{ ...row, state: "repaired", resolved_by: "rest" }];
  served.rows = [[0, "repaired", 1, 60]];
  await feed.look();
  assert.deepEqual(heard.slice(1), [[], [{ from: 0, to: 60_000 }]]);
  served.broken = true;
  await feed.look();
  assert.equal(heard.length, 3);
  assert.equal(feed.gaps[0].state, "repaired");
  assert.equal(feed.isOld, false);
  feed.now = () => 700_000;
  assert.equal(feed.isOld, true);
  feed.stop();
});

/** What the strip draws for `points`, as the state of each slot. */
function drawn(series, points, gaps, now, to) {
  const strip = new LedgerStrip();
  const context = { fillRect() {}, beginPath() {}, moveTo() {}, lineTo() {}, fill() {}, save() {}, restore() {}, rect() {}, clip() {}, stroke() {} };
  const scale = { getVisibleLogicalRange: () => ({ from: 0, to }), options: () => ({ barSpacing: 6 }), logicalToCoordinate: (index) => index * 6 };
  strip.attached({ chart: { timeScale: () => scale }, series: { priceToCoordinate: () => 10 }, requestUpdate() {} });
  strip.now = () => now;
  strip.setColours({ up: "#000000", down: "#000000", accent: "#000000", muted: "#000000", faint: "#000000" });
  strip.setSeries(series, points, 60_000);
  strip.setLedger(gaps, new Map());
  const states = [];
  const stateAt = strip.stateAt.bind(strip);
  strip.stateAt = (time, touching) => {
    states.push([time / 60_000, stateAt(time, touching)]);
    return states.at(-1)[1];
  };
  const target = { useBitmapCoordinateSpace: (draw) => draw({ context, bitmapSize: { width: 600, height: 60 }, horizontalPixelRatio: 1, verticalPixelRatio: 1 }) };
  strip.timeAxisPaneViews()[0].renderer().draw(target);
  for (const view of strip.paneViews()) view.renderer().draw(target);
  return new Map(states);
}

test("every slot in view has the state of the gaps that touch it, whatever their number and order of ends", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const random = seeded(seed);
    const series = new BarSeries(60_000);
    series.addHistory(Array.from({ length: 40 }, (_, slot) => ({ ...own, low: "1", open_time_ms: slot * 60_000 })).filter(() => random.next() < 0.8));
    const points = series.points();
    const gaps = Array.from({ length: random.below(12) }, (_, id) => {
      const from = random.below(40) * 30_000 * 2 + random.below(60) * 1_000;
      return { ...gap, id, from, to: from + 1_000 + random.below(300_000), state: ["open", "repaired", "absent"][random.below(3)] };
    }).sort((left, right) => left.from - right.from);
    for (const [slot, name] of drawn(series, points, gaps, 0, 60)) {
      const touching = gaps.filter((one) => one.from < (slot + 1) * 60_000 && one.to > slot * 60_000);
      assert.equal(name, slotState(series.at(slot * 60_000), touching), `seed ${seed} slot ${slot}`);
    }
  }
});

test("a feed that is out is shaded up to now, and no further", () => {
  const series = new BarSeries(60_000);
  series.addHistory([0, 1, 2].map((slot) => ({ ...own, low: "1", open_time_ms: slot * 60_000 })));
  const points = series.points();
  const now = 330_000;
  assert.deepEqual([...drawn(series, points, [], now, 20).keys()], [0, 1, 2], "nothing is due after the last bar");
  const out = gapOfOutage({ from_time_ms: 175_000, cause: "silence" }, now);
  assert.deepEqual([...drawn(series, points, [out], now, 20)].slice(2), [[2, "gap"], [3, "gap"], [4, "gap"], [5, "gap"]]);
});
