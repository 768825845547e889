// One paint a frame. Work that arrives twice before a frame is done once; a hidden tab paints nothing.

class Frame {
  constructor() {
    this.work = new Map();
    this.after = [];
    this.asked = false;
    if (typeof document !== "undefined") {
      document.addEventListener("visibilitychange", () => { if (!document.hidden) this.#ask(); });
    }
  }

  /** Run `paint` in the next frame; a later one of the same name replaces it. */
  paint(name, paint) {
    this.work.set(name, paint);
    this.#ask();
  }

  /** Run `call(paintedAtMs)` once, when the next frame is painted; not kept while the tab is hidden. */
  painted(call) {
    if (document.hidden) return;
    this.after.push(call);
    this.#ask();
  }

  #ask() {
    if (this.asked || document.hidden) return;
    this.asked = true;
    requestAnimationFrame(() => this.#run());
  }

  #run() {
    this.asked = false;
    const work = [...this.work.values()];
    const after = this.after;
    this.work.clear();
    this.after = [];
    for (const paint of work) paint();
    if (!after.length) return;
    // A message sent from within a frame is handled right after that frame's paint.
    const channel = new MessageChannel();
    channel.port1.onmessage = () => {
      const now = performance.timeOrigin + performance.now();
      for (const call of after) call(now);
      channel.port1.close();
    };
    channel.port2.postMessage(0);
  }
}

export const frame = new Frame();
