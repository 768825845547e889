// Time on screen. Data stay UTC; only the words change, through Intl, so that daylight saving is right.

/** Zones that the picker offers first. */
export const FIRST_ZONES = ["UTC", "local"];

/** All IANA zones of this browser. */
export function allZones() {
  return Intl.supportedValuesOf?.("timeZone") ?? [];
}

function resolved(zone) {
  return zone === "local" ? undefined : zone;
}

function formatter(zone, options) {
  try {
    return new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...options, timeZone: resolved(zone) });
  } catch {
    return new Intl.DateTimeFormat("en-GB", { hourCycle: "h23", ...options, timeZone: "UTC" });
  }
}

/** "UTC", "Berlin", "local": how a zone is named beside a clock. */
export function zoneName(zone) {
  if (zone === "UTC") return "UTC";
  if (zone === "local") return "local";
  return zone.split("/").at(-1).replaceAll("_", " ");
}

/** Formatters of one zone; each takes ms UTC. */
export function zoneFormats(zone) {
  const two = "2-digit";
  const forms = {
    seconds: formatter(zone, { hour: two, minute: two, second: two }),
    minutes: formatter(zone, { hour: two, minute: two }),
    day: formatter(zone, { day: "numeric", month: "short" }),
    month: formatter(zone, { month: "short" }),
    year: formatter(zone, { year: "numeric" }),
    full: formatter(zone, { day: two, month: "short", year: "numeric", hour: two, minute: two }),
    fullSeconds: formatter(zone, { day: two, month: "short", year: "numeric", hour: two, minute: two, second: two }),
    fullDay: formatter(zone, { weekday: "short", day: two, month: "short", year: "numeric" }),
  };
  return {
    zone,
    seconds: (ms) => forms.seconds.format(ms),
    minutes: (ms) => forms.minutes.format(ms),
    day: (ms) => forms.day.format(ms),
    millis: (ms) => `${forms.seconds.format(ms)}.${String(((ms % 1000) + 1000) % 1000).padStart(3, "0")}`,
    /** Hour and minute, with the day before it when that is not today's. */
    moment: (ms, nowMs) => {
      const sameDay = forms.day.format(ms) === forms.day.format(nowMs);
      return sameDay ? forms.minutes.format(ms) : `${forms.day.format(ms)} ${forms.minutes.format(ms)}`;
    },
    /** A label of the time axis; `kind` counts as the chart library does: year, month, day, minutes, seconds. */
    tick: (ms, kind) => forms[["year", "month", "day", "minutes", "seconds"][kind] ?? "minutes"].format(ms),
    /** The label under the crosshair. */
    crosshair: (ms, stepMs) => {
      const form = stepMs >= 86_400_000 ? forms.fullDay : stepMs < 60_000 ? forms.fullSeconds : forms.full;
      return form.format(ms).replace(",", "");
    },
  };
}
