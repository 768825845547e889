// Asks for an address again and again, one question at a time; a hidden tab asks nothing.

/** Longer than the server's own bounds on asking its engines, so that it can still say which of them is away. */
const ANSWER_WITHIN_MS = 8_000;

/** A JSON answer; throws an error whose message is for people and whose `status` is null when nobody answered. */
export async function readJson(url, options = {}) {
  let answer;
  try {
    answer = await fetch(url, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(ANSWER_WITHIN_MS), ...options });
  } catch (error) {
    const words = error.name === "TimeoutError" ? `no answer within ${ANSWER_WITHIN_MS / 1000} s` : "the web application does not answer";
    throw Object.assign(new Error(words), { status: null });
  }
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return Object.assign(body, { answeredAtMs: Date.parse(answer.headers.get("Date") ?? "") || null });
  throw Object.assign(new Error(body?.detail ?? body?.title ?? `the web application answers ${answer.status}`), { status: answer.status, body });
}

export class Poll {
  /** `onAnswer(body)`, `onFailure(error, tries)`. */
  constructor({ url, everyMs, onAnswer, onFailure }) {
    Object.assign(this, { url, everyMs, onAnswer, onFailure, tries: 0, isAsking: false });
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.ask(); });
  }

  start() {
    this.ask();
    setInterval(() => this.ask(), this.everyMs);
  }

  async ask() {
    if (this.isAsking || document.hidden) return;
    this.isAsking = true;
    try {
      const body = await readJson(typeof this.url === "function" ? this.url() : this.url);
      this.tries = 0;
      this.onAnswer(body);
    } catch (error) {
      if (error.status === undefined) throw error;
      this.tries += 1;
      this.onFailure(error, this.tries);
    } finally {
      this.isAsking = false;
    }
  }
}
