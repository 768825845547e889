import assert from "node:assert/strict";
import { test } from "node:test";

import { groupSide, ladder } from "../../../webapp/pages/static/js/book.js";
import { fromScaled, toScaled } from "../../../webapp/pages/static/js/format.js";
import { readBars } from "../../../webapp/pages/static/js/history.js";
import { actionOf } from "../../../webapp/pages/static/js/keys.js";
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
