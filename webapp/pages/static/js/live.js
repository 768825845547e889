// The browser's own side of /live (docs/LIVE.md): one socket, channels with `since`, back after every kind of close.

const FIRST_DELAY_MS = 400;
const MAX_DELAY_MS = 10_000;
const POLICY_DELAY_MS = 5_000;
const CONNECT_TIMEOUT_MS = 6_000;
const PING_EVERY_MS = 3_000;
/** Nothing at all, not even a pong, for this long: the line is dead although no close came. */
const SILENT_MS = 8_000;
const ASK_AGAIN_MS = 3_000;
const MAX_OFFSET_SAMPLES = 8;
/** The server's time is cut to whole ms. */
const SERVER_TICK_MS = 1;
/** The first pings come each second, until the clocks are known to each other. */
const QUICK_PINGS = 4;

/** Full jitter: anywhere between zero and the doubled ceiling, so that a thousand viewers do not return as one. */
export function reconnectDelayMs(tries, closeCode, random = Math.random) {
  const ceiling = Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** Math.min(tries, 10));
  const floor = closeCode === 1008 ? POLICY_DELAY_MS : 0;
  return Math.round(floor + random() * ceiling);
}

/**
 * How far the server's clock is ahead of ours (ms), from the quickest of the last round trips; a busy page makes even
 * that one lopsided, so it is bounded by what must be true: nothing arrives before it was sent.
 */
export class ClockOffset {
  constructor() {
    this.reset();
  }

  reset() {
    this.samples = [];
    this.least = -Infinity;
    this.most = Infinity;
  }

  /** A ping that left at `sentMs` and came back at `nowMs` with the server's time. */
  add(sentMs, serverMs, nowMs) {
    this.samples.push({ roundTrip: nowMs - sentMs, offset: serverMs - (sentMs + nowMs) / 2 });
    if (this.samples.length > MAX_OFFSET_SAMPLES) this.samples.shift();
    this.most = Math.min(this.most, serverMs + SERVER_TICK_MS - sentMs);
    this.heard(serverMs, nowMs);
  }

  /** Something that the server stamped with `serverMs` is here at `nowMs`. */
  heard(serverMs, nowMs) {
    if (Number.isFinite(serverMs)) this.least = Math.max(this.least, serverMs - nowMs);
    // The bounds cross when a clock was set: what was known of it is void.
    if (this.least > this.most) this.reset();
  }

  get ms() {
    if (!this.samples.length) return Number.isFinite(this.least) ? Math.max(0, this.least) : 0;
    const { offset } = this.samples.reduce((best, sample) => (sample.roundTrip < best.roundTrip ? sample : best));
    return Math.max(this.least, Math.min(this.most, offset));
  }
}

/** Where a channel stands: says for each envelope whether to use it, and what to send as `since`. */
export class ChannelState {
  constructor() {
    this.seq = null;
  }

  /** "use", "stale" (seen already) or "torn" (facts are missing: ask for a fresh snapshot). */
  accept(kind, seq, isFact) {
    if (kind === "reset") {
      this.seq = null;
      return "use";
    }
    if (kind === "snapshot") {
      this.seq = seq;
      return "use";
    }
    if (this.seq !== null && seq <= this.seq) return "stale";
    if (isFact && this.seq !== null && seq > this.seq + 1) return "torn";
    this.seq = seq;
    return "use";
  }
}

export class LiveClient {
  /** `onState({state, tries})` with state connecting | open | waiting; `clock` gives ms (wall, with fractions). */
  constructor({ url, clock, onState = () => {}, open = (address) => new WebSocket(address) }) {
    Object.assign(this, { url, clock, onState, open });
    this.channels = new Map();
    this.offset = new ClockOffset();
    this.tries = 0;
    this.messages = 0;
    this.lastMessageAt = 0;
    this.pings = new Map();
    this.pingId = 0;
    this.pending = { subscribe: new Set(), unsubscribe: new Set() };
    this.socket = null;
  }

