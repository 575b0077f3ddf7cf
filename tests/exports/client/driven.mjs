// join() in node against a real API: what it told, what came of it, and which timers of it are left.

const { api, sign, stopAt, host } = JSON.parse(process.argv[2]);
const timers = new Set();
let made = 0;
const [set, clear] = [setTimeout, clearTimeout];
globalThis.setTimeout = (work, ms, ...more) => {
  if (!new Error().stack.includes("nest-join/join.js")) return set(work, ms, ...more); // fetch has some of its own
  const timer = set(() => [timers.delete(timer), work()], ms);
  timers.add(timer);
  made += 1;
  return timer;
};
globalThis.clearTimeout = (timer) => [timers.delete(timer), clear(timer)];

const { join } = await import("nest-join");
const controller = new AbortController();
const events = [];
let stopped = false;
const stop = () => {
  controller.abort(new Error("enough"));
  stopped = true;
};
const signed = async ({ url, method }) =>
  (await fetch(`${sign}?url=${encodeURIComponent(url)}&method=${method}`)).text();
const said = { events };
const { room, createdAt } = await (await fetch(new URL("/open", api))).json();
if (stopAt === "held") {
  const look = async () => ((await (await fetch(new URL("/held", api))).text()) === "0" ? set(look, 20) : stop());
  look();
}
try {
  said.verdict = await join({
    api,
    room,
    createdAt,
    host,
    sign: sign === null ? null : signed,
    signal: controller.signal,
    onEvent: (event) => {
      if (stopped) throw new Error("told after the end");
      events.push(event);
      if (event.type === stopAt) set(stop, 50);
    },
  });
} catch (error) {
  said.error = error.message;
}
Object.assign(said, { made, left: timers.size });
process.stdout.write(JSON.stringify(said)); // and node ends by itself, or the test's time is over
