// The retention advisor: what the broker's settings keep, what an outage costs, and what others would do. Reads only.

import { byId, make, setData, setText } from "../dom.js";
import { readJson } from "./poll.js";
import { NA, bytes, count, seconds, setting } from "./words.js";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const MIB = 1_048_576;
const SETTLED_MS = 200;

/** What a slider may stand at, beside the present value of the topic. `name`: as the API and the command spell it. */
export const SLIDERS = [
  { name: "retention_ms", label: "Retention", words: setting, steps: [MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, DAY, 2 * DAY, 7 * DAY] },
  { name: "segment_ms", label: "Segment", words: setting, steps: [10 * SECOND, 30 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 6 * HOUR, DAY, 7 * DAY] },
  { name: "segment_bytes", label: "Segment size", words: bytes, steps: [MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB] },
  { name: "check_interval_ms", label: "Check interval", words: setting, steps: [SECOND, 5 * SECOND, 10 * SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR] },
  { name: "outage_minutes", label: "A reader is away", words: (value) => seconds(value * 60), steps: [1, 2, 5, 10, 15, 20, 30, 45, 60, 120, 240, 480, 1440, 4320], present: 30 },
  { name: "margin", label: "Wanted margin", words: (value) => `${value} times`, steps: [1, 1.5, 2, 3, 4, 5, 10], present: 2 },
];
const SETTINGS = new Set(SLIDERS.slice(0, 4).map(({ name }) => name));

/** The steps with the present value in its place. */
export function stepsWith(steps, present) {
  return present === null || present === undefined || present < 0 ? steps : [...new Set([...steps, present])].sort((left, right) => left - right);
}

const span = (bounds, form) => {
  if (!bounds) return NA;
  if (bounds.max === null) return `${form(bounds.min)} to no limit`;
  return bounds.min === bounds.max ? form(bounds.max) : `${form(bounds.min)} to ${form(bounds.max)}`;
};

/** [[name, words]] of one set of figures: what is kept, what it takes, what the outage costs. */
export function figuresOfAdvice(figures) {
  if (!figures) return [];
  const { outage } = figures;
  const repair = outage?.repair;
  return [
    ["Retention", setting(figures.retention_ms)],
    ["Segment", `${setting(figures.segment_ms)} or ${bytes(figures.segment_bytes)}`],
    ["Check interval", setting(figures.check_interval_ms)],
    ["Oldest record", span(figures.predicted_oldest_age_s, seconds)],
    ["At this rate", span(figures.expected_oldest_age_s, seconds)],
    ["Disk, at most", bytes(figures.disk_bytes)],
    ["Margin", figures.margin === null || figures.margin === undefined ? (figures.retention_ms === -1 ? "any" : NA) : `${Number(figures.margin.toFixed(1))} times`],
    ["Outage loses", outage ? (outage.lost_s.max === 0 ? "nothing" : span(outage.lost_s, seconds)) : NA],
    ["Records lost", outage?.lost_records ? (outage.lost_records.max === 0 ? "none" : span(outage.lost_records, count)) : NA],
    ["Repair from REST", repair ? (repair.calls === 0 ? "none needed" : `${count(repair.rows)} rows, weight ${count(repair.weight)}, ${seconds(repair.seconds)} or more`) : "not possible"],
  ];
}

/** Settings that were moved away from the present ones, as the command takes them. */
export function moved(chosen, present) {
  return Object.entries(chosen).filter(([name, value]) => SETTINGS.has(name) && value !== present?.[name]).map(([name, value]) => `${name}=${value}`);
}

