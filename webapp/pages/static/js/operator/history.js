// What a topic, reader or room was: one small chart for each figure, all on one time axis, with one pointer.

import uPlot from "../../vendor/uplot/uPlot.esm.js";
import { byId, make, setText } from "../dom.js";
import { colours, wash } from "../theme.js";
import { readJson } from "./poll.js";
import { byName, nameWords } from "./words.js";

const CHART_PX = 58;
const AXIS_PX = 26;
const LABEL_PX = 84;
const MAX_CHARTS = 6;
/** Points further apart than this many usual steps have a hole between them. */
const HOLE_STEPS = 3;
/** Steps of an axis of seconds, as clocks have them. */
const CLOCK_STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 43_200, 86_400, 172_800, 604_800];
/** In the order of their worth; others follow as they come. Counters and offsets only ever rise: no chart. */
const FIRST = [
  "headroom_seconds", "lag_seconds", "lag_records", "measured_oldest_age_s", "bytes", "records_per_second", "cpu_share", "memory_bytes", "restarts",
];
const LEFT_OUT = /offset|at_ms|partitions|trend|_total$/;

/** Names of the figures worth a chart, from points [{ at_ms, name: value }]. */
export function figuresOf(points) {
  const found = new Set(points.flatMap((point) => Object.keys(point).filter((name) => typeof point[name] === "number" && !LEFT_OUT.test(name))));
  const rest = [...found].filter((name) => !FIRST.includes(name)).sort();
  return [...FIRST.filter((name) => found.has(name)), ...rest].slice(0, MAX_CHARTS);
}

/** Columns [times, values...] with a null where samples are missing, so that no line is drawn through what is not known. */
export function columnsOf(points, names) {
  const sorted = points.filter((point) => Number.isFinite(point.at_ms)).sort((left, right) => left.at_ms - right.at_ms);
  const steps = sorted.slice(1).map((point, index) => point.at_ms - sorted[index].at_ms).sort((left, right) => left - right);
  const usual = steps[Math.floor(steps.length / 2)] ?? Infinity;
  const times = [];
  const values = names.map(() => []);
  let before = null;
  for (const point of sorted) {
    if (before !== null && point.at_ms - before > HOLE_STEPS * usual) {
      times.push(before + usual);
      for (const column of values) column.push(null);
    }
    times.push(point.at_ms);
    names.forEach((name, index) => values[index].push(typeof point[name] === "number" ? point[name] : null));
    before = point.at_ms;
  }
  return [times, ...values];
}

/** "reader:inserter:kline_1s/0" -> "reader inserter kline_1s/0". */
export const subjectWords = (subject) => subject.replaceAll(":", " ");

export class HistoryPanel {
  /** `now()`: server time in ms. */
  constructor({ api, formats, now }) {
    Object.assign(this, { api, formats, now, charts: [], names: [], chosen: null, spanMs: 3_600_000, asked: 0 });
    this.select = byId("history-subject");
    this.select.addEventListener("change", () => this.choose(this.select.value));
    byId("history-spans").addEventListener("click", (event) => {
      const span = event.target.closest("button")?.dataset.span;
      if (!span) return;
      this.spanMs = Number(span);
      for (const button of byId("history-spans").children) button.setAttribute("aria-pressed", String(button.dataset.span === span));
      this.refresh();
    });
    new ResizeObserver(() => this.#resize()).observe(byId("history-charts"));
  }

  /** What can be chosen; the first stands until somebody chooses. */
  offer(subjects) {
    const held = this.chosen;
    if (this.offered !== subjects.join()) {
      this.offered = subjects.join();
      this.select.replaceChildren(...subjects.map((subject) => make("option", { value: subject }, subjectWords(subject))));
    }
    if (held === null && subjects.length) this.choose(subjects[0]);
    else if (held !== null) this.select.value = held;
  }

  choose(subject) {
    this.chosen = subject;
    this.select.value = subject;
    return this.refresh();
  }

  async refresh() {
    if (this.chosen === null || document.hidden) return;
    const turn = this.asked += 1;
    const to = Math.round(this.now());
    const query = new URLSearchParams({ subject: this.chosen, from: String(to - this.spanMs), to: String(to) });
    try {
      const { points } = await readJson(`${this.api}?${query}`);
      if (turn === this.asked) this.#show(points, to);
    } catch (error) {
      if (turn !== this.asked) return;
      byId("history-charts").classList.toggle("is-empty", !this.names.length);
      this.#say(`No history: ${error.message}.`);
    }
  }

  #say(words) {
    const note = byId("history-note");
    note.hidden = !words;
    setText(note, words);
  }

