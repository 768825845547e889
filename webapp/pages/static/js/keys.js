// The keyboard: every action of the mouse has a key.

/** The action of a key press, or null. Typing in a field and browser shortcuts are left alone. */
export function actionOf(event, intervals) {
  if (event.ctrlKey || event.metaKey || event.altKey) return null;
  const target = event.target;
  // A dialog that has just closed may hold the focus for a moment longer: that is no typing.
  if (target?.closest?.("input, select, textarea, dialog") && !target.closest("dialog:not([open])")) return null;
  if (/^[1-9]$/.test(event.key)) {
    const interval = intervals[Number(event.key) - 1];
    return interval ? { name: "interval", value: interval } : null;
  }
  if (target?.closest?.('[role="tab"], [role="option"]') && event.key.startsWith("Arrow")) return null;
  const name = {
    "/": "search", "?": "help", t: "theme", s: "settings", b: "table", g: "ledger", Escape: "let-go", End: "newest", "+": "zoom-in", "=": "zoom-in",
    "-": "zoom-out", ArrowLeft: "back", ArrowRight: "forward",
  }[event.key];
  return name ? { name } : null;
}
