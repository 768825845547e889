// The state of the data in figures, and the dead letters.

import { byId, make, setData, setText } from "../dom.js";
import { paintRemedy } from "./rows.js";
import { NA, bytes, count, seconds } from "./words.js";

const MAX_LETTERS = 50;
const MAX_PREVIEW = 400;
const LOW_DISK = 0.1;

const sum = (table) => (table ? Object.values(table).reduce((total, value) => total + value, 0) : null);
const named = (table) => (table && Object.keys(table).length ? Object.entries(table).map(([name, value]) => `${count(value)} ${name.replaceAll("_", " ")}`).join(", ") : "none");

/** [{ id, name, value, more, state, remedy }] of what `data` says; what is not known is N/A. */
export function figuresOfData(data, nowMs) {
  const { open_gaps: gaps, audit, dead_letters: letters, relay, disk, books } = data ?? {};
  const free = disk?.total_bytes ? disk.free_bytes / disk.total_bytes : null;
  const rolledMs = data?.last_roll_up_at_ms ?? null;
  const needy = audit ? audit.needs_person?.length ?? 0 : null;
  const badBooks = books?.filter((book) => book.state && !["exact", "ok", "live", "synced"].includes(book.state)) ?? [];
  return [
    {
      id: "gaps", name: "Open gaps", value: gaps ? count(gaps.count) : NA, more: gaps ? `${seconds(gaps.seconds)} missing` : "", state: gaps?.count ? "bad" : gaps ? "ok" : "unknown",
      remedy: { command: "candlewire backfill --reopen", effect: "opens again what was given up; open gaps are being repaired without it" },
    },
    {
      id: "audit", name: "Audit", value: audit ? `${count(audit.different)} different` : NA,
      more: audit ? `${count(audit.equal)} equal, ${count(audit.not_comparable)} not comparable, ${count(needy)} for a person` : "", state: needy ? "bad" : audit ? "ok" : "unknown",
      remedy: { command: "candlewire audit", effect: "compares the minutes with the exchange's own anew, and says what differs" },
    },
    {
      id: "letters", name: "Dead letters", value: letters ? count(letters.count) : NA, more: letters ? `${count(letters.last_hour)} in the last hour` : "",
      state: letters?.count ? "bad" : letters ? "ok" : "unknown",
      remedy: { command: "candlewire redrive", effect: "reads them again from the table below; dismiss what can never be read" },
    },
    { id: "rolled", name: "Last roll-up", value: rolledMs === null ? NA : `${seconds(Math.max(0, (nowMs - rolledMs) / 1000))} ago`, more: "", state: rolledMs === null ? "unknown" : "ok" },
    { id: "books", name: "Books", value: books ? count(books.length) : NA, more: books?.length ? (badBooks.length ? `${badBooks.length} not exact` : "all exact") : "", state: badBooks.length ? "bad" : books ? "ok" : "unknown" },
    { id: "relay", name: "Relay", value: relay ? `${count(relay.clients)} clients` : NA, more: relay ? `${bytes(relay.queue_bytes)} queued, ${count(relay.conflated_total)} conflated` : "", state: relay ? "ok" : "unknown" },
    { id: "drops", name: "Disconnects", value: relay?.disconnects ? count(sum(relay.disconnects)) : NA, more: relay?.disconnects ? named(relay.disconnects) : "", state: relay?.disconnects ? "ok" : "unknown" },
    {
      id: "disk", name: "Disk", value: disk ? `${bytes(disk.free_bytes)} free` : NA, more: disk ? `of ${bytes(disk.total_bytes)}${disk.path_label ? `, ${disk.path_label}` : ""}` : "", state: free === null ? "unknown" : free < LOW_DISK ? "bad" : "ok",
      remedy: { command: "candlewire retention", effect: "says what the topics keep on disk, and what shorter settings would" },
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
    Object.assign(this, { act, moment, drawn: null });
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
    const newest = letters?.newest?.slice(0, MAX_LETTERS) ?? [];
    byId("letters-block").hidden = !newest.length;
    const key = newest.map(({ id }) => id).join();
    if (this.drawn === key) return;
    this.drawn = key;
    const held = new Set([...this.list.querySelectorAll("input:checked")].map((box) => box.value));
    this.list.replaceChildren(...newest.map((letter) => this.#row(letter, held.has(String(letter.id)))));
    this.#offer();
  }

  #offer() {
    const marked = this.list.querySelectorAll("input:checked").length;
    const which = marked ? `${marked} marked` : "all shown";
    setText(byId("redrive-all"), `Re-drive ${which}…`);
    setText(byId("dismiss-all"), `Dismiss ${which}…`);
  }

  #row(letter, isMarked) {
    const box = make("input", { type: "checkbox", value: String(letter.id), checked: isMarked });
    const where = `${letter.topic}/${letter.partition} at ${count(letter.record_offset)}`;
    const words = make("span", { className: "letter-words" }, make("b", {}, letter.reason), make("span", {}, `${where}, ${this.moment(letter.received_at_ms)}`));
    const payload = make("code", { className: "payload" }, (letter.payload_preview ?? "").slice(0, MAX_PREVIEW));
    const item = make("li", {}, make("label", {}, box, words), payload);
    item.dataset.id = String(letter.id);
    return item;
  }
}
