// Numbers as people read them. Money arrives as text and stays text: no float ever reaches the screen.

/** Thin no-break space between thousands. */
export const THIN = "\u202f";
export const MINUS = "\u2212";
/** What stands where a figure is not known yet; as wide as a digit. */
export const UNKNOWN = "\u2013";

/** Digits after the point that a step needs: "0.01000000" -> 2, "1" -> 0, "1e-8" -> 8. */
export function decimalsOf(step) {
  const text = plain(step);
  const point = text.indexOf(".");
  return point < 0 ? 0 : text.slice(point + 1).replace(/0+$/, "").length;
}

/** A decimal without exponent: 1.2E-7 -> 0.00000012. Anything that is no number -> "". */
export function plain(value) {
  const text = String(value ?? "").trim();
  const match = /^([+-]?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/.exec(text);
  if (!match || (!match[2] && !match[3])) return "";
  const sign = match[1] === "-" ? "-" : "";
  let whole = match[2] || "0";
  let fraction = match[3] || "";
  let exponent = Math.max(-40, Math.min(40, Number(match[4] || 0)));
  for (; exponent > 0; exponent -= 1) {
    whole += fraction[0] || "0";
    fraction = fraction.slice(1);
  }
  for (; exponent < 0; exponent += 1) {
    fraction = (whole.at(-1) || "0") + fraction;
    whole = whole.slice(0, -1);
  }
  whole = whole.replace(/^0+(?=\d)/, "") || "0";
  return sign + whole + (fraction ? `.${fraction}` : "");
}

/** "62810.25" -> "62 810.25" (thin spaces). */
export function group(text) {
  const [whole, fraction] = text.split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, THIN);
  return (fraction === undefined ? grouped : `${grouped}.${fraction}`).replace("-", MINUS);
}

/**
 * A price or quantity with at least `decimals` digits: padded with zeros, never rounded (digits the step
 * does not explain are shown rather than hidden). Only numbers made by the chart itself come as numbers.
 */
export function fixed(value, decimals) {
  const text = typeof value === "number" ? (Number.isFinite(value) ? value.toFixed(decimals) : "") : plain(value);
  if (!text) return UNKNOWN;
  const [whole, fraction = ""] = text.split(".");
  const digits = fraction.replace(/0+$/, "").padEnd(decimals, "0");
  return digits ? `${whole}.${digits}` : whole;
}

/** Grouped `fixed`: what stands in the header, the book and the tape. */
export function figure(value, decimals) {
  const text = fixed(value, decimals);
  return text === UNKNOWN ? text : group(text);
}

/** A volume for a narrow place: exact below a million, else 1.234 M, 5.678 B. */
export function compact(value) {
  const number = Number(plain(value) || NaN);
  if (!Number.isFinite(number)) return UNKNOWN;
  const size = Math.abs(number);
  for (const [limit, unit] of [[1e12, "T"], [1e9, "B"], [1e6, "M"]]) {
    if (size >= limit) return `${(number / limit).toPrecision(4)}${THIN}${unit}`;
  }
  return group(number.toFixed(size >= 1000 ? 0 : size >= 10 ? 2 : 3));
}

/** Change from `open` to `close` in percent; null when it has no meaning. */
export function changePercent(open, close) {
  const from = Number(plain(open) || NaN);
  const to = Number(plain(close) || NaN);
  return from > 0 && Number.isFinite(to) ? ((to - from) / from) * 100 : null;
}

/** 1.84 -> "+1.84 %"; a change that rounds to zero has no sign. */
export function percent(change) {
  if (change === null || !Number.isFinite(change)) return UNKNOWN;
  const text = Math.abs(change).toFixed(2);
  const sign = Number(text) === 0 ? "" : change > 0 ? "+" : MINUS;
  return `${sign}${text}${THIN}%`;
}

/** The arrow that goes with a direction, so that colour is never alone. */
export function arrow(change) {
  return change > 0 ? "▲" : change < 0 ? "▼" : "";
}

/** "▲ +1.84 %": arrow, sign and figure; no arrow on what rounds to zero. */
export function changeWords(change) {
  const words = percent(change);
  return /[1-9]/.test(words) ? `${arrow(change)} ${words}` : words;
}

/** "up", "down" or "flat", the value of data-direction. */
export function direction(change) {
  return change > 0 ? "up" : change < 0 ? "down" : "flat";
}

/** A decimal text as a whole number of 10^-decimals; digits beyond are cut (toward zero). */
export function toScaled(value, decimals) {
  const text = plain(value);
  if (!text) return 0;
  const negative = text.startsWith("-");
  const [whole, fraction = ""] = text.replace("-", "").split(".");
  const scaled = Number(whole + fraction.slice(0, decimals).padEnd(decimals, "0"));
  return negative ? -scaled : scaled;
}

/** The opposite of toScaled: 6281025, 2 -> "62810.25". */
export function fromScaled(scaled, decimals) {
  const digits = String(Math.abs(scaled)).padStart(decimals + 1, "0");
  const sign = scaled < 0 ? "-" : "";
  if (!decimals) return sign + digits;
  return `${sign}${digits.slice(0, -decimals)}.${digits.slice(-decimals)}`;
}

/** 83000 -> "1:23", 4000 -> "0:04", 3723000 -> "1:02:03". Counts down whole seconds, never below zero. */
export function countdown(ms) {
  const seconds = Math.max(0, Math.ceil(ms / 1000));
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const [hours, minutes, rest] = parts;
  const two = (number) => String(number).padStart(2, "0");
  return hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}`;
}
