// The market list: one table, live, sorted and searched here; fifty rows a page, however many symbols there are.

import { badgeState } from "./badge.js";
import { byId, make, setData, setText } from "./dom.js";
import { changeWords, compact, decimalsOf, direction, figure } from "./format.js";
import { frame } from "./frame.js";
import { LiveClient } from "./live.js";
import { Markets, SORTS, rankMarkets } from "./markets.js";
import { preferences } from "./preferences.js";
import { makeSparkline, updateSparkline } from "./sparkline.js";
import { toggleTheme, watchTheme } from "./theme.js";
import { zoneFormats } from "./timezone.js";

const PAGE_ROWS = 50;
const SKELETON_ROWS = 5;
const RELOAD_EVERY_MS = 120_000;
/** While the history of some symbol is still on its way, its line is short: look again sooner. */
const RELOAD_SOON_MS = 10_000;
const FULL_LINE_POINTS = 40;

const config = JSON.parse(byId("config").textContent);
const clock = () => performance.timeOrigin + performance.now();
const formats = zoneFormats(preferences.get("zone"));
const body = document.querySelector("#markets tbody");
const state = { sort: "volume", direction: -1, page: 0, words: "", favouritesOnly: false, newsAt: null, failed: null };
let socket = { state: "connecting", tries: 0 };
const live = new LiveClient({ url: config.streamUrl, clock, onState: (next) => { socket = next; } });
const markets = new Markets(config.api.symbols, live);

function shownRows() {
  const favourites = preferences.get("favourites");
  const rows = [...markets.rows.values()].filter((row) => !state.favouritesOnly || favourites.includes(row.symbol));
  return rankMarkets(rows, { ...state, favourites });
}

function paint() {
  const ranked = shownRows();
  const pages = Math.max(1, Math.ceil(ranked.length / PAGE_ROWS));
  state.page = Math.max(0, Math.min(state.page, pages - 1));
  const rows = ranked.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS);
  for (const skeleton of body.querySelectorAll(".skeleton-row")) if (markets.loaded || state.failed) skeleton.remove();
  while (body.querySelectorAll("tr:not(.skeleton-row)").length > rows.length) body.lastChild.remove();
  rows.forEach((row, index) => paintRow(row, index));
  for (const head of document.querySelectorAll("th[data-sort]")) {
    if (head.dataset.sort === state.sort) head.setAttribute("aria-sort", state.direction > 0 ? "ascending" : "descending");
    else head.removeAttribute("aria-sort");
  }
  byId("pages").hidden = pages < 2;
  setText(byId("page-words"), `${state.page + 1} of ${pages}`);
  byId("previous").disabled = state.page === 0;
  byId("next").disabled = state.page >= pages - 1;
  const all = markets.rows.size;
  setText(byId("count"), markets.loaded ? (ranked.length === all ? `${all} symbols` : `${ranked.length} of ${all}`) : "");
  paintEmpty(ranked.length, all);
}

function paintEmpty(found, all) {
  const empty = byId("empty");
  empty.hidden = found > 0 || !(markets.loaded || state.failed);
  const words = state.failed ? `The list could not be read: ${state.failed}. It is asked for again.`
    : !all ? "No symbols yet. They appear here as soon as the exchange has named them, a few seconds after the start."
      : state.favouritesOnly && !state.words ? "No favourites yet. The star in a row makes one."
        : `No symbol has “${state.words.trim()}” in its name.`;
  setText(empty, words);
}

function makeRow() {
  const link = make("a", {}, make("span"), make("small"));
  const row = make("tr", {}, make("td", {}, make("button", { type: "button", className: "star" })), make("td", {}, link),
    make("td", { className: "last" }), make("td"), make("td", { className: "muted wide-only" }),
    make("td", { className: "muted wide-only" }), make("td", { className: "middle-only" }), make("td", {}, makeSparkline()));
  body.append(row);
  return row;
}

