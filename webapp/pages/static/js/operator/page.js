// The operators' page: asks every five seconds, tells each part what is known, and says how old that is.

import { byId, make, setText } from "../dom.js";
import { frame } from "../frame.js";
import { preferences } from "../preferences.js";
import { toggleTheme, watchTheme } from "../theme.js";
import { zoneFormats, zoneName } from "../timezone.js";
import { Actions } from "./actions.js";
import { paintAlerts } from "./alerts.js";
import { CompletenessStrip } from "./completeness.js";
import { DeadLetters, paintData } from "./data.js";
import { HistoryPanel } from "./history.js";
import { Poll } from "./poll.js";
import { Advisor } from "./retention.js";
import { Rows } from "./rows.js";
import { HOP_COLUMNS, READERS, TOPICS, roomColumns, topicDetails } from "./tables.js";
import { paintAge, paintEngines, paintVerdict, verdictOf } from "./verdict.js";

const EVERY_MS = 5_000;
const HISTORY_EVERY_MS = 30_000;
const ACTIONS_EVERY_MS = 15_000;

const config = JSON.parse(byId("config").textContent);
const { api } = config;
const clock = () => performance.timeOrigin + performance.now();
let formats = zoneFormats(preferences.get("zone"));
/** The last answer, when it came by this clock, and how the server's clock differs from it. */
const seen = { answer: null, atMs: null, aheadMs: 0, failure: null };
const now = () => clock() + seen.aheadMs;
const moment = (ms) => (Number.isFinite(ms) ? formats.moment(ms, now()) : "N/A");

const readerSubject = (row) => `reader:${row.room}:${row.topic}/${row.partition}`;
const showHistory = (subject) => {
  history.choose(subject);
  byId("history").scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
};

const strip = new CompletenessStrip({
  api, formats, now, repair: (range) => act("repair", range), reopen: (gap) => act("reopen_gap", { id: gap.id }),
});
const history = new HistoryPanel({ api: api.history, formats, now });
const actions = new Actions({
  api: api.actions, token: config.csrfToken, moment, choices,
  done: ({ action, given, state }) => {
    if (action === "dismiss" && state === "done") letters.forget(given.ids ?? []);
    strip.forget();
    poll.ask();
  },
});
const letters = new DeadLetters({ act, moment });
const advisor = new Advisor({ api: api.retention });
const tables = {
  readers: new Rows(byId("readers-table"), READERS, {
    keyOf: readerSubject, empty: "No reader has stored a checkpoint yet. Each appears with its first one.",
    buttons: (row) => [
      { label: "History", press: () => showHistory(readerSubject(row)) },
      { label: "Reset checkpoint…", press: () => act("reset_checkpoint", { topic: row.topic }) },
    ],
  }),
  topics: new Rows(byId("topics-table"), TOPICS, {
    keyOf: (row) => row.topic, empty: "No topic is declared.", details: topicDetails,
    buttons: (row) => [{ label: "History", press: () => showHistory(`topic:${row.topic}`) }],
  }),
  rooms: new Rows(byId("rooms-table"), roomColumns(now), {
    keyOf: (row) => row.name, empty: "No room is known.",
    details: (row) => [["Reasons", row.reasons?.join("; ") || "none"], ["Last error", row.last_error ?? "none"], ["Started", moment(row.started_at_ms ?? NaN)]],
    buttons: (row) => [
      { label: "History", press: () => showHistory(`room:${row.name}`) },
      ...(row.can_pause ? [pauseButton(row)] : []),
    ],
  }),
  hops: new Rows(byId("hops-table"), HOP_COLUMNS, { keyOf: (row) => row.hop, empty: "No hop has been measured yet." }),
};

function pauseButton({ name, is_paused: isPaused }) {
  const [action, label] = isPaused ? ["resume", "Resume…"] : ["pause", "Pause…"];
  return { label, press: () => act(action, { room: name }) };
}

function act(action, given) {
  byId("hour-dialog").close();
  actions.open(action, given);
}

/** What an argument may be, where the page knows it. */
function choices(name) {
  const { answer } = seen;
  if (name === "symbol") return strip.symbols;
  if (name === "room") return (answer?.rooms ?? []).filter((room) => room.can_pause).map((room) => room.name);
  if (name === "topic") return (answer?.topics ?? []).map((topic) => topic.topic);
  return [];
}

