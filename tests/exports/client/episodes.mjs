// Whole joins by join() in virtual time: what it asked, waited and said, and whether anything was left of it.

import { getEventListeners } from "node:events";
import { readFileSync } from "node:fs";

const HOST = "ab".repeat(32);
let now = 0; // ns
const timers = new Map();
let made = 0;
globalThis.setTimeout = (work, ms) => {
  timers.set((made += 1), { at: now + Math.round(ms * 1e6), work });
  return made;
};
globalThis.clearTimeout = (number) => timers.delete(number);
Object.defineProperty(globalThis, "performance", { value: { now: () => now / 1e6 } });
Date.now = () => now / 1e6;
const turn = () => new Promise((done) => setImmediate(done));

async function episode(join, one, took, abortAt) {
  now = 0;
  const answers = [...one.statuses];
  const numbers = [...one.given];
  const controller = new AbortController();
  const log = [];
  const events = [];
  let [asked, connecting, open, aborted] = [0, null, 0, false];
  const silence = (signal) =>
    new Promise((_, failed) => {
      open += 1;
      signal.addEventListener("abort", () => [(open -= 1), failed(signal.reason)]);
    });
  if (abortAt === 0) stop();
  const settled = join({
    api: "http://api.example/api/v1/nests/",
    room: "a room",
    createdAt: one.ageNs === null ? null : -one.ageNs / 1e9,
    sign: one.signedIn ? ({ url, method }) => `Nostr ${method} ${url}` : null,
    host: one.host,
    roomThere: () => one.witness[asked % one.witness.length],
    random: () => numbers.shift(),
    signal: controller.signal,
    fetch: async (url, { headers, signal }) => {
      if (aborted) throw new Error("asked after the end");
      const step = { "/info": "info", "": "join", "/guest": "guest" }[url.split("/a%20room")[1]];
      if (step === "join" && headers.authorization !== `Nostr GET ${url}`) throw new Error("not signed");
      const status = one.faulty ? (step === "info" ? 200 : 404) : answers.shift();
      asked += 1;
      connecting = null;
      log.push([step, status]);
      if (status === 0) return silence(signal);
      now += took;
      const said = status === 200 ? { host: HOST, speakers: [], token: "t" } : { error: "Nest not found" };
      const after = status === 429 && one.retryAfter !== null ? { "retry-after": String(one.retryAfter) } : {};
      return new Response(JSON.stringify(said), { status, headers: after });
    },
    connect: ({ token, as, signal }) => {
      if (aborted || token !== "t" || !["authenticated", "guest"].includes(as)) throw new Error("not a seat");
      connecting ??= answers.shift();
      log.push(["signal", connecting]);
      if (connecting === 200) return null;
      if ([401, 403, 404].includes(connecting)) throw Object.assign(new Error("refused"), { status: connecting });
      return silence(signal);
    },
    onEvent: (event) => {
      if (aborted) throw new Error("told after the end");
      events.push(event);
      if (event.type === "wait") log.push(["wait", Math.round(event.seconds * 1e9)]);
      if (events.length === abortAt) setImmediate(stop);
    },
  }).then(
    (verdict) => ({ verdict }),
    (error) => ({ error }),
  );
  function stop() {
    controller.abort(new Error("enough"));
    aborted = true;
  }
  let ended = null;
  settled.then((found) => (ended = found));
  for (;;) {
    await turn();
    await turn();
    if (ended !== null) break;
    const first = [...timers.entries()].sort(([, a], [, b]) => a.at - b.at)[0];
    if (first === undefined) continue;
    now = first[1].at;
    timers.delete(first[0]);
    first[1].work();
  }
  const left = { timers: timers.size, open, listeners: getEventListeners(controller.signal, "abort").length };
  timers.clear();
  if (ended.error !== undefined) return { log, left, error: ended.error.message };
  const last = events.at(-1);
  const types = events.map(({ type }) => type);
  return { log, left, types, ...ended.verdict, told: last.type === "verdict" && last.verdict === ended.verdict };
}

const out = [];
for (const { path, episodes, took, abortAt } of JSON.parse(readFileSync(0, "utf8"))) {
  const { join } = await import(path);
  const played = [];
  for (const one of episodes) played.push(await episode(join, one, took, abortAt));
  out.push(played);
}
process.stdout.write(JSON.stringify(out));
