// The symbol menu: search, favourites, sort, keyboard. The same list fills the dialog and the phone's tab.

import { make, setData, setText } from "./dom.js";
import { changeWords, decimalsOf, direction, figure } from "./format.js";
import { SORTS, rankMarkets } from "./markets.js";
import { frame } from "./frame.js";
import { preferences } from "./preferences.js";

const MAX_ROWS_SHOWN = 50;
let lists = 0;

export class SymbolList {
  /** `choose(symbol)` on click or Enter; `current()` names the symbol on screen. */
  constructor(holder, markets, { choose, current }) {
    Object.assign(this, { markets, choose, current });
    this.id = `symbol-list-${(lists += 1)}`;
    this.sort = preferences.get("listSort");
    this.direction = SORTS[this.sort]?.first ?? -1;
    this.selected = 0;
    this.shown = [];
    this.search = make("input", { className: "list-search", type: "search", placeholder: "Search symbols", autocomplete: "off", spellcheck: false });
    this.search.setAttribute("role", "combobox");
    this.search.setAttribute("aria-label", "Search symbols");
    this.search.setAttribute("aria-controls", this.id);
    this.search.setAttribute("aria-expanded", "true");
    this.heads = this.#heads();
    this.list = make("div", { className: "list", id: this.id });
    this.list.setAttribute("role", "listbox");
    this.list.setAttribute("aria-label", "Symbols");
    this.note = make("p", { className: "list-note" });
    holder.append(this.search, this.heads, this.list, this.note);
    this.search.addEventListener("input", () => { this.selected = 0; this.paint(); });
    this.search.addEventListener("keydown", (event) => this.#key(event));
    this.list.addEventListener("click", (event) => this.#click(event));
    preferences.watch(["favourites"], () => { if (this.open) this.paint(); });
    this.refresh = () => frame.paint(this.id, () => this.paint());
  }

  show() {
    this.open = true;
    this.selected = 0;
    this.markets.watch(this.refresh);
    this.paint();
    this.markets.load().catch((error) => {
      setText(this.note, `The list of symbols could not be read: ${error.message}.`);
      this.note.hidden = false;
    });
  }

  hide() {
    this.open = false;
    this.search.value = "";
    this.markets.unwatch(this.refresh);
  }

  paint() {
    const rows = [...this.markets.rows.values()];
    const favourites = preferences.get("favourites");
    const ranked = rankMarkets(rows, { words: this.search.value, sort: this.sort, direction: this.direction, favourites });
    this.shown = ranked.slice(0, MAX_ROWS_SHOWN);
    this.selected = Math.max(0, Math.min(this.selected, this.shown.length - 1));
    while (this.list.children.length > this.shown.length) this.list.lastChild.remove();
    this.shown.forEach((row, index) => this.#row(row, index, favourites.includes(row.symbol)));
    if (this.shown.length) this.search.setAttribute("aria-activedescendant", `${this.id}-${this.selected}`);
    const more = ranked.length - this.shown.length;
    const words = !rows.length ? "The symbols of this exchange appear here in a moment."
      : !ranked.length ? `No symbol has “${this.search.value.trim()}” in its name.` : more > 0 ? `${more} more; type to narrow.` : "";
    setText(this.note, words);
    this.note.hidden = !words;
  }

  #heads() {
    const heads = make("div", { className: "list-sort" }, make("span"));
    for (const [name, words] of [["symbol", "Symbol"], ["last", "Last"], ["change", "24 h"]]) {
      const button = make("button", { type: "button" }, words);
      button.addEventListener("click", () => {
        this.direction = this.sort === name ? -this.direction : SORTS[name].first;
        this.sort = name;
        for (const other of heads.querySelectorAll("button")) other.setAttribute("aria-pressed", String(other === button));
        preferences.set("listSort", name);
        this.paint();
      });
      heads.append(button);
    }
    return heads;
  }

  #row(row, index, starred) {
    let element = this.list.children[index];
    if (!element) {
      element = make("div", { className: "list-row", id: `${this.id}-${index}` },
        make("button", { type: "button", className: "star", tabIndex: -1 }), make("span", {}, make("b"), make("small")), make("span"), make("span"));
      element.setAttribute("role", "option");
      this.list.append(element);
    }
    const [star, name, last, change] = element.children;
    setData(element, "symbol", row.symbol);
    element.setAttribute("aria-selected", String(index === this.selected));
    element.setAttribute("aria-current", String(row.symbol === this.current()));
    star.setAttribute("aria-pressed", String(starred));
    star.setAttribute("aria-label", `${starred ? "Remove" : "Add"} ${row.symbol} ${starred ? "from" : "to"} favourites`);
    setText(star, starred ? "★" : "☆");
    setText(name.children[0], row.base ?? row.symbol);
    setText(name.children[1], row.quote ? ` / ${row.quote}` : "");
    setText(last, figure(row.last, decimalsOf(row.tick)));
    setText(change, changeWords(row.change ?? null));
    setData(change, "direction", direction(row.change ?? 0));
  }

  #click(event) {
    const symbol = event.target.closest(".list-row")?.dataset.symbol;
    if (!symbol) return;
    if (event.target.closest(".star")) preferences.toggleFavourite(symbol);
    else this.choose(symbol);
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) {
      this.selected = Math.max(0, Math.min(this.shown.length - 1, this.selected + step));
      this.paint();
      this.list.children[this.selected]?.scrollIntoView({ block: "nearest" });
    } else if (event.key === "Enter") {
      this.#enter();
    } else {
      return;
    }
    event.preventDefault();
  }

  /** Who types faster than the list comes still gets what was typed. */
  async #enter() {
    await this.markets.load().catch(() => null);
    this.paint();
    const row = this.shown[this.selected];
    if (row && this.open) this.choose(row.symbol);
  }
}
