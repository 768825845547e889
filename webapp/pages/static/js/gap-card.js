// The card beside the pointer (on a phone: above the chart) that says of a shaded or marked bar what the ledger knows.

import { byId, make } from "./dom.js";
import { barWords, detectorWords, gapWords, spanWords } from "./ledger.js";

const MAX_GAPS = 3;
const MAX_ERROR_LETTERS = 140;
const BESIDE_PX = 16;
/** States that need words; the others say nothing new. */
const TOLD = new Set(["gap", "absent", "unknown", "repaired"]);

/** Paragraphs of a card: [{ words, detail: [..] }], empty when there is nothing to tell. */
export function cardLines({ state, gaps, bar, counts, formats, now }) {
  if (!TOLD.has(state)) return [];
  const lines = gaps.slice(-MAX_GAPS).map((gap) => ({
    words: gapWords(gap),
    detail: [
      spanWords(gap, formats, now), detectorWords(gap, formats),
      gap.lastError && gap.state !== "repaired" ? `last try: ${gap.lastError.slice(0, MAX_ERROR_LETTERS)}` : null,
    ].filter(Boolean),
  }));
  if (gaps.length > MAX_GAPS) lines.push({ words: `and ${gaps.length - MAX_GAPS} more in this bar`, detail: [] });
  if (!gaps.length && state === "repaired") lines.push({ words: "repaired", detail: [barWords(bar, gaps, counts)] });
  if (state === "unknown" && !bar) lines.push({ words: "not known: nothing stored, no gap listed", detail: [] });
  if (state === "unknown" && bar) {
    const words = bar.revision < 0 ? "not known: the start of this bar has not been read" : "seconds are missing, no gap is listed";
    lines.push({ words, detail: [barWords(bar, gaps, counts)] });
  }
  return lines;
}

export class GapCard {
  constructor() {
    this.element = byId("gap-card");
  }

  /** `point` is where the pointer stands within the chart (CSS px); null puts the card at the top. */
  show(state, lines, point) {
    this.element.hidden = !lines.length;
    if (!lines.length) return;
    this.element.dataset.state = state;
    this.element.replaceChildren(...lines.flatMap(({ words, detail }) => [
      make("strong", {}, words), ...detail.map((text) => make("span", {}, text)),
    ]));
    const room = this.element.parentElement.getBoundingClientRect();
    const own = this.element.getBoundingClientRect();
    const { x, y } = point ?? { x: room.width / 2, y: BESIDE_PX };
    const beside = x + BESIDE_PX + own.width < room.width ? x + BESIDE_PX : x - BESIDE_PX - own.width;
    this.element.style.setProperty("--x", `${Math.max(0, beside)}px`);
    this.element.style.setProperty("--y", `${Math.max(0, Math.min(y + BESIDE_PX, room.height - own.height - BESIDE_PX))}px`);
  }
}
