import assert from "node:assert/strict";
import { test } from "node:test";

import {
  changePercent, changeWords, compact, countdown, decimalsOf, figure, fixed, fromScaled, group, percent, plain, toScaled,
} from "../../../webapp/pages/static/js/format.js";
import { seeded } from "./random.mjs";

const spaced = (text) => text.replaceAll("\u202f", " ");

test("steps say how many digits a price needs", () => {
  assert.deepEqual(["0.01000000", "1", "0.00000001", "1e-8", "10", "0.5"].map(decimalsOf), [2, 0, 8, 8, 0, 1]);
});

test("prices keep every digit, small ones too", () => {
  assert.equal(spaced(figure("62810.25000000", 2)), "62 810.25");
  assert.equal(figure("0.00001234", 8), "0.00001234");
  assert.equal(fixed("1.5", 2), "1.50");
  assert.equal(fixed("1.239", 2), "1.239");
  assert.equal(plain("1.2E-7"), "0.00000012");
  assert.equal(figure(null, 2), "–");
  assert.equal(figure(0.1 + 0.2, 2), "0.30");
});

test("scaled whole numbers come back digit by digit", () => {
  const random = seeded(7);
  for (let round = 0; round < 2_000; round += 1) {
    const decimals = random.below(9);
    const scaled = random.below(2 ** 31) * (1 + random.below(1_000));
    assert.equal(toScaled(fromScaled(scaled, decimals), decimals), scaled);
  }
  assert.equal(toScaled("0.29", 2), 29);
  assert.equal(toScaled("1.005", 3), 1005);
});

test("changes carry a sign, and none when they round to zero", () => {
  assert.equal(spaced(percent(1.84)), "+1.84 %");
  assert.equal(spaced(percent(-0.5)), "−0.50 %");
  assert.equal(spaced(percent(-0.001)), "0.00 %");
  assert.equal(percent(null), "–");
  assert.deepEqual([1, -1, -0.001, null].map((change) => spaced(changeWords(change))), ["▲ +1.00 %", "▼ −1.00 %", "0.00 %", "–"]);
  assert.equal(changePercent("0", "1"), null);
  assert.equal(changePercent("50", "51"), 2);
});

test("volumes and countdowns are short", () => {
  assert.equal(spaced(compact("18402.1")), "18 402");
  assert.equal(spaced(compact("1234567890")), "1.235 B");
  assert.equal(compact("12.408"), "12.41");
  assert.equal(spaced(group("-1234567.5")), "−1 234 567.5");
  assert.deepEqual([83_000, 4_000, 3_723_000, -5].map(countdown), ["1:23", "0:04", "1:02:03", "0:00"]);
});
