// Colours live in css/tokens.css alone; the canvas reads them from there, so a theme is one attribute on <html>.

import { preferences } from "./preferences.js";

const NAMES = ["bg", "panel", "raise", "line", "text", "muted", "faint", "up", "down", "accent"];

/** The colours in force, by token name, as the canvas needs them. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

/** "#3fb68b", 0.13 -> "rgba(63, 182, 139, 0.13)". */
export function wash(hex, alpha) {
  const value = Number.parseInt(hex.slice(1), 16);
  return `rgba(${value >> 16}, ${(value >> 8) & 255}, ${value & 255}, ${alpha})`;
}

/** "dark" or "light", whatever it was decided by. */
export function currentTheme() {
  const chosen = document.documentElement.dataset.theme;
  if (chosen === "dark" || chosen === "light") return chosen;
  return matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark";
}

/** Applies the saved theme and palette, and calls `onChange` whenever the colours in force have changed. */
export function watchTheme(onChange) {
  const apply = () => {
    const root = document.documentElement;
    const theme = preferences.get("theme");
    if (theme === "system") delete root.dataset.theme;
    else root.dataset.theme = theme;
    root.dataset.palette = preferences.get("palette");
    onChange();
  };
  preferences.watch(["theme", "palette"], apply);
  matchMedia("(prefers-color-scheme: light)").addEventListener("change", apply);
  apply();
}

/** Dark to light and back. */
export function toggleTheme() {
  preferences.set("theme", currentTheme() === "dark" ? "light" : "dark");
}
