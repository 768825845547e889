import assert from "node:assert/strict";
import { mock, test } from "node:test";

import { BADGE_EVERY_MS, STALE_AFTER_MS, badgeState } from "../../../webapp/pages/static/js/badge.js";
import { LatencyWindow, hopsOf, milliseconds, quantile } from "../../../webapp/pages/static/js/latency.js";
import { ChannelState, ClockOffset, LiveClient, reconnectDelayMs } from "../../../webapp/pages/static/js/live.js";

class FakeSocket {
  static made = [];

  constructor(url) {
    Object.assign(this, { url, readyState: 0, sent: [] });
    FakeSocket.made.push(this);
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  opens() {
    this.readyState = 1;
    this.onopen();
  }

  says(message) {
    this.onmessage({ data: JSON.stringify(message) });
  }
}

function client(states = []) {
  FakeSocket.made = [];
  let now = 1_000_000;
  const live = new LiveClient({ url: "ws://x/live", clock: () => now, open: (url) => new FakeSocket(url), onState: (state) => states.push(state) });
  return { live, pass: (ms) => { now += ms; mock.timers.tick(ms); } };
}

const trade = (seq, kind = "update") => ({ ch: "trade:BTCUSDT", seq, kind, t: {}, data: { trades: [] } });
const subscriptions = (socket) => socket.sent.filter((message) => message.op === "subscribe");

test("after every kind of close it comes back and resumes with since", async () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  try {
    for (const code of [1000, 1001, 1006, 1009, 4008]) {
      const { live, pass } = client();
      live.subscribe("trade:BTCUSDT", () => {});
      live.start();
      const [first] = FakeSocket.made;
      first.opens();
      first.says(trade(41, "snapshot"));
      first.says(trade(42));
      first.onclose({ code });
      pass(10_001);
      const second = FakeSocket.made.at(-1);
      assert.notEqual(second, first);
      second.opens();
      assert.deepEqual(subscriptions(second)[0].since, { "trade:BTCUSDT": 42 });
      clearInterval(live.ticker);
    }
  } finally {
    mock.timers.reset();
  }
});

test("a silent line is dropped although no close came", () => {
  mock.timers.enable({ apis: ["setTimeout", "setInterval"] });
  try {
    const states = [];
    const { live, pass } = client(states);
    live.start();
    FakeSocket.made[0].opens();
    for (let second = 0; second < 10; second += 1) pass(1_000);
    assert.equal(states.at(-1).state === "waiting" || FakeSocket.made.length > 1, true);
    clearInterval(live.ticker);
  } finally {
    mock.timers.reset();
  }
});

test("delays have full jitter, a ceiling, and a floor after a policy close", () => {
  assert.equal(reconnectDelayMs(0, 1006, () => 0), 0);
  assert.ok(reconnectDelayMs(50, 1006, () => 0.999) <= 10_000);
  assert.ok(reconnectDelayMs(0, 1008, () => 0) >= 5_000);
});

test("facts that are missing tear the channel; states may jump; what was seen is not used twice", () => {
  const state = new ChannelState();
  assert.equal(state.accept("snapshot", 10, true), "use");
  assert.equal(state.accept("update", 11, true), "use");
  assert.equal(state.accept("update", 11, true), "stale");
  assert.equal(state.accept("update", 13, true), "torn");
  assert.equal(state.accept("update", 15, false), "use");
  assert.equal(state.accept("reset", 20, true), "use");
  assert.equal(state.seq, null);
});

test("the clock offset comes from the quickest round trip", () => {
  const offset = new ClockOffset();
  offset.add(0, 1_500, 1_000);
  offset.add(2_000, 3_010, 2_020);
  assert.equal(offset.ms, 1_000);
  offset.heard(4_005, 3_000);
  assert.equal(offset.ms, 1_005, "nothing arrives before it was sent");
  offset.heard(9_000, 3_000);
  assert.equal(offset.ms, 0, "a clock was set");
});

test("the badge says how old the picture is", () => {
  const seconds = (ms) => new Date(ms).toISOString().slice(11, 19);
  const base = { now: 100_000, socket: "open", tries: 0, newsAt: 99_900, delayMs: 38, outage: null, seconds };
  assert.deepEqual(badgeState(base), { state: "live", text: "Live", age: "38 ms" });
  assert.equal(badgeState({ ...base, delayMs: 4_100 }).text, "Delayed 4 s");
  assert.equal(badgeState({ ...base, socket: "waiting", tries: 3 }).text, "Reconnecting, try 3");
  assert.equal(badgeState({ ...base, newsAt: 97_000 }).text, "Stale since 00:01:37");
  assert.ok(STALE_AFTER_MS + BADGE_EVERY_MS <= 3_000, "the page promises to say so within 3 s");
  assert.equal(badgeState({ ...base, newsAt: null }).state, "connecting");
});

test("hops add up on one clock; an event of another day is no delay", () => {
  const hops = hopsOf({ event: 1_000, received: 1_011, appended: 1_013, relayed: 1_016 }, 520, 538, 500);
  assert.deepEqual(hops, { producer: 11, Kafka: 2, relay: 3, browser: 4, pixel: 18, total: 38 });
  assert.equal(hopsOf({ event: 1, received: 9_000_000_000, appended: null, relayed: 9_000_000_005 }, 9_000_000_007, 9_000_000_010, 0).total, 10);
  const window = new LatencyWindow();
  for (let count = 1; count <= 100; count += 1) window.add({ ...hops, total: count }, count * 500);
  assert.deepEqual([window.summary().p50, window.summary().p95], [50, 95]);
  // Reported once: one update of each second, from the relay to the pixel.
  assert.deepEqual([window.takePainted(), window.takePainted()], [Array(50).fill(22), []]);
  assert.equal(quantile([], 0.5), null);
  assert.deepEqual([null, 0.2, 38.4, 1_234].map(milliseconds), ["–", "< 1 ms", "38 ms", "1.2 s"]);
});
