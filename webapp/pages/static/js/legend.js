// What the crosshair stands on (or the newest bar): O H L C V and the change; and the ledger's words for the same bar.

import { byId, make, setData, setText } from "./dom.js";
import { changePercent, changeWords, compact, direction, figure } from "./format.js";
import { barWords, completeSince, gapWords, gapsIn } from "./ledger.js";

const SECOND_MS = 1_000;
const MINUTE_MS = 60_000;
const PARTS = ["O", "H", "L", "C", "Vol", ""];

export class Legend {
  constructor() {
    this.values = PARTS.map((name) => {
      const value = make("b");
      byId("legend").append(make("span", {}, name, value));
      return value;
    });
  }

  show(bar, decimals) {
    byId("legend").hidden = !bar;
    if (!bar) return;
    const change = changePercent(bar.open, bar.close);
    const texts = [
      figure(bar.open, decimals), figure(bar.high, decimals), figure(bar.low, decimals), figure(bar.close, decimals),
      compact(bar.base_volume), changeWords(change),
    ];
    this.values.forEach((value, index) => setText(value, texts[index]));
    setData(this.values[5], "direction", /[1-9]/.test(texts[5]) ? direction(change) : "flat");
  }
}

/** The line under the chart: since when all is stored, what is under the pointer, how many seconds of it we have. */
export function showLedger({ series, gaps, stepMs, hovered, formats, now }) {
  const since = completeSince(series, gaps, stepMs);
  setText(byId("ledger-since"), since === null ? "Complete since –" : `Complete since ${formats.moment(since, now)}`);
  let bar = hovered === null ? null : series.at(hovered);
  const touching = hovered === null ? [] : gapsIn(gaps, hovered, hovered + stepMs);
  if (hovered === null) bar = lastClosed(series);
  setText(byId("ledger-words"), touching.length ? gapWords(touching.at(-1), formats) : "");
  const words = stepMs === SECOND_MS ? minuteWords(series, bar?.open_time_ms ?? hovered) : barWords(bar, touching);
  setText(byId("ledger-count"), series.size ? words : "–");
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
