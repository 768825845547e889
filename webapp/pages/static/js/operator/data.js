// The state of the data in figures, and the dead letters.

import { byId, make, setData, setText } from "../dom.js";
import { paintRemedy } from "./rows.js";
import { NA, bytes, count, seconds } from "./words.js";

const MAX_LETTERS = 50;
const MAX_PREVIEW = 400;
const EXACT = new Set(["exact", "ok", "live", "synced"]);

const sum = (table) => (table ? Object.values(table).reduce((total, value) => total + value, 0) : null);
const named = (table) => (table && Object.keys(table).length ? Object.entries(table).map(([name, value]) => `${count(value)} ${name.replaceAll("_", " ")}`).join(", ") : "none");

const known = (value) => typeof value === "number";
const stateOf = (value, isBad) => (known(value) ? (isBad ? "bad" : "ok") : "unknown");

/** [{ id, name, value, more, state, remedy }] of what `data` says; what is not known is N/A. */
export function figuresOfData(data, nowMs) {
  const { open_gaps: gaps = {}, audit = {}, dead_letters: letters = {}, relay = {}, disk = {}, books = null } = data ?? {};
  const rolledMs = data?.last_roll_up_at_ms ?? null;
  const needy = audit.needs_person?.length ?? 0;
  const inexact = books?.filter((book) => book.is_exact === false || (book.state && !EXACT.has(book.state))) ?? [];
  return [
    {
      id: "gaps", name: "Open gaps", value: count(gaps.count), more: known(gaps.count) ? `${seconds(gaps.seconds)} missing` : "", state: stateOf(gaps.count, gaps.count > 0),
      remedy: { command: "candlewire logs aggregator", effect: "tells how the repair goes; it needs no help unless the exchange is away" },
    },
    {
      id: "audit", name: "Audit, last day", value: known(audit.different) ? `${count(audit.different)} different` : NA,
      more: known(audit.equal) ? `${count(audit.equal)} equal, ${count(audit.not_comparable)} not comparable, ${count(needy)} for a person` : "", state: stateOf(audit.different, needy > 0),
      remedy: { command: "candlewire audit", effect: "lists the minutes that differ from the exchange's own; the repair below compares their seconds, and corrects them" },
    },
    {
      id: "letters", name: "Dead letters", value: count(letters.count), more: known(letters.last_hour) ? `${count(letters.last_hour)} in the last hour` : "", state: stateOf(letters.count, letters.count > 0),
      remedy: { command: "candlewire letters redrive ID...", effect: "tries them again, as the buttons below do; what can never be read is dismissed" },
    },
    { id: "rolled", name: "Last roll-up", value: rolledMs === null ? NA : `${seconds(Math.max(0, (nowMs - rolledMs) / 1000))} ago`, more: "", state: stateOf(rolledMs, false) },
    { id: "books", name: "Books", value: books?.length === 0 ? "none kept" : count(books?.length), more: books?.length ? (inexact.length ? `${inexact.length} not exact` : "all exact") : "", state: stateOf(books?.length, inexact.length > 0) },
    { id: "relay", name: "Relay clients", value: count(relay.clients), more: known(relay.clients) ? `${bytes(relay.queue_bytes)} queued, ${count(relay.conflated_total)} conflated` : "", state: stateOf(relay.clients, false) },
    { id: "drops", name: "Disconnects", value: count(sum(relay.disconnects)), more: relay.disconnects ? named(relay.disconnects) : "", state: stateOf(sum(relay.disconnects), false) },
    {
      id: "disk", name: "Disk", value: known(disk.free_bytes) ? `${bytes(disk.free_bytes)} free` : NA, more: known(disk.total_bytes) ? `of ${bytes(disk.total_bytes)}, ${disk.path_label}` : "",
      state: stateOf(disk.low_bytes, disk.free_bytes < disk.low_bytes), remedy: { command: "candlewire doctor", effect: "says what of this machine is short; candlewire retention what the topics take" },
    },
  ];
}

export function paintData(data, nowMs) {
  const list = byId("data-figures");
  figuresOfData(data, nowMs).forEach((figure, index) => {
    const row = list.children[index] ?? list.appendChild(make("div", {}, make("dt"), make("dd", {}, make("b"), make("span"), make("span", { className: "remedy" }))));
    const [value, more, help] = row.lastChild.children;
    setData(row, "state", figure.state);
    setData(row, "figure", figure.id);
    setText(row.firstChild, figure.name);
    setText(value, figure.value);
    setText(more, figure.more);
    paintRemedy(help, figure.state === "bad" ? figure.remedy : null);
  });
}

/** Dead letters, newest first, each with its two ways out. `act(action, arguments)` opens the dialog. */
export class DeadLetters {
  constructor({ act, moment }) {
    Object.assign(this, { act, moment, drawn: null, gone: new Set() });
    this.list = byId("dead-letters");
    for (const [id, action] of [["redrive-all", "redrive"], ["dismiss-all", "dismiss"]]) {
      byId(id).addEventListener("click", () => this.act(action, { ids: this.chosen() }));
    }
    this.list.addEventListener("change", () => this.#offer());
  }

  /** Ids with a mark; all that are shown when none has one. */
  chosen() {
    const boxes = [...this.list.querySelectorAll("input")];
    const marked = boxes.filter((box) => box.checked);
    return (marked.length ? marked : boxes).map((box) => Number(box.value));
  }

  paint(letters) {
    const newest = letters?.newest?.filter(({ id }) => !this.gone.has(id)).slice(0, MAX_LETTERS) ?? [];
    byId("letters-block").hidden = !newest.length;
    const key = newest.map(({ id }) => id).join();
    if (this.drawn === key) return;
    this.drawn = key;
    const held = new Set([...this.list.querySelectorAll("input:checked")].map((box) => box.value));
    this.list.replaceChildren(...newest.map((letter) => this.#row(letter, held.has(String(letter.id)))));
    this.#offer();
  }

  /** These were dismissed: they are counted again only some seconds later. */
  forget(ids) {
    for (const id of ids) this.gone.add(Number(id));
  }

  #offer() {
    const marked = this.list.querySelectorAll("input:checked").length;
    const which = marked ? `${marked} marked` : "all shown";
    setText(byId("redrive-all"), `Re-drive ${which}…`);
    setText(byId("dismiss-all"), `Dismiss ${which}…`);
  }

  #row(letter, isMarked) {
    const box = make("input", { type: "checkbox", value: String(letter.id), checked: isMarked });
    // A frame that the producer could not read never became a record of its topic.
    const where = known(letter.record_offset) ? `${letter.topic}/${letter.partition} at ${count(letter.record_offset)}` : letter.topic;
    const words = make("span", { className: "letter-words" }, make("b", {}, letter.reason), make("span", {}, `${where}, ${this.moment(letter.received_at_ms)}`));
    const payload = make("code", { className: "payload" }, (letter.payload_preview ?? "").slice(0, MAX_PREVIEW));
    const item = make("li", {}, make("label", {}, box, words), payload);
    item.dataset.id = String(letter.id);
    return item;
  }
}