/** Subjects of the history, the most endangered reader first. */
function subjects({ readers, topics, rooms }) {
  const urgent = [...(readers ?? [])].sort((left, right) => (left.headroom_seconds ?? Infinity) - (right.headroom_seconds ?? Infinity));
  const [first] = urgent;
  const others = (readers ?? []).filter((row) => row !== first);
  return [
    ...(first ? [first, ...others].map(readerSubject) : []), ...(topics ?? []).map((row) => `topic:${row.topic}`), ...(rooms ?? []).map((row) => `room:${row.name}`), "system",
  ];
}

function paint() {
  const { answer } = seen;
  if (!answer) return;
  byId("content").dataset.loaded = "true";
  paintEngines(answer.engines ?? []);
  tables.topics.paint(answer.topics);
  tables.rooms.paint(answer.rooms);
  tables.hops.paint(answer.hops?.map((row) => ({ ...row, state: row.p50_ms === null ? "unknown" : "ok" })) ?? null);
  paintData(answer.data, now());
  letters.paint(answer.data?.dead_letters);
  paintAlerts(answer.alerts, moment);
  const standing = answer.alerts?.filter((alert) => alert.recovered_at_ms === null).length ?? 0;
  document.title = `${answer.verdict} · Operator · Candlewire`;
  setText(byId("standing"), standing ? `${standing} ${standing === 1 ? "alert stands" : "alerts stand"}` : "");
  byId("standing").hidden = !standing;
}

/** Without the database nobody knows whether there are none. */
function readersNow({ readers, engines }, ageMs) {
  const isAway = engines?.some((engine) => engine.name === "postgres" && engine.state === "down");
  if (!readers || (!readers.length && isAway)) return null;
  return readers.map((row) => ({ ...row, sinceTakenS: ageMs / 1000 }));
}

/** What moves with the clock alone: the age of it all, the countdown of the headroom. */
function tick() {
  const { answer, failure } = seen;
  const ageMs = answer ? Math.max(0, now() - answer.taken_at_ms) : null;
  paintVerdict(verdictOf(answer, failure, ageMs ?? 0, answer ? formats.seconds(answer.taken_at_ms) : ""));
  paintAge(ageMs, failure);
  byId("content").classList.toggle("is-stale", byId("badge").dataset.state === "stale" && answer !== null);
  setText(byId("clock"), `${formats.seconds(now())} ${zoneName(formats.zone)}`);
  if (answer) tables.readers.paint(readersNow(answer, ageMs));
}

const poll = new Poll({
  url: api.operator,
  everyMs: EVERY_MS,
  onAnswer: (answer) => {
    const came = clock();
    // The header tells whole seconds: only a clock that is really off is corrected.
    const offMs = answer.answeredAtMs === null ? 0 : answer.answeredAtMs - came;
    Object.assign(seen, { answer, atMs: came, failure: null, aheadMs: Math.abs(offMs) > 2_000 ? offMs : 0 });
    frame.paint("operator", () => { paint(); tick(); });
    history.offer(subjects(answer));
    advisor.offer(answer.topics ?? []);
    strip.refresh();
  },
  onFailure: (error, tries) => {
    seen.failure = error.status === 403 ? "the web application no longer takes you for an operator; load the page again" : `${error.message} (try ${tries})`;
    tick();
  },
});

function wire() {
  byId("theme-toggle").addEventListener("click", toggleTheme);
  for (const button of document.querySelectorAll("[data-act]")) button.addEventListener("click", () => act(button.dataset.act, {}));
  document.addEventListener("keydown", (event) => {
    if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey && !event.target.closest("input, select, textarea, dialog")) toggleTheme();
  });
  preferences.watch(["zone"], (zone) => {
    formats = zoneFormats(zone);
    strip.formats = formats;
    history.restyle(formats);
    strip.paint();
    tick();
  });
  for (const legend of ["complete", "exchange", "repaired", "gap", "absent"]) {
    const words = { complete: "complete", exchange: "from the exchange's REST", repaired: "in part from REST", gap: "missing", absent: "exchange has no data" }[legend];
    const entry = make("span", {}, make("i"), words);
    entry.dataset.mark = legend;
    byId("strip-legend").append(entry);
  }
}

wire();
watchTheme(() => { history.restyle(); strip.paint(); });
poll.start();
actions.refresh();
tick();
setInterval(tick, 1_000);
setInterval(() => history.refresh(), HISTORY_EVERY_MS);
setInterval(() => actions.refresh(), ACTIONS_EVERY_MS);

window.candlewire = { seen, strip, history, poll, actions };
