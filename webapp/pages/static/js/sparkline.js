// A day as a line of 148 x 30: closes evenly spaced, the first one as a dotted level.

const WIDTH = 148;
const HEIGHT = 30;
const MARGIN = 2;
const NAMESPACE = "http://www.w3.org/2000/svg";

/** The path through `closes` (texts or numbers) and the height of the first; null of fewer than two. */
export function sparkPath(closes) {
  const values = closes.map(Number).filter(Number.isFinite);
  if (values.length < 2) return null;
  const low = Math.min(...values);
  const high = Math.max(...values);
  const y = (value) => (high === low ? HEIGHT / 2 : MARGIN + ((high - value) / (high - low)) * (HEIGHT - 2 * MARGIN));
  const step = WIDTH / (values.length - 1);
  const path = values.map((value, index) => `${index ? "L" : "M"}${(index * step).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  return { path, level: y(values[0]).toFixed(1) };
}

/** An SVG element for `update`. */
export function makeSparkline() {
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("class", "spark");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS(NAMESPACE, "line"), document.createElementNS(NAMESPACE, "path"));
  return svg;
}

/** Draws `closes` into an element of makeSparkline. */
export function updateSparkline(svg, closes) {
  const [line, path] = svg.children;
  const drawn = sparkPath(closes);
  path.setAttribute("d", drawn?.path ?? "");
  for (const [name, value] of [["x1", 0], ["x2", drawn ? WIDTH : 0], ["y1", drawn?.level ?? 0], ["y2", drawn?.level ?? 0]]) {
    line.setAttribute(name, String(value));
  }
}
