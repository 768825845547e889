import assert from "node:assert/strict";
import { test } from "node:test";

import { BarFeed } from "../../../webapp/pages/static/js/bars.js";

const START = 1_700_000_040_000;
const STEP = 60_000;

function bar(slot, revision = 0) {
  const open = START + slot * STEP;
  return {
    open_time_ms: open, close_time_ms: open + STEP - 1, covered_until_ms: open + STEP, revision, trade_count: 1,
    open: "1", high: "2", low: "1", close: "1", base_volume: "1", is_closed: true,
  };
}

/** A feed whose server and socket are in the test's hands. */
async function openFeed(stored) {
  const asked = [];
  const changes = [];
  let receive = null;
  globalThis.fetch = async (url) => {
    asked.push(new URL(url, "http://host").searchParams);
    const columns = Object.keys(bar(0));
    return { ok: true, json: async () => ({ columns, rows: stored().map((one) => columns.map((name) => one[name])), next_cursor: null }) };
  };
  const live = { subscribe: (_channel, handler) => { receive = handler; }, unsubscribe() {} };
  const listener = { changed: (change) => changes.push(change), failed: (error) => assert.fail(error), retrying() {} };
  const feed = new BarFeed({ symbol: "X", interval: "1m", live, klinesPath: "/klines", listener });
  await feed.start();
  return { feed, asked, changes, receive };
}

const settled = () => new Promise((resolve) => { setTimeout(resolve, 5); });

test("an older bar that was revised while nobody was told is read again after a reset", async () => {
  let stored = [bar(0), bar(1), bar(2)];
  const { feed, asked, receive } = await openFeed(() => stored);
  receive({ kind: "snapshot", data: { bars: [bar(2)] } }, 0);
  stored = [bar(0, 1), bar(1), bar(2)];
  receive({ kind: "reset", data: null }, 0);
  receive({ kind: "snapshot", data: { bars: [bar(2), bar(3)] } }, 0);
  await settled();
  assert.equal(asked.length, 2);
  assert.equal(feed.series.at(START).revision, 1);
  assert.equal(feed.series.last, START + 3 * STEP);
  feed.stop();
});

test("a range is read again as older points of the same chart, and only as far as it is loaded", async () => {
  let stored = [bar(1), bar(2), bar(3)];
  const { feed, asked, changes } = await openFeed(() => stored);
  feed.series.points();
  stored = [bar(1, 1), bar(2, 1)];
  await feed.refresh(START - 10 * STEP, START + 3 * STEP);
  assert.equal(asked[1].get("start"), String(START + STEP));
  assert.equal(asked[1].get("end"), String(START + 3 * STEP));
  assert.equal(changes.at(-1).kind, "update");
  assert.deepEqual(changes.at(-1).points.map(({ bar: { revision }, older }) => [revision, older]), [[1, true], [1, true]]);
  feed.stop();
  await feed.refresh(START, START + STEP);
  assert.equal(changes.length, 2, "nothing comes after the end");
});
