// The feed badge: plain words for how old what you see is.

/** No news from the exchange for this long: what is shown is stale (the page promises 3 s). */
export const STALE_AFTER_MS = 2_500;
/** The badge is looked at so often. */
export const BADGE_EVERY_MS = 250;
/** Later than this on the way: delayed. */
export const DELAYED_AFTER_MS = 2_000;

/**
 * State and words. `newsAt`: when the last message with market data came (ms, null = never); `outage`: the producer's
 * own record while its feed is out; `delayMs`: event to browser of the newest messages; `seconds`: ms -> HH:MM:SS.
 */
export function badgeState({ now, socket, tries, newsAt, delayMs, outage, seconds }) {
  const silent = newsAt !== null && now - newsAt > STALE_AFTER_MS;
  if (socket !== "open" && tries > 0) return { state: "reconnecting", text: `Reconnecting, try ${tries}`, age: "" };
  if (silent || (outage && newsAt === null)) {
    return { state: "stale", text: `Stale since ${seconds(newsAt ?? outage.from_time_ms)}`, age: "" };
  }
  if (newsAt === null) return { state: "connecting", text: socket === "open" ? "Waiting for data" : "Connecting", age: "" };
  if (delayMs !== null && delayMs > DELAYED_AFTER_MS) {
    return { state: "delayed", text: `Delayed ${Math.round(delayMs / 1000)} s`, age: "" };
  }
  return { state: "live", text: "Live", age: delayMs === null ? "" : `${Math.max(1, Math.round(delayMs))} ms` };
}
