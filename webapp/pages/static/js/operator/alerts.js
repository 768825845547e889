// Alerts: what stands, with the command that helps, then what is over.

import { byId, make, setData, setText } from "../dom.js";
import { paintRemedy } from "./rows.js";

const MAX_ALERTS = 20;
const CONDITIONS = {
  headroom: "losing data soon", stale_feed: "stale feed", audit_difference: "audit difference", dead_letters: "dead letters", disk: "disk",
};

/** Standing ones first, newest first. */
export function ranked(alerts) {
  const over = (alert) => (alert.recovered_at_ms === null ? 0 : 1);
  return [...alerts].sort((left, right) => over(left) - over(right) || right.raised_at_ms - left.raised_at_ms).slice(0, MAX_ALERTS);
}

/** `moment(ms)`: time in words. */
export function paintAlerts(alerts, moment) {
  const list = byId("alert-list");
  const rows = alerts ? ranked(alerts) : [];
  byId("alerts-empty").hidden = rows.length > 0;
  setText(byId("alerts-empty"), alerts ? "No alert in the last days. One is raised once for each condition, and recovers once." : "N/A: not known at this moment.");
  while (list.children.length > rows.length) list.lastChild.remove();
  rows.forEach((alert, index) => {
    const item = list.children[index] ?? list.appendChild(make("li", {}, make("i", { className: "state-dot" }), make("time"), make("b"), make("span"), make("span", { className: "remedy" })));
    const [, time, name, message, help] = item.children;
    const stands = alert.recovered_at_ms === null;
    setData(item, "state", stands ? "bad" : "ok");
    setText(time, stands ? `since ${moment(alert.raised_at_ms)}` : `${moment(alert.raised_at_ms)} to ${moment(alert.recovered_at_ms)}`);
    setText(name, `${CONDITIONS[alert.condition] ?? alert.condition} ${alert.subject}`);
    setText(message, alert.message);
    paintRemedy(help, stands ? alert.remedy : null);
  });
}