  #show(points, to) {
    const names = figuresOf(points);
    byId("history-charts").classList.toggle("is-empty", !names.length);
    this.#say(names.length ? "" : "No samples yet of this in that time. One is taken each ten seconds.");
    if (names.join() !== this.names.join() || this.drawnTheme !== colours().bg) this.#build(names);
    const [times, ...values] = columnsOf(points, names);
    this.range = [to - this.spanMs, to];
    this.charts.forEach(({ plot }, index) => plot.setData([times, values[index]]));
    this.#values(null);
  }

  /** The theme or the zone has changed. */
  restyle(formats = this.formats) {
    this.formats = formats;
    const data = this.charts.map(({ plot }) => plot.data);
    this.#build(this.names);
    this.charts.forEach(({ plot }, index) => { if (data[index]) plot.setData(data[index]); });
    this.#values(null);
  }

  #build(names) {
    for (const { plot } of this.charts) plot.destroy();
    this.names = names;
    this.drawnTheme = colours().bg;
    this.charts = names.map((name, index) => {
      const value = make("b");
      const box = make("div", { className: "small-chart" }, make("p", { className: "chart-name" }, make("span", {}, nameWords(name)), value));
      byId("history-charts").append(box);
      const plot = new uPlot(this.#options(name, index === names.length - 1), [[], []], box);
      return { name, value, plot, box };
    });
    byId("history-charts").replaceChildren(...this.charts.map(({ box }) => box));
  }

  #options(name, isLast) {
    const { line, muted, text } = colours();
    const font = "11px 'Inter Variable', system-ui, sans-serif";
    const grid = { stroke: line, width: 1 };
    return {
      width: this.#width(), height: CHART_PX + (isLast ? AXIS_PX : 0), ms: 1, legend: { show: false }, padding: [6, 8, isLast ? 0 : 6, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "operator" }, points: { size: 5, fill: text } },
      scales: {
        x: { time: true, range: () => this.range ?? [0, 1] },
        y: { range: (plot, low, high) => (low === null ? [0, 1] : [Math.min(0, low), high > low ? high * 1.05 : Math.max(1, high * 1.5)]) },
      },
      axes: [
        { size: isLast ? AXIS_PX : 0, stroke: muted, font, grid, ticks: { show: false }, space: 90, values: (plot, ticks) => ticks.map((time) => (isLast ? this.#tick(time) : "")) },
        { ...(/(_s|_seconds)$/.test(name) && !/per_second/.test(name) ? { incrs: CLOCK_STEPS } : {}), size: LABEL_PX, stroke: muted, font, grid, ticks: { show: false }, space: 18, values: (plot, ticks) => ticks.map((value) => byName(name, value)) },
      ],
      series: [{}, { stroke: text, width: 1.25, fill: wash(muted, 0.08), points: { show: false } }],
      hooks: { setCursor: [(plot) => this.#values(plot.cursor.idx ?? null)] },
    };
  }

  #tick(time) {
    return this.spanMs > 86_400_000 ? this.formats.moment(time, this.now()) : this.formats.minutes(time);
  }

  /** The figures under the pointer, else the newest ones. */
  #values(index) {
    for (const { name, value, plot } of this.charts) {
      const [times, figures] = plot.data;
      if (!times?.length) continue;
      const at = index ?? times.length - 1;
      const moment = index === null ? "" : ` at ${this.formats.seconds(times[at])}`;
      setText(value, `${byName(name, figures[at])}${moment}`);
    }
  }

  #width() {
    return Math.max(240, Math.floor(byId("history-charts").clientWidth));
  }

  #resize() {
    const width = this.#width();
    this.charts.forEach(({ plot }, index) => {
      if (plot.width !== width) plot.setSize({ width, height: CHART_PX + (index === this.charts.length - 1 ? AXIS_PX : 0) });
    });
  }
}
