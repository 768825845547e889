import assert from "node:assert/strict";
import test from "node:test";

import { actionWords, argumentWords, argumentsOf, fieldText } from "../../../webapp/pages/static/js/operator/actions.js";
import { ranked } from "../../../webapp/pages/static/js/operator/alerts.js";
import { hourState, hourWords, worst } from "../../../webapp/pages/static/js/operator/completeness.js";
import { figuresOfData } from "../../../webapp/pages/static/js/operator/data.js";
import { figuresOfAdvice, moved, stepsWith } from "../../../webapp/pages/static/js/operator/retention.js";
import { READERS, TOPICS, headroomNow, roomColumns, topicDetails } from "../../../webapp/pages/static/js/operator/tables.js";
import { STALE_AFTER_MS, verdictOf } from "../../../webapp/pages/static/js/operator/verdict.js";
import {
  byName, bytes, completeShare, count, millis, overrunWords, rate, seconds, setting, share, trend, untilOverrun,
} from "../../../webapp/pages/static/js/operator/words.js";

const plain = (text) => text.replaceAll("\u202f", " ");

test("what is not known is N/A in every form, and nought is nought", () => {
  for (const form of [count, bytes, rate, seconds, setting, millis, share, trend]) {
    for (const unknown of [null, undefined, NaN, "5"]) assert.equal(form(unknown), "N/A");
    assert.notEqual(form(0), "N/A");
  }
  assert.equal(byName("lag_records", null), "N/A");
});

test("figures by the unit of their name", () => {
  const found = Object.entries({
    memory_bytes: 48_200_000, bytes: 999, records_per_second: 0.254, lag_seconds: 754, measured_oldest_age_s: 0.44, p95_ms: 1250, cpu_share: 0.0345, lag_records: 12345,
  }).map(([name, value]) => plain(byName(name, value)));
  assert.deepEqual(found, ["48.2 MB", "999 B", "0.25 /s", "12 min 34 s", "0.4 s", "1.25 s", "3.45 %", "12 345"]);
  assert.equal(setting(-1), "unlimited");
});

test("nothing is called complete while a second is missing", () => {
  assert.equal(plain(completeShare(3600, 0)), "100 %");
  assert.equal(plain(completeShare(100_000_000, 1)), "99.999 %");
  assert.equal(completeShare(0, 0), "N/A");
});

test("a shrinking headroom has an end, a steady one has none", () => {
  assert.equal(untilOverrun(100, -0.5), 200);
  assert.equal(untilOverrun(100, -0.5, 20), 180);
  assert.equal(untilOverrun(100, 0.5), null);
  assert.equal(overrunWords(695, -1, 0), "in 11:35");
  assert.equal(overrunWords(0, 0, 0), "now");
  assert.equal(overrunWords(900, 0.01, 0), "not in sight");
  assert.equal(overrunWords(900, null, 0), "N/A");
  assert.equal(plain(trend(-0.97)), "▼ −0.97 s/s");
  assert.equal(headroomNow({ headroom_seconds: 100, headroom_trend: -1, sinceTakenS: 4 }), 96);
  assert.equal(headroomNow({ headroom_seconds: 900, headroom_trend: 6.9, sinceTakenS: 4 }), 900);
  assert.equal(headroomNow({ headroom_seconds: null }), null);
});

test("rows without figures are all N/A but for their names", () => {
  const reader = { room: "inserter", topic: "a", partition: 0 };
  assert.deepEqual(READERS.map(({ value }) => value(reader)), ["inserter a/0", ...Array(8).fill("N/A")]);
  const topic = { topic: "a", kind: "fact", state: "unknown", differences: [], predicted_oldest_age_s: null };
  assert.deepEqual(TOPICS.map(({ value }) => value(topic)).slice(2), Array(9).fill("N/A"));
  const room = { name: "producer", state: "unknown", ready: null, reasons: [], started_at_ms: null, restarts: null };
  assert.deepEqual(roomColumns(() => 0).map(({ value }) => value(room)), ["producer", ...Array(6).fill("N/A")]);
  assert.ok(figuresOfData(null, 0).every(({ value, state }) => value === "N/A" && state === "unknown"));
});

test("a difference between declared and broker is told in words", () => {
  const row = { formula: "a + b", predicted_oldest_age_s: { min: 900, max: null }, differences: [{ setting: "retention.ms", declared: "900000", broker: "604800000" }] };
  const terms = Object.fromEntries(topicDetails(row).map(([name, text]) => [name, plain(text)]));
  assert.equal(terms["retention.ms"], "declared 15 min, the broker has 7 d");
  assert.equal(terms["Predicted oldest age"], "15 min to no limit");
});

