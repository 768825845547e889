// The chart page: connects the parts; each part lives in its own module.

import { BADGE_EVERY_MS, badgeState } from "./badge.js";
import { BookPanel, GROUPINGS } from "./book.js";
import { PriceChart } from "./chart.js";
import { openDialog, showTable, wireSettings } from "./dialogs.js";
import { byId, make, setData, setText } from "./dom.js";
import { decimalsOf, fromScaled } from "./format.js";
import { Header } from "./header.js";
import { actionOf } from "./keys.js";
import { HOPS, LatencyWindow, milliseconds } from "./latency.js";
import { Legend } from "./legend.js";
import { LiveClient } from "./live.js";
import { Markets } from "./markets.js";
import { preferences } from "./preferences.js";
import { SymbolList } from "./symbols.js";
import { wireTabs } from "./tabs.js";
import { TapePanel, filterSteps } from "./tape.js";
import { colours, toggleTheme, watchTheme } from "./theme.js";
import { zoneFormats, zoneName } from "./timezone.js";
import { View } from "./view.js";

const OLDER_WHEN_LEFT_BARS = 120;
const REPORT_EVERY_MS = 60_000;

const config = JSON.parse(byId("config").textContent);
const clock = () => performance.timeOrigin + performance.now();
const latency = new LatencyWindow();
let socket = { state: "connecting", tries: 0 };
const live = new LiveClient({ url: config.streamUrl, clock, onState: (state) => { socket = state; paintBadge(); } });
const chart = new PriceChart(byId("chart"), {
  onHover: (openTimeMs, point) => view.hover(openTimeMs, point),
  onRange: (range) => {
    if (range.from < OLDER_WHEN_LEFT_BARS) view.feed?.loadOlder();
    byId("to-live").hidden = !chart.points?.length || range.to > chart.points.length - 1;
  },
});
const panels = { header: new Header(), book: new BookPanel(), tape: new TapePanel(), legend: new Legend() };
let formats = zoneFormats(preferences.get("zone"));
const view = new View({ config, live, chart, panels, latency, formats });
const markets = new Markets(config.api.symbols, live);
const here = { symbol: config.symbol, base: config.base, quote: config.quote, tick: config.tickSize, lot: config.stepSize };
markets.rows.set(here.symbol, here);

function showInterval(interval) {
  for (const button of document.querySelectorAll(".interval")) {
    button.setAttribute("aria-pressed", String(button.dataset.interval === interval));
  }
}

/** The address says what is on screen, so that it can be shared and Back works. */
function remember(symbol, interval) {
  const address = `/chart/${encodeURIComponent(symbol)}?interval=${interval}`;
  if (location.pathname + location.search !== address) history.pushState({ symbol, interval }, "", address);
}

function goInterval(interval, push = true) {
  if (interval === view.interval) return;
  showInterval(interval);
  preferences.set("interval", interval);
  view.openInterval(interval);
  if (push) remember(view.symbol, interval);
}

async function goSymbol(symbol, interval = view.interval, push = true) {
  byId("symbol-dialog").close();
  if (symbol === view.symbol) return goInterval(interval, push);
  if (!markets.rows.get(symbol)?.tick) await markets.load().catch(() => null);
  const row = markets.rows.get(symbol);
  if (!row) return location.assign(`/chart/${encodeURIComponent(symbol)}?interval=${interval}`);
  showInterval(interval);
  view.openSymbol(row, interval);
  fillGroupings();
  if (push) remember(symbol, interval);
  return undefined;
}

function fillGroupings() {
  const decimals = decimalsOf(view.row.tick);
  const tick = Math.max(1, Math.round(Number(view.row.tick) * 10 ** decimals));
  const select = byId("book-grouping");
  select.replaceChildren(...GROUPINGS.map((factor) => make("option", { value: String(factor) }, fromScaled(tick * factor, decimals))));
  select.value = String(preferences.get("grouping"));
  view.setGrouping(tick * Number(select.value || 1));
}

function fillMinimum() {
  const select = byId("tape-minimum");
  const steps = filterSteps(panels.tape.trades);
  if (document.activeElement === select || steps.length === select.options.length) return;
  const held = select.value || "0";
  select.replaceChildren(...steps.map((step) => make("option", { value: step }, `≥ ${step}`)));
  select.value = steps.includes(held) ? held : "0";
}

function paintBadge() {
  const delays = latency.recent.slice(-5).map((hops) => hops.total - (hops.pixel ?? 0)).filter(Number.isFinite);
  const delayMs = delays.length ? Math.min(...delays) : null;
  const badge = badgeState({
    now: clock(), socket: socket.state, tries: socket.tries, newsAt: view.newsAt, delayMs, outage: view.outage,
    seconds: (ms) => formats.seconds(ms),
  });
  setData(byId("badge"), "state", badge.state);
  setText(byId("badge-text"), badge.text);
  setText(byId("badge-age"), badge.age);
}

