// What the crosshair stands on (or the newest bar): O H L C V and the change; and the ledger's words for the same bar.

import { byId, make, setData, setText } from "./dom.js";
import { arrow, changePercent, compact, direction, figure, percent } from "./format.js";
import { barWords, completeSince, gapWords, gapsIn } from "./ledger.js";

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
      compact(bar.base_volume), `${arrow(change)} ${percent(change)}`,
    ];
    this.values.forEach((value, index) => setText(value, texts[index]));
    setData(this.values[5], "direction", direction(change));
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
  setText(byId("ledger-count"), series.size ? barWords(bar, touching) : "–");
}

function lastClosed(series) {
  for (let time = series.last, tries = 0; time !== null && tries < 5; time -= series.stepMs, tries += 1) {
    const bar = series.at(time);
    if (bar && bar.is_closed !== false) return bar;
  }
  return series.newest;
}
