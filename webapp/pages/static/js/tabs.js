// The phone's tabs: book, trades, markets.

import { preferences } from "./preferences.js";

/** `shown(name)` whenever another tab is shown. */
export function wireTabs(area, shown) {
  const tabs = [...document.querySelectorAll('[role="tab"]')];
  const show = (tab) => {
    for (const other of tabs) {
      other.setAttribute("aria-selected", String(other === tab));
      other.tabIndex = other === tab ? 0 : -1;
    }
    const name = tab.id.replace("tab-", "");
    area.dataset.tab = name;
    preferences.set("tab", name);
    shown(name);
  };
  for (const [index, tab] of tabs.entries()) {
    tab.addEventListener("click", () => show(tab));
    tab.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) return;
      const next = tabs[(index + step + tabs.length) % tabs.length];
      show(next);
      next.focus();
    });
  }
  show(tabs.find((tab) => tab.id === `tab-${preferences.get("tab")}`) ?? tabs[0]);
}
