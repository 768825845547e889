// Runs before the first paint (a plain script, not a module), so that a saved theme never flashes the other one.
(() => {
  try {
    const { theme, palette } = JSON.parse(localStorage.getItem("candlewire.preferences") ?? "{}");
    if (theme === "dark" || theme === "light") document.documentElement.dataset.theme = theme;
    if (palette) document.documentElement.dataset.palette = palette;
  } catch {
    // Without storage the system's own theme is used.
  }
})();
