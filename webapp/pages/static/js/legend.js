// What the crosshair stands on (or the newest bar): O H L C V and the change.

import { byId, make, setData, setText } from "./dom.js";
import { changePercent, changeWords, compact, direction, figure } from "./format.js";

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