const hopValues = {};
function buildLatency() {
  const line = byId("latency");
  line.append(make("span", {}, "exchange"));
  for (const hop of HOPS) {
    hopValues[hop] = make("b", {}, "–");
    line.append(make("span", { className: "hop-arrow" }, "→"), hopValues[hop], make("span", { className: "hop-arrow" }, "→"), make("span", {}, hop));
  }
}

let counted = 0;
function everySecond() {
  setText(byId("rate"), `${live.messages - counted} msg/s`);
  counted = live.messages;
  setText(byId("clock"), `${formats.seconds(view.now())} ${zoneName(formats.zone)}`);
  for (const hop of HOPS) setText(hopValues[hop], milliseconds(latency.median(hop)));
  const book = panels.book.book;
  setText(byId("book-state"), book?.last_update_id ? `book update ${book.last_update_id}` : "");
  fillMinimum();
  view.tick();
}

const actions = {
  interval: (value) => goInterval(value),
  search: () => byId("symbol-button").click(),
  help: () => openDialog("help-dialog"),
  settings: () => openDialog("settings-dialog"),
  table: () => { showTable(chart.visibleBars(), view); openDialog("table-dialog"); },
  ledger: () => {
    view.ledger.list((gap) => { byId("ledger-dialog").close(); view.showGap(gap); });
    openDialog("ledger-dialog");
  },
  "let-go": () => view.hover(null),
  theme: toggleTheme,
  newest: () => chart.toNewest(),
  "zoom-in": () => chart.zoom(0.8),
  "zoom-out": () => chart.zoom(1.25),
  back: () => chart.pan(-0.1),
  forward: () => chart.pan(0.1),
};

function wire() {
  for (const button of document.querySelectorAll(".interval")) button.addEventListener("click", () => goInterval(button.dataset.interval));
  for (const [id, action] of [
    ["theme-toggle", "theme"], ["settings-button", "settings"], ["clock", "settings"], ["table-button", "table"],
    ["help-button", "help"], ["to-live", "newest"], ["ledger-button", "ledger"],
  ]) byId(id).addEventListener("click", () => actions[action]());
  document.addEventListener("keydown", (event) => {
    const action = actionOf(event, config.intervals);
    if (!action) return;
    event.preventDefault();
    actions[action.name](action.value);
  });
  byId("book-grouping").addEventListener("change", (event) => {
    preferences.set("grouping", Number(event.target.value));
    fillGroupings();
  });
  byId("tape-minimum").addEventListener("change", (event) => panels.tape.setMinimum(event.target.value));
  const choice = { choose: (symbol) => goSymbol(symbol), current: () => view.symbol };
  const dialog = byId("symbol-dialog");
  const menu = new SymbolList(dialog, markets, choice);
  byId("symbol-button").addEventListener("click", () => { openDialog("symbol-dialog"); menu.show(); menu.search.focus(); });
  dialog.addEventListener("close", () => menu.hide());
  const tabList = new SymbolList(byId("markets"), markets, choice);
  wireTabs(document.querySelector(".area"), (tab) => (tab === "markets" ? tabList.show() : tabList.hide()));
  addEventListener("popstate", () => {
    const symbol = decodeURIComponent(location.pathname.split("/").at(-1)) || config.symbol;
    const interval = new URLSearchParams(location.search).get("interval") ?? config.interval;
    goSymbol(symbol, config.intervals.includes(interval) ? interval : config.interval, false);
  });
  addEventListener("online", () => live.check());
  preferences.watch(["zone"], (zone) => { formats = zoneFormats(zone); view.setFormats(formats); everySecond(); });
  preferences.watch(["candles"], () => chart.paint(colours(), preferences.get("candles") === "hollow"));
  wireSettings();
}

/** Operators see how long the last hop takes: only durations are told, and nobody waits for it. */
function report() {
  const painted = latency.takePainted();
  if (!painted.length) return;
  const body = JSON.stringify({ relayed_to_painted_ms: painted });
  navigator.sendBeacon(config.api.painted, new Blob([body], { type: "application/json" }));
}

buildLatency();
watchTheme(() => chart.paint(colours(), preferences.get("candles") === "hollow"));
view.openSymbol(here, config.interval);
fillGroupings();
live.start();
wire();
everySecond();
setInterval(everySecond, 1_000);
setInterval(paintBadge, BADGE_EVERY_MS);
setInterval(report, REPORT_EVERY_MS);
addEventListener("pagehide", report);

window.candlewire = { latency: () => latency.summary(), report, view, live, chart };
