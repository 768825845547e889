import assert from "node:assert/strict";
import { test } from "node:test";

import { BarSeries, candlePoint, isNewer } from "../../../webapp/pages/static/js/join.js";
import { seeded } from "./random.mjs";

const STEP = 60_000;
const START = 1_700_000_040_000;

function bar(slot, { revision = 0, covered = STEP, mark = 0 } = {}) {
  const open = START + slot * STEP;
  return {
    open_time_ms: open, close_time_ms: open + STEP - 1, covered_until_ms: open + covered, revision, trade_count: 1,
    open: "1", high: "2", low: "1", close: String(mark), base_volume: "1", is_closed: covered === STEP,
  };
}

/** Takes what the chart library takes, and throws where it throws (data-layer rules of 5.2.1). */
class StrictChart {
  constructor() {
    this.points = new Map();
    this.last = -Infinity;
  }

  apply(change, series) {
    if (change.kind === "set") {
      const points = series.points();
      points.forEach((point, index) => assert.ok(!index || point.time > points[index - 1].time, "ascending, unique"));
      this.points = new Map(points.map((point) => [point.time, point.bar]));
      this.last = points.at(-1)?.time ?? -Infinity;
    }
    for (const { time, bar: value, older } of change.points) {
      if (older) assert.ok(this.points.has(time), "an older point that the chart does not know");
      else assert.ok(time >= this.last, "older than the last without the flag");
      this.points.set(time, value);
      this.last = Math.max(this.last, time);
    }
  }
}

test("live bars wait for history, then join without hole or double", () => {
  const series = new BarSeries(STEP);
  assert.equal(series.addLive([bar(3), bar(4)]).kind, "none");
  const change = series.addHistory([bar(0), bar(1), bar(2), bar(3)]);
  assert.equal(change.kind, "set");
  assert.equal(change.hole, null);
  assert.deepEqual(series.points().map((point) => (point.time - START) / STEP), [0, 1, 2, 3, 4]);
});

test("a hole between history and live is named, filled with empty points, and mended by the next page", () => {
  const series = new BarSeries(STEP);
  series.addLive([bar(5)]);
  const change = series.addHistory([bar(0), bar(1)]);
  assert.deepEqual(change.hole, { from: START + 2 * STEP, to: START + 5 * STEP });
  assert.deepEqual(series.points().map((point) => point.bar !== null), [true, true, false, false, false, true]);
  assert.ok(series.addHistory([bar(1), bar(2)]).hole, "the page did not reach the live bars yet");
  assert.deepEqual(series.addHistory([bar(1), bar(2), bar(3), bar(4)]), { kind: "set", points: [], hole: null });
  assert.ok(series.points().every((point) => point.bar));
});

test("a live bar that jumps ahead brings its empty slots along", () => {
  const series = new BarSeries(STEP);
  series.addHistory([bar(0)]);
  series.points();
  const change = series.addLive([bar(3)]);
  assert.equal(change.kind, "update");
  assert.deepEqual(change.points.map((point) => point.bar !== null), [false, false, true]);
  assert.ok(change.hole);
});

test("an older bar is an update of an existing point, never a throw", () => {
  const series = new BarSeries(STEP);
  series.addHistory([bar(0), bar(1), bar(4)]);
  series.points();
  const known = series.addLive([bar(1, { revision: 1 })]);
  assert.deepEqual(known.points.map((point) => point.older), [true]);
  const empty = series.addLive([bar(2)]);
  assert.deepEqual([empty.kind, empty.points[0].older], ["update", true]);
  assert.equal(series.addLive([bar(-3)]).kind, "set");
});

test("the higher revision wins, then the later covered time", () => {
  assert.ok(isNewer(bar(0, { revision: 1, covered: 1 }), bar(0)));
  assert.ok(!isNewer(bar(0, { revision: -1 }), bar(0, { covered: 5_000 })));
  assert.ok(!isNewer(bar(0, { covered: 1_000 }), bar(0, { covered: 2_000 })));
  assert.ok(isNewer(bar(0, { covered: 2_000 }), bar(0, { covered: 2_000 })));
});

test("whatever the order, the newest version of each bar is on the chart and nothing throws", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seeded(seed);
    const newest = new Map();
    const versions = [];
    for (let slot = 0; slot < 30; slot += 1) {
      if (random.next() < 0.2) continue;
      for (let count = 1 + random.below(4); count > 0; count -= 1) {
        const version = bar(slot, { revision: random.below(3) - 1, covered: 1_000 * (1 + random.below(60)), mark: versions.length });
        versions.push(version);
      }
    }
    if (!versions.length) continue;
    const order = random.next() < 0.5 ? versions : random.shuffled(versions);
    const series = new BarSeries(STEP);
    const chart = new StrictChart();
    for (const version of order) if (isNewer(version, newest.get(version.open_time_ms))) newest.set(version.open_time_ms, version);
    let at = 0;
    let joined = false;
    const history = [];
    while (at < order.length) {
      const some = order.slice(at, at + 1 + random.below(5));
      at += some.length;
      if (random.next() < 0.15) {
        // A page of history is ascending and holds one version of each bar.
        const page = [...new Map(some.map((version) => [version.open_time_ms, version])).values()];
        history.push(...some.filter((version) => !page.includes(version)));
        chart.apply(series.addHistory(page.sort((a, b) => a.open_time_ms - b.open_time_ms)), series);
        joined = true;
      } else {
        chart.apply(series.addLive(some), series);
      }
    }
    chart.apply(series.addHistory([]), series);
    for (const version of history) chart.apply(series.addLive([version]), series);
    assert.ok(joined || series.joined, `seed ${seed}`);
    for (const [time, version] of newest) {
      const shown = chart.points.get(time);
      assert.ok(shown, `seed ${seed}: bar ${time} is missing`);
      assert.deepEqual([shown.revision, shown.covered_until_ms], [version.revision, version.covered_until_ms], `seed ${seed}`);
    }
    const bars = [...chart.points.values()].filter(Boolean);
    assert.equal(bars.length, newest.size, `seed ${seed}`);
  }
});

test("a bar without trades is an empty point; seconds, not milliseconds, go to the chart", () => {
  assert.deepEqual(candlePoint(START, { ...bar(0), trade_count: 0 }), { time: START / 1000 });
  assert.deepEqual(candlePoint(START, null), { time: START / 1000 });
  assert.equal(candlePoint(START, bar(0)).high, 2);
});