  start() {
    this.#connect();
    this.ticker = setInterval(() => this.#tick(), 1_000);
  }

  /** `handler(envelope, arrivedAtMs)` for each message of the channel. */
  subscribe(channel, handler) {
    this.channels.set(channel, { handler, state: new ChannelState(), heard: false });
    this.pending.unsubscribe.delete(channel);
    this.pending.subscribe.add(channel);
    this.#flushSoon();
  }

  unsubscribe(channel) {
    if (!this.channels.delete(channel)) return;
    this.pending.subscribe.delete(channel);
    this.pending.unsubscribe.add(channel);
    this.#flushSoon();
  }

  /** After sleep or a network change: do not wait for a timeout, ask the line now. */
  check() {
    if (this.socket?.readyState === 1 && this.clock() - this.lastMessageAt < SILENT_MS / 2) this.#ping();
    else this.reconnectNow();
  }

  reconnectNow() {
    clearTimeout(this.timer);
    this.#drop();
    this.#connect();
  }

  #connect() {
    this.onState({ state: "connecting", tries: this.tries });
    const socket = this.open(this.url);
    this.socket = socket;
    this.openedBy = this.clock() + CONNECT_TIMEOUT_MS;
    socket.onopen = () => {
      if (socket !== this.socket) return;
      this.lastMessageAt = this.clock();
      for (const channel of this.channels.values()) channel.heard = false;
      this.pending.unsubscribe.clear();
      this.pending.subscribe = new Set(this.channels.keys());
      this.#flush();
      this.#ping();
      this.onState({ state: "open", tries: this.tries });
    };
    socket.onmessage = (event) => { if (socket === this.socket) this.#receive(event.data); };
    socket.onclose = (event) => { if (socket === this.socket) this.#closed(event.code); };
  }

  #closed(code) {
    this.#drop();
    const delay = reconnectDelayMs(this.tries, code);
    this.tries += 1;
    this.onState({ state: "waiting", tries: this.tries, code, delay });
    this.timer = setTimeout(() => this.#connect(), delay);
  }

  #drop() {
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  #tick() {
    const now = this.clock();
    if (!this.socket) return;
    if (this.socket.readyState === 0 && now > this.openedBy) this.#closed(1006);
    else if (this.socket.readyState === 1 && now - this.lastMessageAt > SILENT_MS) this.#closed(1006);
    else if (this.socket.readyState === 1 && now - (this.pingedAt ?? 0) >= (this.pingId < QUICK_PINGS ? 0 : PING_EVERY_MS)) this.#ping();
  }

  #ping() {
    this.pingedAt = this.clock();
    this.pingId += 1;
    this.pings = new Map([...this.pings, [this.pingId, this.pingedAt]].slice(-4));
    this.#send({ op: "ping", id: this.pingId });
  }

  #flushSoon() {
    if (this.flushing) return;
    this.flushing = true;
    queueMicrotask(() => { this.flushing = false; this.#flush(); });
  }

  #flush() {
    if (this.socket?.readyState !== 1) return;
    const { subscribe, unsubscribe } = this.pending;
    if (unsubscribe.size) this.#send({ op: "unsubscribe", ch: [...unsubscribe] });
    if (subscribe.size) {
      const since = {};
      for (const channel of subscribe) {
        const seq = this.channels.get(channel)?.state.seq;
        if (seq !== null && seq !== undefined) since[channel] = seq;
      }
      this.#send({ op: "subscribe", ch: [...subscribe], since });
    }
    this.pending = { subscribe: new Set(), unsubscribe: new Set() };
  }

  /** A refused subscription (a symbol that the relay has no data of yet) takes all its channels along: ask later. */
  #askAgain() {
    clearTimeout(this.again);
    this.again = setTimeout(() => {
      for (const [channel, { heard }] of this.channels) if (!heard) this.pending.subscribe.add(channel);
      this.#flush();
    }, ASK_AGAIN_MS);
  }

  #send(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  #receive(text) {
    const arrivedAt = this.clock();
    this.lastMessageAt = arrivedAt;
    const message = JSON.parse(text);
    if (message.op === "pong") {
      const sentAt = this.pings.get(message.id);
      if (sentAt !== undefined) this.offset.add(sentAt, message.t, arrivedAt);
      return;
    }
    if (message.op === "error") this.#askAgain();
    if (message.op) return;
    this.messages += 1;
    this.tries = 0;
    const channel = this.channels.get(message.ch);
    if (!channel) return;
    channel.heard = true;
    if (message.kind === "update") this.offset.heard(message.t.relayed, arrivedAt);
    const verdict = channel.state.accept(message.kind, message.seq, message.ch.startsWith("trade:"));
    if (verdict === "use") channel.handler(message, arrivedAt);
    else if (verdict === "torn") {
      const { handler } = channel;
      this.unsubscribe(message.ch);
      queueMicrotask(() => this.subscribe(message.ch, handler));
    }
  }
}