test("an hour is as bad as its worst second, and some hours under one mark as the worst of them", () => {
  const hour = { expected: 3600, stream: 3600, rest: 0, trades: 0, absent: 0, open: 0 };
  assert.equal(hourState(hour), "complete");
  assert.equal(hourState({ ...hour, stream: 3590, rest: 10 }), "repaired");
  assert.equal(hourState({ ...hour, stream: 0, rest: 3600 }), "exchange");
  assert.equal(hourState({ ...hour, absent: 1 }), "absent");
  assert.equal(hourState({ ...hour, open: 1, rest: 5 }), "gap");
  assert.equal(hourState({ ...hour, expected: 0 }), "none");
  assert.equal(hourState(undefined), "none");
  assert.equal(worst([undefined, hour, { ...hour, open: 1 }]), "gap");
  assert.equal(plain(hourWords({ ...hour, stream: 3588, open: 12 })), "3 588 of 3 600 s, 12 s missing");
});

test("the verdict is the server's while it is young, and unknown with the reason when it is not", () => {
  const answer = { verdict: "degraded", reason: "the broker does not answer" };
  assert.deepEqual(verdictOf(answer, null, 900, ""), { word: "degraded", reason: "the broker does not answer", state: "warn" });
  assert.equal(verdictOf(answer, "no answer", 900, "").word, "degraded");
  const old = verdictOf(answer, "no answer", STALE_AFTER_MS + 1, "14:32:07");
  assert.deepEqual([old.word, old.reason], ["unknown", "no answer; what stands here is of 14:32:07"]);
  assert.equal(verdictOf(null, null, 0, "").word, "unknown");
});

test("arguments go from the page to a field and to the server", () => {
  assert.equal(fieldText("from", 0), "1970-01-01T00:00:00.000Z");
  assert.equal(fieldText("ids", [3, 4]), "3, 4");
  const texts = { symbol: " BTCUSDT ", from: "2026-11-21T14:00:00Z", to: "1795269900000", ids: "3, 4", room: "" };
  assert.deepEqual(argumentsOf(texts, { ids: "ids" }), { symbol: "BTCUSDT", from: "2026-11-21T14:00:00Z", to: "1795269900000", ids: ["3", "4"] });
  assert.equal(argumentWords({ room: "inserter" }), "room inserter");
  assert.equal(actionWords("reset_checkpoint"), "Reset checkpoint");
});

test("alerts that stand come first, the newest first", () => {
  const alerts = [[1, 10, null], [2, 30, 40], [3, 20, null]].map(([id, raised_at_ms, recovered_at_ms]) => ({ id, raised_at_ms, recovered_at_ms }));
  assert.deepEqual(ranked(alerts).map(({ id }) => id), [3, 1, 2]);
});

test("the advisor's sliders stand at what is, and tell what was moved", () => {
  assert.deepEqual(stepsWith([10, 20], 15), [10, 15, 20]);
  assert.deepEqual(stepsWith([10, 20], null), [10, 20]);
  assert.deepEqual(stepsWith([10, 20], -1), [10, 20]);
  assert.deepEqual(moved({ retention_ms: 5, segment_ms: 7, margin: 3 }, { retention_ms: 4, segment_ms: 7 }), ["retention_ms=5"]);
});

test("what is kept, and what an outage costs, in words; without a limit it says so", () => {
  const outage = { lost_s: { min: 0, max: 900 }, lost_records: { min: 0, max: 4500 }, repair: { rows: 4500, calls: 5, weight: 10, seconds: 0.2 } };
  const rules = { retention_ms: 900_000, segment_ms: 60_000, segment_bytes: 16_777_216, check_interval_ms: 10_000 };
  const figures = { ...rules, predicted_oldest_age_s: { min: 900, max: 970 }, expected_oldest_age_s: { min: 900, max: null }, disk_bytes: null, margin: 2.5, outage };
  const words = Object.fromEntries(figuresOfAdvice(figures).map(([name, text]) => [name, plain(text)]));
  assert.equal(words["Oldest record"], "15 min to 16 min 10 s");
  assert.equal(words["At this rate"], "15 min to no limit");
  assert.equal(words["Disk, at most"], "N/A");
  assert.equal(words["Outage loses"], "0 s to 15 min");
  assert.equal(words["Repair from REST"], "4 500 rows, weight 10, 0.2 s or more");
});
