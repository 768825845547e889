// Tables that keep their rows: one per key, repainted in place, so that focus and open details stay where they are.
// A bad row names, in itself, the command that helps and what it does.

import { make, setData, setText } from "../dom.js";

/** "code" with its effect, into `cell`; nothing when there is no remedy. */
export function paintRemedy(cell, remedy) {
  cell.hidden = !remedy;
  if (!remedy) return;
  if (!cell.firstChild) cell.append(make("code"), make("span"));
  setText(cell.firstChild, remedy.command);
  setText(cell.lastChild, remedy.effect ?? "");
}

/** A list of [term, text] as dl rows. */
export function paintTerms(list, terms) {
  while (list.children.length > terms.length) list.lastChild.remove();
  terms.forEach(([term, text], index) => {
    const row = list.children[index] ?? list.appendChild(make("div", {}, make("dt"), make("dd")));
    setText(row.firstChild, term);
    setText(row.lastChild, text);
  });
}

const role = (element, name) => { element.setAttribute("role", name); return element; };

export class Rows {
  /**
   * `columns`: [{ head, title, value(item), state?(item), numeric?, more? }], the first names the row and opens its
   * details; on a narrow screen those with `more` show in an open row only.
   * `details(item)`: [[term, text]]; `buttons(item)`: [{ label, press }]; `empty`: words for no rows at all.
   */
  constructor(table, columns, { keyOf, details = null, buttons = null, empty }) {
    Object.assign(this, { table, columns, keyOf, details, buttons, empty, rows: new Map() });
    const heads = columns.map(({ head, title = "", numeric = true }) => {
      const cell = role(make("th", { scope: "col", title, className: numeric ? "figure-cell" : "" }, head), "columnheader");
      return cell;
    });
    table.style.setProperty("--columns", String(columns.length));
    role(table, "table");
    this.body = role(make("tbody"), "rowgroup");
    this.none = make("p", { className: "empty" });
    table.append(role(make("thead", {}, role(make("tr", {}, ...heads), "row")), "rowgroup"), this.body);
    table.after(this.none);
  }

  /** Null = not known. */
  paint(items) {
    this.none.hidden = Boolean(items?.length);
    if (!items?.length) setText(this.none, items ? this.empty : "N/A: not known at this moment.");
    const seen = new Set();
    (items ?? []).forEach((item, index) => {
      const key = this.keyOf(item);
      seen.add(key);
      const row = this.rows.get(key) ?? this.#make(key);
      if (this.body.children[index] !== row.element) this.body.insertBefore(row.element, this.body.children[index] ?? null);
      this.#paint(row, item);
    });
    for (const [key, row] of this.rows) {
      if (seen.has(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
  }

  #make(key) {
    const opens = Boolean(this.details || this.buttons);
    const name = opens ? make("button", { type: "button", className: "row-name" }) : make("span", { className: "row-name" });
    const cells = this.columns.map(({ head, numeric = true, more = false }, index) => {
      const cell = role(make("td", { className: `${numeric ? "figure-cell" : ""}${more ? " more" : ""}` }), index ? "cell" : "rowheader");
      cell.dataset.label = head;
      return cell;
    });
    cells[0].append(make("i", { className: "state-dot" }), name);
    const remedy = role(make("td", { className: "remedy", hidden: true }), "cell");
    const list = make("dl", { className: "terms" });
    const tools = make("div", { className: "row-tools" });
    const detail = role(make("td", { className: "detail", hidden: true }, list, tools), "cell");
    const element = role(make("tr", {}, ...cells, remedy, detail), "row");
    element.dataset.key = key;
    const row = { element, name, cells, remedy, list, tools, detail, item: null };
    if (opens) {
      name.setAttribute("aria-expanded", "false");
      name.addEventListener("click", () => this.#toggle(row));
    }
    this.rows.set(key, row);
    return row;
  }

  #toggle(row) {
    row.detail.hidden = !row.detail.hidden;
    row.name.setAttribute("aria-expanded", String(!row.detail.hidden));
    row.element.classList.toggle("is-open", !row.detail.hidden);
    this.#paintDetail(row);
  }

  #paint(row, item) {
    row.item = item;
    setData(row.element, "state", item.state ?? "ok");
    this.columns.forEach(({ value, state }, index) => {
      const cell = row.cells[index];
      setText(index ? cell : row.name, value(item));
      if (state) setData(cell, "state", state(item));
    });
    paintRemedy(row.remedy, item.state === "bad" ? item.remedy : null);
    this.#paintDetail(row);
  }

  #paintDetail(row) {
    if (row.detail.hidden) return;
    paintTerms(row.list, this.details?.(row.item) ?? []);
    const buttons = this.buttons?.(row.item) ?? [];
    while (row.tools.children.length > buttons.length) row.tools.lastChild.remove();
    buttons.forEach(({ label, press }, index) => {
      const button = row.tools.children[index] ?? row.tools.appendChild(make("button", { type: "button", className: "quiet" }));
      setText(button, label);
      button.onclick = press;
    });
  }
}
