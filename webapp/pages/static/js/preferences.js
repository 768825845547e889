// What a viewer has chosen, kept in this browser. A browser that keeps nothing still works.

const KEY = "candlewire.preferences";
const DEFAULTS = {
  theme: "system", palette: "green-red", candles: "solid", zone: "UTC", favourites: [], grouping: 1, minimumTrade: "0",
  interval: "1m", listSort: "volume", tab: "book",
};

class Preferences {
  constructor() {
    this.watchers = [];
    this.values = { ...DEFAULTS };
    try {
      Object.assign(this.values, JSON.parse(localStorage.getItem(KEY) ?? "{}"));
    } catch {
      // Storage is switched off or holds something else: the defaults serve.
    }
    if (!Array.isArray(this.values.favourites)) this.values.favourites = [];
  }

  get(name) {
    return this.values[name];
  }

  set(name, value) {
    this.values[name] = value;
    try {
      localStorage.setItem(KEY, JSON.stringify(this.values));
    } catch {
      // Not kept beyond this page, which is all that is lost.
    }
    for (const [names, call] of this.watchers) if (names.includes(name)) call(value, name);
  }

  /** `call(value, name)` after one of `names` was set. */
  watch(names, call) {
    this.watchers.push([names, call]);
  }

  isFavourite(symbol) {
    return this.values.favourites.includes(symbol);
  }

  toggleFavourite(symbol) {
    const kept = this.values.favourites.filter((name) => name !== symbol);
    this.set("favourites", kept.length === this.values.favourites.length ? [...kept, symbol] : kept);
  }
}

export const preferences = new Preferences();
