// The biggest thing on the page: the verdict, how old it is, and which engine is away.

import { byId, make, setData, setText } from "../dom.js";
import { paintRemedy } from "./rows.js";
import { seconds } from "./words.js";

/** What the page shows is old when it was taken longer ago than this. */
export const STALE_AFTER_MS = 15_000;
const STATES = { healthy: "ok", degraded: "warn", "losing data": "bad" };

/**
 * What stands in the verdict: { word, reason, state }. `answer` null = never answered; `failure` the words of the last
 * failure, or null; `ageMs` how long ago the figures were taken.
 */
export function verdictOf(answer, failure, ageMs, since) {
  if (!answer) return { word: "unknown", reason: failure ?? "the web application is being asked", state: "unknown" };
  if (ageMs > STALE_AFTER_MS) {
    const why = failure ?? "the web application takes no new figures";
    return { word: "unknown", reason: `${why}; what stands here is of ${since}`, state: "unknown" };
  }
  return { word: answer.verdict, reason: answer.reason, state: STATES[answer.verdict] ?? "unknown" };
}

export function paintVerdict({ word, reason, state }) {
  setData(byId("verdict"), "state", state);
  setText(byId("verdict-word"), word);
  setText(byId("verdict-reason"), reason);
}

/** "as of 3 s ago": the badge of the header. */
export function paintAge(ageMs, failure) {
  const badge = byId("badge");
  const stale = ageMs === null || ageMs > STALE_AFTER_MS;
  setData(badge, "state", ageMs === null && !failure ? "connecting" : stale ? "stale" : failure ? "reconnecting" : "live");
  setText(byId("badge-text"), ageMs === null ? "No figures yet" : stale ? "Stale, as of" : "As of");
  setText(byId("badge-age"), ageMs === null ? "" : `${seconds(Math.round(ageMs / 1000))} ago`);
}

const ENGINE_NAMES = { kafka: "Kafka", postgres: "PostgreSQL", valkey: "Valkey", exchange: "Exchange" };

/** Engines as a list; one that is down says why and what to look at. */
export function paintEngines(engines) {
  const list = byId("engines");
  while (list.children.length > engines.length) list.lastChild.remove();
  engines.forEach((engine, index) => {
    const item = list.children[index] ?? list.appendChild(make("li", {}, make("i", { className: "state-dot" }), make("b"), make("span"), make("span", { className: "remedy" })));
    const [, name, words, help] = item.children;
    setData(item, "state", { up: "ok", down: "bad" }[engine.state] ?? "unknown");
    setText(name, ENGINE_NAMES[engine.name] ?? engine.name);
    setText(words, engine.state === "unknown" ? "N/A" : [engine.state, engine.error].filter(Boolean).join(": "));
    paintRemedy(help, engine.state === "down" ? engine.remedy ?? engineRemedy(engine.name) : null);
  });
}

function engineRemedy(name) {
  if (name === "exchange") return { command: "candlewire logs producer", effect: "tells why the feed is out; the producer goes on trying by itself" };
  return { command: `candlewire logs ${name}`, effect: "tells what is wrong with it; one that has ended is started again by itself" };
}
