// Actions: what will happen is read first, then confirmed; what became of it is listed.

import { openDialog } from "../dialogs.js";
import { byId, make, setData, setText } from "../dom.js";
import { readJson } from "./poll.js";

const MAX_RECENT = 12;
/** "reset_checkpoint" -> "Reset checkpoint". */
export function actionWords(action) {
  const words = action.replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** An argument as it stands in its field: times as ISO 8601, ids with commas. */
export function fieldText(name, value) {
  if (value === undefined || value === null) return "";
  if (["from", "to", "time"].includes(name) && typeof value === "number") return new Date(value).toISOString();
  return Array.isArray(value) ? value.join(", ") : String(value);
}

/** The arguments of the fields' texts; empty ones are left out. The server reads times and numbers in any spelling. */
export function argumentsOf(texts, types) {
  const found = {};
  for (const [name, raw] of Object.entries(texts)) {
    const text = raw.trim();
    if (text) found[name] = types[name] === "ids" ? text.split(/[\s,]+/).filter(Boolean) : text;
  }
  return found;
}

/** "symbol BTCUSDT, from 2026-11-21T14:00:00.000Z", in the order of `names`. */
export function argumentWords(given, names = []) {
  const ordered = Object.keys(given ?? {}).sort((left, right) => names.indexOf(left) - names.indexOf(right));
  return ordered.map((name) => `${name} ${fieldText(name, given[name])}`).join(", ");
}

export class Actions {
  /** `done({ action, given, state })`: something was asked for; figures may change. `choices(name)`: what an argument may be, where that is known. */
  constructor({ api, token, moment, done, choices }) {
    Object.assign(this, { api, token, moment, done, choices, known: new Map(), current: null, previewed: null, turn: 0 });
    const form = byId("action-form");
    form.addEventListener("submit", (event) => { event.preventDefault(); this.#confirm(); });
    form.addEventListener("input", () => this.#changed());
    byId("action-cancel").addEventListener("click", () => byId("action-dialog").close());
    byId("action-preview").addEventListener("click", () => this.#preview());
  }

  async refresh() {
    if (document.hidden) return;
    try {
      const { actions, recent } = await readJson(this.api);
      this.#offer(actions);
      this.#list(recent);
    } catch (error) {
      if (!this.known.size) setText(byId("actions-note"), `N/A: ${error.message}.`);
    }
  }

  /** The dialog of one action, its fields filled with what is known already. */
  open(action, given = {}) {
    const known = this.known.get(action);
    if (!known) return;
    this.current = known;
    setText(byId("action-title"), actionWords(action));
    setText(byId("action-about"), known.effect);
    setText(byId("action-command"), known.command ?? "");
    byId("action-fields").replaceChildren(...known.arguments.map((argument) => this.#field(argument, given[argument.name])));
    this.#changed();
    openDialog("action-dialog");
    if (this.#isFilled() && (Object.keys(given).length || !known.arguments.length)) this.#preview();
  }

  #field({ name, required, help }, value) {
    const input = make("input", { name, type: "text", required: Boolean(required), value: fieldText(name, value), autocomplete: "off", spellcheck: false });
    const parts = [make("span", {}, name.replaceAll("_", " ")), input];
    const choices = this.choices(name);
    if (choices.length) {
      const list = make("datalist", { id: `choices-${name}` }, ...choices.map((choice) => make("option", { value: choice })));
      input.setAttribute("list", list.id);
      parts.push(list);
    }
    if (help) parts.push(make("small", { id: `help-${name}` }, help));
    if (help) input.setAttribute("aria-describedby", `help-${name}`);
    return make("label", {}, ...parts);
  }

  #texts() {
    return Object.fromEntries([...byId("action-fields").querySelectorAll("input")].map((input) => [input.name, input.value]));
  }

  #isFilled() {
    return [...byId("action-fields").querySelectorAll("input")].every((input) => !input.required || input.value.trim());
  }

  /** Another argument needs another preview. */
  #changed() {
    this.turn += 1;
    this.previewed = null;
    byId("action-confirm").disabled = true;
    byId("action-preview").disabled = !this.#isFilled();
    this.#say("Read first what will happen, then confirm.", "calm");
  }

  #say(words, state) {
    const effect = byId("action-effect");
    setText(effect, words);
    setData(effect, "state", state);
  }

  #post(path, body) {
    return readJson(`${this.api}/${path}`, {
      method: "POST", headers: { "Content-Type": "application/json", Accept: "application/json", "X-CSRFToken": this.token }, body: JSON.stringify(body),
    });
  }

  async #preview() {
    const turn = this.turn += 1;
    const given = argumentsOf(this.#texts(), Object.fromEntries(this.current.arguments.map(({ name, type }) => [name, type])));
    try {
      const { effect } = await this.#post(`${this.current.action}/preview`, { arguments: given });
      if (turn !== this.turn) return;
      this.previewed = given;
      this.#say(effect, "told");
      byId("action-confirm").disabled = false;
      byId("action-confirm").focus();
    } catch (error) {
      if (turn === this.turn) this.#say(`Not possible: ${error.message}`, "failed");
    }
  }

  async #confirm() {
    if (!this.previewed) {
      if (this.#isFilled()) this.#preview();
      return;
    }
    const turn = this.turn += 1;
    byId("action-confirm").disabled = true;
    this.#say("Asked for.", "calm");
    try {
      const asked = { action: this.current.action, given: this.previewed };
      const { state, detail } = await this.#post(this.current.action, { arguments: this.previewed, confirm: true });
      if (turn === this.turn) this.#say([state, detail].filter(Boolean).join(": "), state === "failed" ? "failed" : "told");
      byId("action-dialog").close();
      this.done({ ...asked, state });
    } catch (error) {
      if (turn === this.turn) this.#say(`Not done: ${error.message}`, "failed");
    }
    this.previewed = null;
    this.refresh();
  }

  #offer(actions) {
    this.known = new Map(actions.map((action) => [action.action, action]));
    const key = JSON.stringify(actions);
    if (this.offered === key) return;
    this.offered = key;
    byId("actions-note").hidden = true;
    byId("action-list").replaceChildren(...actions.map(({ action, effect, command }) => {
      const button = make("button", { type: "button", className: "button" }, `${actionWords(action)}…`);
      button.addEventListener("click", () => this.open(action));
      button.dataset.action = action;
      return make("li", {}, button, make("span", {}, effect), make("code", {}, command ?? ""));
    }));
  }

  #list(recent) {
    const rows = (recent ?? []).slice(0, MAX_RECENT);
    const list = byId("recent-actions");
    byId("recent-empty").hidden = rows.length > 0;
    while (list.children.length > rows.length) list.lastChild.remove();
    rows.forEach((row, index) => {
      const item = list.children[index] ?? list.appendChild(make("li", {}, make("time"), make("b"), make("span"), make("span", { className: "outcome" })));
      const [time, name, what, outcome] = item.children;
      setData(item, "state", { done: "ok", failed: "failed", refused: "failed" }[row.state] ?? "waiting");
      setText(time, this.moment(row.requested_at_ms));
      setText(name, actionWords(row.action));
      const names = this.known.get(row.action)?.arguments.map((argument) => argument.name);
      setText(what, [argumentWords(row.arguments, names), `by ${row.requested_by}`].filter(Boolean).join(", "));
      setText(outcome, [row.state, row.detail].filter(Boolean).join(": "));
    });
  }
}
