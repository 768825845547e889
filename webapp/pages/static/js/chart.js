// The one place that talks to the chart library. It draws what join.js says and knows nothing of where bars come from.

import {
  CandlestickSeries, CrosshairMode, HistogramSeries, LineStyle, createChart,
} from "../vendor/lightweight-charts/lightweight-charts.standalone.production.mjs";
import { candlePoint } from "./join.js";
import { LedgerStrip, STRIP_HEIGHT } from "./strip.js";
import { wash } from "./theme.js";

const BAR_SPACING_PX = 6.5;
const RIGHT_MARGIN_BARS = 8;
const AXIS_HEIGHT_PX = 30;
const FONT = "'Inter Variable', system-ui, sans-serif";

export class PriceChart {
  /** `hooks`: onHover(openTimeMs|null, point in CSS px), onRange(range of bar numbers). */
  constructor(element, hooks) {
    this.element = element;
    this.hooks = hooks;
    this.painted = false;
    this.chart = createChart(element, {
      autoSize: true,
      layout: { attributionLogo: false, fontFamily: FONT, fontSize: 11 },
      crosshair: { mode: CrosshairMode.Normal },
      rightPriceScale: { borderVisible: false, scaleMargins: { top: 0.1, bottom: 0.2 }, minimumWidth: 72 },
      timeScale: {
        borderVisible: false, barSpacing: BAR_SPACING_PX, rightOffset: RIGHT_MARGIN_BARS,
        minimumHeight: AXIS_HEIGHT_PX + STRIP_HEIGHT, minBarSpacing: 0.6, shiftVisibleRangeOnNewBar: true,
        allowShiftVisibleRangeOnWhitespaceReplacement: true,
      },
      handleScroll: { vertTouchDrag: false },
    });
    this.candles = this.chart.addSeries(CandlestickSeries, {
      lastValueVisible: false, priceLineVisible: false, borderVisible: true,
    });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume", priceFormat: { type: "volume" }, lastValueVisible: false, priceLineVisible: false,
    });
    this.chart.priceScale("volume").applyOptions({ scaleMargins: { top: 0.86, bottom: 0 } });
    this.strip = new LedgerStrip();
    this.candles.attachPrimitive(this.strip);
    this.chart.subscribeCrosshairMove((event) => this.#point(event));
    // A tap moves no crosshair.
    this.chart.subscribeClick((event) => this.#point(event));
    for (const kind of ["pointermove", "pointerdown"]) element.addEventListener(kind, (event) => this.#hoverStrip(event));
    element.addEventListener("pointerleave", (event) => { if (event.pointerType === "mouse") hooks.onHover(null); });
    this.chart.timeScale().subscribeVisibleLogicalRangeChange((range) => { if (range) hooks.onRange(range); });
  }

  /** Colours and candle style of the theme in force. */
  paint(colours, hollow) {
    this.colours = colours;
    const label = { labelBackgroundColor: colours.raise === "#f7f7f5" ? "#59636e" : "#2c3540" };
    this.chart.applyOptions({
      layout: { background: { type: "solid", color: colours.panel }, textColor: colours.muted },
      grid: { vertLines: { visible: false }, horzLines: { color: wash(colours.line, 0.5) } },
      crosshair: {
        vertLine: { color: colours.faint, style: LineStyle.Dotted, ...label },
        horzLine: { color: colours.faint, style: LineStyle.Dotted, ...label },
      },
    });
    this.candles.applyOptions({
      upColor: hollow ? colours.panel : colours.up, borderUpColor: colours.up, wickUpColor: colours.up,
      downColor: colours.down, borderDownColor: colours.down, wickDownColor: colours.down,
    });
    this.priceLine?.applyOptions({ color: colours.accent, axisLabelTextColor: colours.panel });
    this.strip.setColours(colours);
    if (this.series) this.set(this.series, true);
  }

  /** The symbol's own tick, the interval and the words of the time axis. */
  configure({ decimals, stepMs, formats }) {
    this.stepMs = stepMs;
    this.formats = formats;
    this.candles.applyOptions({ priceFormat: { type: "price", precision: decimals, minMove: 10 ** -decimals } });
    this.chart.applyOptions({
      localization: { timeFormatter: (time) => formats.crosshair(time * 1000, stepMs) },
      timeScale: {
        timeVisible: true, secondsVisible: stepMs < 60_000,
        tickMarkFormatter: (time, kind) => formats.tick(time * 1000, kind),
      },
    });
  }

  /** All bars of `series`. The view stays where it is with `keepView`, else it goes to the newest bars. */
  set(series, keepView) {
    const scale = this.chart.timeScale();
    const before = keepView && this.points?.length ? scale.getVisibleLogicalRange() : null;
    const firstBefore = this.points?.[0]?.time;
    this.series = series;
    this.points = series.points();
    this.candles.setData(this.points.map(({ time, bar }) => candlePoint(time, bar)));
    this.volume.setData(this.points.map(({ time, bar }) => this.#volumePoint(time, bar)));
    if (before && firstBefore !== undefined) {
      const shift = this.points.findIndex((point) => point.time >= firstBefore);
      const moved = shift > 0 ? shift : 0;
      scale.setVisibleLogicalRange({ from: before.from + moved, to: before.to + moved });
    } else {
      this.resetView();
    }
    this.strip.setSeries(series, this.points, this.stepMs);
  }

  /** The points of a Change of join.js; each is something the library takes. */
  update(points) {
    for (const { time, bar, older } of points) {
      this.candles.update(candlePoint(time, bar), older);
      this.volume.update(this.#volumePoint(time, bar), older);
      if (!older && time > (this.points.at(-1)?.time ?? -1)) this.points.push({ time, bar });
    }
    this.strip.refresh();
  }

  /** The last price, as a line in the accent colour. */
  setLastPrice(price) {
    if (!this.priceLine) {
      this.priceLine = this.candles.createPriceLine({
        price, color: this.colours.accent, lineWidth: 1, lineStyle: LineStyle.Solid, axisLabelVisible: true,
        axisLabelTextColor: this.colours.panel, title: "",
      });
    } else if (this.priceLine.options().price !== price) {
      this.priceLine.applyOptions({ price });
    }
  }

  clear() {
    this.series = null;
    this.points = [];
    this.candles.setData([]);
    this.volume.setData([]);
    this.strip.setSeries(null, this.points, this.stepMs);
    if (this.priceLine) this.candles.removePriceLine(this.priceLine);
    this.priceLine = null;
    this.chart.priceScale("right").applyOptions({ autoScale: true });
  }

  resetView() {
    const scale = this.chart.timeScale();
    scale.applyOptions({ barSpacing: BAR_SPACING_PX });
    scale.scrollToPosition(RIGHT_MARGIN_BARS, false);
  }

  toNewest() {
    this.chart.timeScale().scrollToPosition(RIGHT_MARGIN_BARS, false);
    this.chart.priceScale("right").applyOptions({ autoScale: true });
  }

  /** Move the view by a share of its width: -0.1 is a tenth back in time. */
  pan(share) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range) return;
    const step = (range.to - range.from) * share;
    scale.setVisibleLogicalRange({ from: range.from + step, to: range.to + step });
  }

  /** factor < 1 shows fewer, larger bars; the right edge stays. */
  zoom(factor) {
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (range) scale.setVisibleLogicalRange({ from: range.to - (range.to - range.from) * factor, to: range.to });
  }

  /** The bars in view, oldest first, for the table. */
  visibleBars() {
    const range = this.chart.timeScale().getVisibleLogicalRange();
    if (!range || !this.points) return [];
    const from = Math.max(0, Math.ceil(range.from));
    return this.points.slice(from, Math.max(0, Math.floor(range.to) + 1)).map(({ time }) => this.series.at(time)).filter(Boolean);
  }

  /** Bring the slot of this time into the middle; returns its open time and where it stands, null when not loaded. */
  show(timeMs) {
    const time = Math.floor(timeMs / this.stepMs) * this.stepMs;
    const points = this.points ?? [];
    let index = points.findIndex((point) => point.time >= time);
    if (index < 0) index = points.length;
    const open = this.strip.timeAt(index);
    if (open === null) return null;
    const scale = this.chart.timeScale();
    const range = scale.getVisibleLogicalRange();
    if (!range) return null;
    if (index < range.from || index > range.to) {
      const half = (range.to - range.from) / 2;
      scale.setVisibleLogicalRange({ from: index - half, to: index + half });
    }
    return { time: open, point: { x: scale.logicalToCoordinate(index), y: this.element.clientHeight / 3 } };
  }

  #point(event) {
    const time = event.point === undefined || event.logical === undefined ? null : this.strip.timeAt(event.logical);
    this.hooks.onHover(time, event.point ?? null);
  }

  /** The library reports no pointer over its time axis, where the ledger strip is. */
  #hoverStrip(event) {
    const box = this.element.getBoundingClientRect();
    if (event.clientY < box.bottom - AXIS_HEIGHT_PX - STRIP_HEIGHT || !this.points?.length) return;
    const x = event.clientX - box.left;
    const index = this.chart.timeScale().coordinateToLogical(x);
    this.hooks.onHover(index === null ? null : this.strip.timeAt(index), { x, y: event.clientY - box.top });
  }

  #volumePoint(time, bar) {
    if (!bar || bar.trade_count === 0) return { time: time / 1000 };
    const colour = +bar.close >= +bar.open ? this.colours.up : this.colours.down;
    return { time: time / 1000, value: +bar.base_volume, color: wash(colour, 0.45) };
  }
}
