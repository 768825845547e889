// The ledger as the chart draws it: marks under the time axis, shades where seconds are missing, a diamond under
// each repaired bar. Three looks that cannot be taken for one another: gap, no data at the exchange, not known.

import { slotState } from "./ledger.js";

/** Height of the strip's own room below the labels of the time axis (px). */
export const STRIP_HEIGHT = 16;
const MARK_HEIGHT = 6;
const HATCH_PX = 7;
const DIAMOND_PX = 3.2;
const DIAMOND_BELOW_PX = 8;
/** Narrower bars than this have no room for a mark of their own; the strip still says it. */
const MIN_MARK_SPACING_PX = 4;
const NONE = Object.freeze([]);

export class LedgerStrip {
  constructor() {
    this.gaps = [];
    this.counts = new Map();
    this.points = [];
    this.series = null;
    this.now = () => 0;
    const view = (draw, zOrder) => ({ renderer: () => ({ draw: (target) => { if (this.series) draw(target); } }), zOrder: () => zOrder });
    this.timeAxis = [view((target) => this.#drawStrip(target), "top")];
    this.panes = [view((target) => this.#drawShades(target), "bottom"), view((target) => this.#drawDiamonds(target), "top")];
  }

  attached({ chart, series, requestUpdate }) {
    this.chart = chart;
    this.prices = series;
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
    Object.assign(this, { series, points, stepMs });
    this.refresh();
  }

  /** Gaps ascending by `from`; counts of seconds that came later, by open time. */
  setLedger(gaps, counts) {
    Object.assign(this, { gaps, counts });
    this.refresh();
  }

  /** Open time of the slot at a whole index of the axis, also of those after the last bar; null outside. */
  timeAt(index) {
    const { points } = this;
    if (index < 0 || !points.length) return null;
    if (index < points.length) return points[index].time;
    const time = points.at(-1).time + (index - points.length + 1) * this.stepMs;
    return time <= this.now() ? time : null;
  }

  /** State of the slot at this open time. */
  stateAt(time, touching) {
    return slotState(this.series.at(time), touching, this.counts.get(time));
  }

  /** Runs of slots in view: visit(state, left, right, bar of a single slot) in CSS px; each slot alone with `single`. */
  #runs(visit, single) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range || this.series.first === null) return;
    const half = scale.options().barSpacing / 2;
    const last = Math.ceil(range.to) + 1;
    let nextGap = 0;
    let run = null;
    for (let index = Math.max(0, Math.floor(range.from) - 1); index <= last; index += 1) {
      const time = this.timeAt(index);
      if (time === null) break;
      while (nextGap < this.gaps.length && this.gaps[nextGap].to <= time) nextGap += 1;
      let touching = NONE;
      for (let at = nextGap; at < this.gaps.length && this.gaps[at].from < time + this.stepMs; at += 1) {
        if (this.gaps[at].to > time) touching = [...touching, this.gaps[at]];
      }
      // After the last bar nothing is due yet, unless the ledger knows better.
      if (index >= this.points.length && !touching.length) break;
      const state = this.stateAt(time, touching);
      const x = scale.logicalToCoordinate(index);
      if (run && !single && run.state === state) {
        run.right = x + half;
      } else {
        if (run) visit(run.state, run.left, run.right, run.time);
        run = { state, left: x - half, right: x + half, time };
      }
    }
    if (run) visit(run.state, run.left, run.right, run.time);
  }

  #drawStrip(target) {
    const fill = {
      complete: [this.colours.up, 0.75], exchange: [this.colours.up, 0.4], forming: [this.colours.up, 0.4],
      repaired: [this.colours.accent, 1], gap: [this.colours.down, 1], absent: [this.colours.muted, 1], unknown: [this.colours.faint, 0.45],
    };
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: h, verticalPixelRatio: v }) => {
      const top = bitmapSize.height - Math.round((STRIP_HEIGHT / 2 + MARK_HEIGHT / 2) * v);
      const height = Math.round(MARK_HEIGHT * v);
      this.#runs((state, from, to) => {
        const [colour, alpha] = fill[state];
        const left = Math.round(from * h);
        const space = to - from >= 4 ? Math.max(1, Math.round(h)) : 0;
        const width = Math.max(1, Math.round(to * h) - left - space);
        context.globalAlpha = alpha;
        context.fillStyle = colour;
        // Nothing to have here: a line, not a block.
        if (state === "absent") context.fillRect(left, top + Math.round(height / 3), width, Math.max(1, Math.round(height / 3)));
        else context.fillRect(left, top, width, height);
      }, true);
      context.globalAlpha = 1;
    });
  }

  #drawShades(target) {
    target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: h }) => {
      this.#runs((state, from, to) => {
        if (state !== "gap" && state !== "absent" && state !== "unknown") return;
        const left = Math.round(from * h);
        const width = Math.max(1, Math.round(to * h) - left);
        if (state === "gap") {
          context.globalAlpha = 0.16;
          context.fillStyle = this.colours.down;
          context.fillRect(left, 0, width, bitmapSize.height);
        } else if (state === "unknown") {
          context.globalAlpha = 0.13;
          context.fillStyle = this.colours.faint;
          context.fillRect(left, 0, width, bitmapSize.height);
        } else {
          this.#hatch(context, left, width, bitmapSize.height, h);
        }
      }, false);
      context.globalAlpha = 1;
    });
  }

  #hatch(context, left, width, height, ratio) {
    const step = HATCH_PX * ratio;
    context.save();
    context.beginPath();
    context.rect(left, 0, width, height);
    context.clip();
    context.globalAlpha = 0.5;
    context.strokeStyle = this.colours.faint;
    context.lineWidth = Math.max(1, Math.round(ratio));
    context.beginPath();
    // Lines of one grid for the whole pane, so that the hatch does not crawl while the chart moves by a bar.
    for (let x = Math.floor((left - height) / step) * step; x < left + width; x += step) {
      context.moveTo(x, height);
      context.lineTo(x + height, 0);
    }
    context.stroke();
    context.restore();
  }

  #drawDiamonds(target) {
    if (this.chart.timeScale().options().barSpacing < MIN_MARK_SPACING_PX) return;
    target.useBitmapCoordinateSpace(({ context, horizontalPixelRatio: h, verticalPixelRatio: v }) => {
      context.fillStyle = this.colours.accent;
      this.#runs((state, from, to, time) => {
        const bar = state === "repaired" ? this.series.at(time) : null;
        const low = bar && this.prices.priceToCoordinate(Number(bar.low));
        if (low === null) return;
        const x = ((from + to) / 2) * h;
        const y = (low + DIAMOND_BELOW_PX) * v;
        context.beginPath();
        context.moveTo(x, y - DIAMOND_PX * v);
        context.lineTo(x + DIAMOND_PX * h, y);
        context.lineTo(x, y + DIAMOND_PX * v);
        context.lineTo(x - DIAMOND_PX * h, y);
        context.fill();
      }, true);
    });
  }
}