export class Advisor {
  constructor({ api }) {
    Object.assign(this, { api, rows: [], chosen: {}, turn: 0, isSeen: false, standing: "" });
    this.topic = make("select", { name: "topic" });
    this.sliders = SLIDERS.map((slider) => this.#slider(slider));
    byId("advisor").append(make("label", { className: "slider" }, make("span", {}, "Topic"), this.topic), ...this.sliders.map(({ label }) => label));
    byId("advisor").addEventListener("submit", (event) => event.preventDefault());
    this.topic.addEventListener("change", () => this.#follow());
    new IntersectionObserver((entries) => {
      if (this.isSeen || !entries.some((entry) => entry.isIntersecting)) return;
      this.isSeen = true;
      this.#ask();
    }, { rootMargin: "200px" }).observe(byId("retention"));
  }

  /** The topics of the last answer; sliders follow the present settings until they are moved. */
  offer(rows) {
    this.rows = rows;
    const standing = JSON.stringify(rows.map((row) => [row.topic, ...[...SETTINGS].map((name) => row[name])]));
    if (standing === this.standing) return;
    this.standing = standing;
    const held = this.topic.value;
    this.topic.replaceChildren(...rows.map((row) => make("option", { value: row.topic }, row.topic)));
    if (rows.some((row) => row.topic === held)) this.topic.value = held;
    this.#follow();
  }

  get present() {
    return this.rows.find((row) => row.topic === this.topic.value);
  }

  #slider(slider) {
    const input = make("input", { type: "range", name: slider.name, min: "0", step: "1" });
    const output = make("output");
    input.addEventListener("input", () => {
      this.chosen[slider.name] = Number(input.steps[Number(input.value)]);
      this.#tell(slider, input, output);
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#ask(), SETTLED_MS);
    });
    return { slider, input, output, label: make("label", { className: "slider" }, make("span", {}, slider.label), input, output) };
  }

  #tell(slider, input, output) {
    const words = slider.words(Number(input.steps[Number(input.value)]));
    setText(output, words);
    input.setAttribute("aria-valuetext", words);
  }

  /** Another topic: its own settings again. */
  #follow() {
    for (const { slider, input, output } of this.sliders) {
      const present = slider.present ?? this.present?.[slider.name] ?? null;
      if (SETTINGS.has(slider.name)) delete this.chosen[slider.name];
      input.steps = stepsWith(slider.steps, present);
      input.max = String(input.steps.length - 1);
      const value = this.chosen[slider.name] ?? present;
      const at = input.steps.indexOf(value);
      input.value = String(at < 0 ? input.steps.length - 1 : at);
      this.#tell(slider, input, output);
      input.disabled = value === null;
      if (at < 0) setText(output, value === -1 ? "unlimited" : NA);
    }
    if (this.isSeen) this.#ask();
  }

  async #ask() {
    // Seen before the first figures have come: it is asked with the topics.
    if (!this.topic.value) return;
    const turn = this.turn += 1;
    const query = new URLSearchParams({ topic: this.topic.value });
    for (const [name, value] of Object.entries(this.chosen)) query.set(name, String(value));
    try {
      const answer = await readJson(`${this.api}?${query}`);
      if (turn === this.turn) this.#show(answer);
    } catch (error) {
      if (turn !== this.turn) return;
      byId("advice").replaceChildren(make("p", { className: "empty" }, `N/A: ${error.message}.`));
    }
  }

  #show(answer) {
    const row = answer.topics.find(({ topic }) => topic === this.topic.value);
    if (!row) {
      byId("advice").replaceChildren(make("p", { className: "empty" }, "N/A: the broker does not have this topic."));
      return;
    }
    const sets = [["now", row], ["what if", row.what_if ?? row], ["proposed", row.proposal]].map(([name, figures]) => ({ name, figures: figuresOfAdvice(figures) }));
    const head = make("tr", {}, make("th", {}, ""), ...sets.map(({ name }) => make("th", { scope: "col" }, name)));
    const lines = sets[0].figures.map(([name, now], index) => {
      const cells = sets.map(({ figures }) => {
        const cell = make("td", {}, figures[index]?.[1] ?? NA);
        setData(cell, "differs", String(figures[index]?.[1] !== now));
        return cell;
      });
      return make("tr", {}, make("th", { scope: "row" }, name), ...cells);
    });
    const tried = row.what_if ?? row;
    const warnings = tried.warnings.map(({ text }) => make("li", {}, text));
    const table = make("table", {}, make("thead", {}, head), make("tbody", {}, ...lines));
    byId("advice").replaceChildren(
      make("div", { className: "advice-table" }, table), make("p", { className: "formula" }, `${row.what_if ? "What if: " : ""}${tried.formula}`),
      make("ul", { className: "warnings" }, ...warnings), this.#command(row),
    );
  }

  #command(row) {
    const settings = moved(this.chosen, row);
    const apply = settings.length ? settings.map((setting) => `--apply ${setting}`).join(" ") : "--apply proposal";
    const words = settings.length ? "alters the broker and topics.toml to this, after asking" : "alters the broker and topics.toml to what is proposed, after asking";
    return make("p", { className: "remedy calm" }, make("code", {}, `candlewire retention --topic ${row.topic} ${apply}`), make("span", {}, words));
  }
}
