// The published client asks our server. node ask.mjs BUNDLE DATAFEED_URL QUESTIONS -> the answers as JSON.
//
// The package exports its React component alone; its modules of the datafeed stand one after the other in the bundle,
// each under a comment with its name, and import nothing. They are evaluated as they are.
import { readFileSync } from "node:fs";
import vm from "node:vm";

const [, , bundle, url, questions] = process.argv;
const lines = readFileSync(bundle, "utf8").split("\n");
const folder = "// src/tradingView/tradingViewAdapter/datafeed/";
const first = lines.indexOf(`${folder}helpers.ts`);
const end = lines.indexOf(`${folder}eventBus.ts`);
if (first < 0 || end < first) throw new Error("the bundle is another one");
const code = lines.slice(first, end).join("\n") + "\n;({ AbstractDatafeed, HistoryProvider, Requester, SymbolsStorage })";
const quiet = { log() {}, warn() {} };
const client = vm.runInNewContext(code, { fetch, Promise, JSON, Date, Math, console: quiet, encodeURIComponent });

const requester = new client.Requester();

const answers = {
  /** The configuration, after the client has accepted it. */
  config: () => new Promise((resolve) => new client.AbstractDatafeed(url).onReady(resolve)),
  /** What a chart is told of a symbol. */
  symbol: ({ symbol }) => requester.sendRequest(url, "symbols", { symbol }),
  /** The bars of one request of a chart; what the chart would be told of a failure. */
  bars: ({ symbol, resolution, period }) =>
    new Promise((resolve) => {
      const feed = new client.AbstractDatafeed(url);
      const done = (bars, meta) => resolve({ bars, meta });
      feed.getBars({ ticker: symbol }, resolution, period, done, (error) => resolve({ error }));
    }),
  /** All bars up to `to`, asked for as a chart does that is dragged back, until it is told that there are none. */
  scroll: async ({ symbol, resolution, to, step }) => {
    const history = new client.HistoryProvider(url, requester);
    const bars = [];
    let requests = 0;
    for (let until = to; requests < 50; ) {
      requests += 1;
      const { bars: more, meta } = await history.getBars({ ticker: symbol }, resolution, {
        from: until - step, to: until, countBack: 300,
      });
      if (meta.noData && meta.nextTime === undefined) break;
      bars.unshift(...more);
      until = more.length ? more[0].time / 1000 - 1 : meta.nextTime;
    }
    return { bars, requests };
  },
};

const asked = [];
for (const question of JSON.parse(questions)) asked.push(await answers[question.ask](question));
console.log(JSON.stringify(asked));
