// Dialogs: settings, keys, and the visible bars as a table.

import { byId, make } from "./dom.js";
import { compact, figure } from "./format.js";
import { barWords, gapsIn } from "./ledger.js";
import { preferences } from "./preferences.js";
import { FIRST_ZONES, allZones } from "./timezone.js";

const MAX_TABLE_ROWS = 400;

/** Opens a dialog; a click beside it closes it, as Escape does. */
export function openDialog(id) {
  const dialog = byId(id);
  if (dialog.open) return;
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); };
  dialog.showModal();
}

export function wireSettings() {
  const zones = byId("zone-select");
  const words = { UTC: "UTC", local: "This device" };
  zones.append(...FIRST_ZONES.map((zone) => make("option", { value: zone }, words[zone])));
  zones.append(...allZones().filter((zone) => zone !== "UTC").map((zone) => make("option", { value: zone }, zone.replaceAll("_", " "))));
  for (const select of document.querySelectorAll("[data-preference]")) {
    const name = select.dataset.preference;
    select.value = preferences.get(name);
    select.addEventListener("change", () => preferences.set(name, select.value));
    preferences.watch([name], (value) => { select.value = value; });
  }
}

/** The bars in view, newest first, as a table that a screen reader can walk. */
export function showTable(bars, view) {
  const { decimals, formats, feed, ledger } = view;
  const { gaps } = ledger;
  const head = make("tr", {}, ...["Time", "Open", "High", "Low", "Close", `Volume ${view.row.base ?? ""}`, "Ledger"]
    .map((name) => Object.assign(make("th", {}, name), { scope: "col" })));
  const rows = bars.slice(-MAX_TABLE_ROWS).reverse().map((bar) => make("tr", {},
    make("td", {}, formats.crosshair(bar.open_time_ms, feed.stepMs)),
    ...["open", "high", "low", "close"].map((name) => make("td", {}, figure(bar[name], decimals))),
    make("td", {}, compact(bar.base_volume)),
    make("td", {}, barWords(bar, gapsIn(gaps, bar.open_time_ms, bar.open_time_ms + feed.stepMs), ledger.counts(bar.open_time_ms)))));
  const caption = make("caption", { className: "visually-hidden" }, `${view.symbol} ${view.interval}, newest first`);
  byId("table-body").replaceChildren(bars.length
    ? make("table", {}, caption, make("thead", {}, head), make("tbody", {}, ...rows))
    : make("p", { className: "empty" }, "No bars are in view. Press End to go to the newest."));
}