function paintRow(row, index) {
  const element = body.children[index] ?? makeRow();
  const [star, name, last, change, high, low, turnover, spark] = element.children;
  const decimals = decimalsOf(row.tick);
  const starred = preferences.isFavourite(row.symbol);
  setData(element, "symbol", row.symbol);
  setText(star.firstChild, starred ? "★" : "☆");
  star.firstChild.setAttribute("aria-pressed", String(starred));
  star.firstChild.setAttribute("aria-label", `Favourite ${row.symbol}`);
  const link = name.firstChild;
  const address = `/chart/${encodeURIComponent(row.symbol)}?interval=${preferences.get("interval")}`;
  if (link.getAttribute("href") !== address) link.href = address;
  setText(link.children[0], row.base ?? row.symbol);
  setText(link.children[1], row.quote ? ` / ${row.quote}` : "");
  setText(last, figure(row.last, decimals));
  setText(change, changeWords(row.change ?? null));
  setData(change, "direction", direction(row.change ?? 0));
  setText(high, figure(row.high, decimals));
  setText(low, figure(row.low, decimals));
  setText(turnover, row.turnover ? `${compact(row.turnover)} ${row.quote ?? ""}` : "–");
  setData(spark, "direction", direction(row.change ?? 0));
  if (spark.drawn !== row.sparkline || spark.drawnLast !== row.last) {
    Object.assign(spark, { drawn: row.sparkline, drawnLast: row.last });
    updateSparkline(spark.firstChild, [...(row.sparkline ?? []), ...(row.last ? [row.last] : [])]);
  }
}

function repaint() {
  frame.paint("markets", paint);
}

async function load() {
  try {
    await markets.reload();
    state.failed = null;
  } catch (error) {
    state.failed = error.message;
  }
  const full = markets.rows.size > 0 && [...markets.rows.values()].every((row) => row.sparkline?.length >= FULL_LINE_POINTS);
  setTimeout(load, full ? RELOAD_EVERY_MS : RELOAD_SOON_MS);
  repaint();
}

function moveFocus(step) {
  const links = [...body.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  links[at < 0 ? 0 : Math.max(0, Math.min(links.length - 1, at + step))]?.focus();
}

function key(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target === byId("search");
  if (event.key === "ArrowDown") moveFocus(1);
  else if (event.key === "ArrowUp" && !typing) moveFocus(-1);
  else if (event.key === "Enter" && typing) {
    paint();
    body.querySelector("a")?.click();
  } else if (typing) return;
  else if (event.key === "/") byId("search").focus();
  else if (event.key === "t") toggleTheme();
  else return;
  event.preventDefault();
}

function wire() {
  byId("search").addEventListener("input", (event) => { state.words = event.target.value; state.page = 0; repaint(); });
  byId("only-favourites").addEventListener("click", (event) => {
    state.favouritesOnly = !state.favouritesOnly;
    event.currentTarget.setAttribute("aria-pressed", String(state.favouritesOnly));
    repaint();
  });
  for (const head of document.querySelectorAll("th[data-sort]")) {
    head.firstChild.addEventListener("click", () => {
      const { sort } = head.dataset;
      state.direction = state.sort === sort ? -state.direction : SORTS[sort].first;
      state.sort = sort;
      repaint();
    });
  }
  body.addEventListener("click", (event) => {
    const symbol = event.target.closest("tr")?.dataset.symbol;
    if (!symbol) return;
    if (event.target.closest(".star")) preferences.toggleFavourite(symbol);
    else if (!event.target.closest("a")) event.target.closest("tr").querySelector("a").click();
  });
  byId("previous").addEventListener("click", () => { state.page -= 1; repaint(); });
  byId("next").addEventListener("click", () => { state.page += 1; repaint(); });
  byId("theme-toggle").addEventListener("click", toggleTheme);
  document.addEventListener("keydown", key);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) live.check(); });
  preferences.watch(["favourites"], repaint);
}

let counted = 0;
setInterval(() => {
  const badge = badgeState({
    now: clock(), socket: socket.state, tries: socket.tries, newsAt: state.newsAt, delayMs: null, outage: null,
    seconds: formats.seconds,
  });
  setData(byId("badge"), "state", badge.state);
  setText(byId("badge-text"), badge.text);
  setText(byId("rate"), `${live.messages - counted} msg/s`);
  counted = live.messages;
}, 1_000);

for (let index = 0; index < SKELETON_ROWS; index += 1) {
  const cells = Array.from({ length: 8 }, (_, column) => make("td", { className: ["", "", "", "", "wide-only", "wide-only", "middle-only", ""][column] }, make("span")));
  body.append(make("tr", { className: "skeleton-row" }, ...cells));
}
watchTheme(() => {});
wire();
markets.watch(() => { state.newsAt = clock(); repaint(); });
live.start();
load();
