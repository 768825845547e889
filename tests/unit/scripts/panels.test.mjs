import assert from "node:assert/strict";
import { test } from "node:test";

import { groupSide, ladder } from "../../../webapp/pages/static/js/book.js";
import { fromScaled, toScaled } from "../../../webapp/pages/static/js/format.js";
import { readBars } from "../../../webapp/pages/static/js/history.js";
import { actionOf } from "../../../webapp/pages/static/js/keys.js";
import { barWords, completeSince, gapWords, readGap, slotState } from "../../../webapp/pages/static/js/ledger.js";
import { BarSeries } from "../../../webapp/pages/static/js/join.js";
import { rankMarkets } from "../../../webapp/pages/static/js/markets.js";
import { sparkPath } from "../../../webapp/pages/static/js/sparkline.js";
import { filterSteps, mergeTrades } from "../../../webapp/pages/static/js/tape.js";
import { zoneFormats } from "../../../webapp/pages/static/js/timezone.js";
import { seeded } from "./random.mjs";

test("grouping keeps every lot, sums up, and never crosses the sides", () => {
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = seeded(seed);
    const middle = 1_000 + random.below(100_000);
    const side = (sign) => Array.from({ length: 20 }, (_, index) => [
      fromScaled(middle + sign * (1 + index * (1 + random.below(3))), 2), fromScaled(1 + random.below(1e9), 5),
    ]).sort((a, b) => -sign * (Number(b[0]) - Number(a[0])));
    const book = { asks: side(1), bids: side(-1) };
    for (const step of [1, 5, 10, 50, 100]) {
      const units = { tick: 2, lot: 5, step };
      const view = ladder(book, 20, units);
      for (const [name, levels] of [["asks", view.asks], ["bids", view.bids]]) {
        const lots = book[name].reduce((sum, [, quantity]) => sum + toScaled(quantity, 5), 0);
        assert.equal(levels.at(-1).sum, lots, `seed ${seed}`);
        levels.forEach((level, index) => assert.ok(!index || level.sum > levels[index - 1].sum));
        assert.ok(levels.every((level) => level.price % step === 0 && level.share > 0 && level.share <= 1));
      }
      assert.ok(view.asks[0].price > view.bids[0].price, `seed ${seed} step ${step}`);
    }
  }
  assert.deepEqual(groupSide([["1.00", "0"]], "bid", { tick: 2, lot: 5, step: 1 }), []);
});

test("the tape holds each trade once, newest first, a hundred at most", () => {
  const trades = Array.from({ length: 150 }, (_, id) => ({ trade_id: id, quantity: "0.5" }));
  for (let seed = 1; seed <= 50; seed += 1) {
    const random = seeded(seed);
    let held = [];
    for (const trade of random.shuffled(trades)) held = mergeTrades(held, [trade, trades[random.below(150)]]);
    held = mergeTrades(held, trades);
    assert.deepEqual(held.map((trade) => trade.trade_id), Array.from({ length: 100 }, (_, index) => 149 - index));
  }
  assert.deepEqual(filterSteps(trades), ["0", "0.1", "0.5", "1", "5", "10"]);
  assert.deepEqual(filterSteps([]), ["0"]);
});

test("lists: favourites first, then the column, unknown last, words narrow", () => {
  const rows = [
    { symbol: "AUSDT", turnover: "5", change: -1, rank: 0 }, { symbol: "BUSDT", turnover: "9", change: 2, rank: 1 },
    { symbol: "CUSDT", rank: 2 }, { symbol: "DBTC", turnover: "1", change: 0, rank: 3 },
  ];
  const names = (options) => rankMarkets(rows, options).map((row) => row.symbol).join(" ");
  assert.equal(names({}), "BUSDT AUSDT DBTC CUSDT");
  assert.equal(names({ direction: 1 }), "DBTC AUSDT BUSDT CUSDT");
  assert.equal(names({ favourites: ["CUSDT"] }), "CUSDT BUSDT AUSDT DBTC");
  assert.equal(names({ words: "b" }), "BUSDT DBTC");
  assert.equal(names({ words: "a / usdt" }), "AUSDT");
  assert.equal(names({ sort: "symbol", direction: 1 }), "AUSDT BUSDT CUSDT DBTC");
});

test("the ledger has a state and words for each bar", () => {
  const gap = readGap({ from_time_ms: 0, to_time_ms: 300_000, cause: "disconnect", state: "repaired", resolved_by: "rest" });
  const formats = zoneFormats("UTC");
  assert.equal(gapWords(gap, formats), "Gap 00:00 to 00:05: connection lost, repaired from REST");
  assert.equal(readGap({ from_time_ms: 5, to_time_ms: 5 }), null);
  const own = { source: "seconds", is_closed: true, is_complete: true, row_count: 60, expected_count: 60, revision: 0 };
  assert.equal(slotState(own, []), "complete");
  assert.equal(slotState(own, [gap]), "repaired");
  assert.equal(slotState(own, [{ ...gap, state: "open" }]), "gap");
  assert.equal(slotState({ ...own, source: "rest" }, []), "exchange");
  assert.equal(slotState({ ...own, is_closed: false, is_complete: false }, []), "forming");
  assert.equal(slotState(null, []), "missing");
  assert.equal(slotState(null, [{ ...gap, state: "absent" }]), "empty");
  assert.equal(barWords(own, []), "60 / 60 s");
  assert.equal(barWords({ ...own, revision: 2 }, []), "60 / 60 s · revision 2");
});

test("complete since the end of the last hole", () => {
  const series = new BarSeries(60_000);
  const bars = [0, 1, 2, 4, 5].map((slot) => ({ open_time_ms: slot * 60_000, is_closed: true, is_complete: true, source: "seconds" }));
  series.addHistory(bars);
  assert.equal(completeSince(series, [], 60_000), 240_000);
  assert.equal(completeSince(series, [{ from: 290_000, to: 301_000, state: "open" }], 60_000), 301_000);
  assert.equal(completeSince(new BarSeries(1_000), [], 1_000), null);
});

test("daylight saving is Intl's business, timestamps are never shifted", () => {
  const berlin = zoneFormats("Europe/Berlin");
  assert.equal(berlin.minutes(Date.UTC(2026, 9, 25, 0, 30)), "02:30");
  assert.equal(berlin.minutes(Date.UTC(2026, 9, 25, 1, 30)), "02:30");
  assert.equal(zoneFormats("UTC").millis(Date.UTC(2026, 0, 1, 14, 32, 7, 6)), "14:32:07.006");
  assert.equal(zoneFormats("No/Where").minutes(0), "00:00");
});

test("keys do what the help says and leave typing alone", () => {
  const press = (key, more = {}) => actionOf({ key, target: { closest: () => null }, ...more }, ["1s", "1m"]);
  assert.deepEqual(press("2"), { name: "interval", value: "1m" });
  assert.equal(press("9"), null);
  assert.deepEqual(press("/"), { name: "search" });
  assert.equal(press("t", { ctrlKey: true }), null);
  assert.equal(press("t", { target: { closest: (selector) => selector.includes("input") } }), null);
});

test("rows get their column names; a sparkline needs two values", () => {
  assert.deepEqual(readBars({ columns: ["a", "b"], rows: [[1, "2"]] }), [{ a: 1, b: "2" }]);
  assert.equal(sparkPath(["1"]), null);
  assert.match(sparkPath(["1", "1"]).path, /^M0\.0 15\.0L148\.0 15\.0$/);
});
