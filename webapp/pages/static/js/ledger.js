// The ledger strip: under the time axis and moving with it, one mark a bar: complete, repaired, gap.

/** Height of the strip's own room below the labels of the time axis (px). */
export const STRIP_HEIGHT = 16;
const MARK_HEIGHT = 6;

/** Words for the causes of the gap ledger. */
export const CAUSES = {
  disconnect: "connection lost", silence: "feed went silent", overflow: "buffer overflowed", log_expired: "log expired",
  offset_jump: "log jumped", trade_chain: "trade ids missing", downtime: "not running", unknown: "cause unknown",
};
const RESOLVERS = { rest: "repaired from REST", stream: "arrived late", trades: "rebuilt from trades", archive: "filled from the archive" };

/** A gap row of the API with times as ms; null when it cannot be read. */
export function readGap(row) {
  const ms = (value) => (typeof value === "number" ? value : Date.parse(value));
  const from = ms(row.from_time_ms ?? row.from_time ?? row.from);
  const to = ms(row.to_time_ms ?? row.to_time ?? row.to);
  if (!(from < to)) return null;
  return { from, to, cause: row.cause, state: row.state, resolvedBy: row.resolved_by ?? null };
}

/** How one slot stands: "complete", "exchange" (taken whole from the exchange), "repaired", "gap", "forming", "empty". */
export function slotState(bar, gaps) {
  if (gaps.some((gap) => gap.state === "open" || gap.state === "unrepairable")) return "gap";
  if (gaps.some((gap) => gap.state === "repaired")) return "repaired";
  if (!bar) return gaps.length ? "empty" : "missing";
  if (bar.source === "rest" || bar.source === "archive") return "exchange";
  if (bar.is_closed === false) return "forming";
  return bar.is_complete === false ? "gap" : "complete";
}

/** Rows of `gaps` (ascending by from) that touch [from, to). */
export function gapsIn(gaps, from, to) {
  return gaps.filter((gap) => gap.from < to && gap.to > from);
}

/** "Gap 14:02 to 14:07: connection lost, repaired from REST". */
export function gapWords(gap, formats) {
  const short = gap.to - gap.from < 120_000;
  const form = short ? formats.seconds : formats.minutes;
  const outcome = {
    repaired: RESOLVERS[gap.resolvedBy] ?? "repaired", open: "not repaired yet", absent: "the exchange has nothing either",
    unrepairable: "cannot be repaired",
  }[gap.state] ?? gap.state;
  return `Gap ${form(gap.from)} to ${form(gap.to)}: ${CAUSES[gap.cause] ?? gap.cause}, ${outcome}`;
}

/** "60 / 60 s" with what more is known of a bar. */
export function barWords(bar, gaps) {
  if (!bar) return gaps.length ? "0 s stored" : "Nothing stored here";
  const known = Number.isFinite(bar.row_count) && Number.isFinite(bar.expected_count) && bar.expected_count > 0;
  const words = [];
  if (known) words.push(`${bar.row_count} / ${bar.expected_count} s`);
  if (bar.source === "rest") words.push("from the exchange's REST");
  else if (bar.source === "archive") words.push("from the archive");
  if (bar.is_closed === false) words.push("forming");
  if (bar.revision > 0) words.push(`revision ${bar.revision}`);
  return words.join(" · ") || "complete";
}

/** Since when every second is stored: the end of the last hole before now, or the first bar. */
export function completeSince(series, gaps, stepMs) {
  if (!series || series.first === null) return null;
  const holes = gaps.filter((gap) => gap.state !== "repaired" && gap.state !== "absent").map((gap) => gap.to);
  let since = Math.max(series.first, ...holes);
  for (let time = series.last; time > since; time -= stepMs) {
    const bar = series.at(time);
    if (!bar) {
      if (!gapsIn(gaps, time, time + stepMs).some((gap) => gap.state === "absent")) since = time + stepMs;
    } else if (bar.is_closed && bar.is_complete === false && bar.source === "seconds") {
      since = time + stepMs;
    }
    if (since > time) break;
  }
  return since;
}

/** The primitive: marks under the axis, and a wash over the chart where seconds are missing. */
export class LedgerStrip {
  constructor() {
    this.gaps = [];
    this.points = [];
    this.series = null;
    this.timeAxis = [{ renderer: () => ({ draw: (target) => this.#drawStrip(target) }), zOrder: () => "top" }];
    this.panes = [{ renderer: () => ({ draw: (target) => this.#drawWash(target) }), zOrder: () => "bottom" }];
  }

  attached({ chart, requestUpdate }) {
    this.chart = chart;
    this.refresh = requestUpdate;
  }

  detached() {
    this.refresh = () => {};
  }

  refresh() {}

  updateAllViews() {}

  timeAxisPaneViews() {
    return this.timeAxis;
  }

  paneViews() {
    return this.panes;
  }

  setColours(colours) {
    this.colours = colours;
    this.refresh();
  }

  /** `points` is the chart's own list of slots, which grows with it. */
  setSeries(series, points, stepMs) {
    this.series = series;
    this.points = points;
    this.stepMs = stepMs;
    this.refresh();
  }

  setGaps(gaps) {
    this.gaps = gaps;
    this.refresh();
  }

  /** Slots in view with their x and width in CSS px. */
  #slots(visit) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range || !this.series || this.series.first === null) return;
    const spacing = scale.options().barSpacing;
    const from = Math.floor(range.from) - 1;
    const to = Math.min(Math.ceil(range.to) + 1, this.points.length - 1);
    const sorted = this.gaps;
    for (let index = Math.max(0, from); index <= to; index += 1) {
      const { time } = this.points[index];
      const touching = gapsIn(sorted, time, time + this.stepMs);
      visit(scale.logicalToCoordinate(index), spacing, slotState(this.series.at(time), touching));
    }
  }

  #drawStrip(target) {
    if (!this.series) return;
    const fill = {
      complete: [this.colours.up, 0.75], exchange: [this.colours.up, 0.4], forming: [this.colours.up, 0.4],
      repaired: [this.colours.accent, 1], gap: [this.colours.down, 1], missing: [this.colours.down, 0.45],
      empty: [this.colours.faint, 0.4],
    };
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: h, verticalPixelRatio: v }) => {
      const top = bitmapSize.height - Math.round((STRIP_HEIGHT / 2 + MARK_HEIGHT / 2) * v);
      this.#slots((x, spacing, state) => {
        const [colour, alpha] = fill[state];
        const left = Math.round((x - spacing / 2) * h);
        const right = Math.round((x + spacing / 2) * h);
        const space = spacing >= 4 ? Math.max(1, Math.round(h)) : 0;
        context.globalAlpha = alpha;
        context.fillStyle = colour;
        context.fillRect(left, top, Math.max(1, right - left - space), Math.round(MARK_HEIGHT * v));
      });
      context.globalAlpha = 1;
    });
  }

  #drawWash(target) {
    if (!this.series) return;
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: h }) => {
      this.#slots((x, spacing, state) => {
        if (state !== "gap" && state !== "missing") return;
        const left = Math.round((x - spacing / 2) * h);
        context.globalAlpha = 0.1;
        context.fillStyle = this.colours.down;
        context.fillRect(left, 0, Math.round((x + spacing / 2) * h) - left, bitmapSize.height);
      });
      context.globalAlpha = 1;
    });
  }
}
