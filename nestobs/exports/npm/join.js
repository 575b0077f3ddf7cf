// One join of a nest, from the press of a button to a verdict. What is decided is nextAction's; this asks, waits and tells.

import { nextAction, policy } from "./policy.js";

const LONGEST_BODY = 1_048_576; // bytes; a longer answer is none of this API's
const LONGEST_WAIT = 3_600; // s; no longer Retry-After is believed
const REFUSALS = [401, 403, 404]; // of LiveKit: to try again would be no different
const DATE = /^[A-Za-z]{3,9},? .+ (GMT|UTC|[+-]\d{4})$|^\d{4}-\d\d-\d\dT.+(Z|[+-]\d\d:\d\d)$/;
const WRONG_PATH = "Endpoint not found"; // the API's word for a request that is about no nest

/** See join.d.ts. */
export async function join(options) {
  const run = begun(options);
  for (;;) {
    run.signal?.throwIfAborted();
    const next = nextAction(situation(run), run.random);
    if (next.action === "stop") return verdict(run, next);
    if (next.action === "wait") await pause(run, next);
    else if (next.action !== "connect") await request(run, next.action);
    else if (await connected(run, next)) {
      if (next.kind !== "guest_instead" || !policy.upgrades) return verdict(run, next);
      run.upgrades = 0;
    }
  }
}

/** See join.d.ts. */
export function nip98(signEvent) {
  return async ({ url, method }) => {
    const created_at = Math.floor(Date.now() / 1000);
    const tags = [
      ["u", url],
      ["method", method],
    ];
    const event = await signEvent({ kind: 27235, created_at, content: "", tags });
    const bytes = new TextEncoder().encode(JSON.stringify(event));
    return `Nostr ${btoa(String.fromCharCode(...bytes))}`;
  };
}

function begun(options) {
  const { api, room, sign = null, createdAt = null, host = false, connect = null, signal = null } = options;
  const { roomThere = null, onEvent = null, fetch: ask = fetch, random = Math.random } = options;
  if (createdAt !== null && !Number.isFinite(createdAt)) throw new TypeError("join: createdAt is a number of seconds");
  return {
    base: address(api, room),
    room,
    sign,
    createdAt,
    host,
    connect,
    signal,
    witness: roomThere,
    onEvent,
    fetch: (...of) => ask(...of), // a browser's own is nobody's method
    random,
    began: performance.now(),
    attempts: [],
    polls: 0,
    requests: 0,
    errorRetries: 0,
    asked: null,
    status: null,
    retryAfter: null,
    timedOut: false,
    infoActive: false,
    activeSince: null,
    there: null,
    thereSince: 0,
    madeAt: null,
    upgrades: null,
    token: null,
    seat: null,
  };
}

// Where the requests go. A room's name is a stranger's word: it may stay one part of the path, or it is refused.
function address(api, room) {
  const base = new URL(api, globalThis.location?.href);
  if (!["http:", "https:"].includes(base.protocol)) throw new TypeError("join: api is https://HOST/api/v1/nests");
  if (typeof room !== "string" || ["", ".", ".."].includes(room)) throw new TypeError("join: room names no room");
  return `${base.origin}${base.pathname.replace(/\/+$/, "")}/${encodeURIComponent(room)}`;
}

function elapsed(run) {
  return (performance.now() - run.began) / 1000;
}

function age(run) {
  return run.createdAt === null ? null : Date.now() / 1000 - run.createdAt;
}

function situation(run) {
  const now = elapsed(run);
  return {
    signedIn: run.sign !== null,
    host: run.host,
    ageSeconds: age(run),
    elapsedSeconds: now,
    asked: run.asked,
    status: run.status,
    polls: run.polls,
    requests: run.requests,
    errorRetries: run.errorRetries,
    retryAfterSeconds: run.retryAfter,
    infoActive: run.infoActive,
    infoActiveSeconds: run.activeSince === null ? null : now - run.activeSince,
    roomThere: run.there,
    roomThereSeconds: run.there ? now - Math.max(run.thereSince, run.activeSince ?? 0) : 0,
    roomMadeSeconds: run.madeAt === null ? null : Date.now() / 1000 - run.madeAt,
    timedOut: run.timedOut,
    upgrades: run.upgrades,
  };
}

async function request(run, step) {
  if (run.asked === null) {
    run.polls += 1;
    run.infoActive = false;
    if (run.upgrades !== null) run.upgrades += 1;
  }
  const url = run.base + { info: "/info", join: "", guest: "/guest" }[step];
  const headers = step === "join" ? { authorization: await signature(run, url) } : {};
  run.requests += 1;
  const answer = await within(policy.request_timeout_s, run.signal, async (signal) => {
    const response = await run.fetch(url, { headers, signal, cache: "no-store" });
    const text = await body(response);
    return { status: response.status, text, retryAfter: retryAfter(response) };
  });
  const { status = 0, text = "", retryAfter: after = null } = answer.value ?? {};
  run.timedOut = answer.timedOut;
  run.retryAfter = after;
  look(run);
  hear(run, step, status, text);
  attempted(run, step, status);
}

// The header's text. A signer asks a person, so it has no time limit but the join's own end.
async function signature(run, url) {
  const signed = await within(null, run.signal, () => run.sign({ url, method: "GET" }));
  if ("error" in signed) throw signed.error;
  if (typeof signed.value !== "string") throw new TypeError("join: sign gives the text of an Authorization header");
  return signed.value;
}

function look(run) {
  const said = run.witness?.() ?? null;
  if (said === null) return;
  if (!run.there) run.thereSince = elapsed(run);
  run.there = said;
}

// What an answer means. Anybody may have given it: a proxy's page, or its "no", is not the API's word.
function hear(run, step, status, text) {
  const said = object(text);
  const granted = status >= 200 && status < 300;
  const no = status === 404 && saysNo(said, text);
  run.asked = step;
  run.status = status;
  if (step === "info") {
    run.infoActive = granted && isInfo(said);
    if (run.infoActive && isOpen(said)) run.activeSince ??= elapsed(run);
    else if (run.infoActive || no) run.activeSince = null;
    const made = run.infoActive ? said.createdAt : null;
    if (Number.isFinite(made) && made > 1.6e12 && made < 1e15) run.madeAt = Math.max(made / 1000, run.madeAt ?? 0);
    return;
  }
  if (status === 404 && !no) run.activeSince = null;
  if (status === 404 && said?.error === WRONG_PATH) run.status = 400; // an answer, and none about this nest
  if (!granted) return;
  run.token = typeof said?.token === "string" && /^[!-~]{1,16384}$/.test(said.token) ? said.token : null;
  if (said === null || said.error) run.status = 400;
  else if (run.token === null) [run.asked, run.status] = ["connect", 401]; // nextAction's word for no usable token
}

function isInfo(said) {
  const listed = Array.isArray(said?.speakers) || Array.isArray(said?.admins) || typeof said?.link === "string";
  return !said?.error && typeof said?.host === "string" && /^[0-9a-f]{64}$/.test(said.host) && listed;
}

function isOpen(said) {
  return typeof said.status !== "string" || !["closed", "ended", "inactive"].includes(said.status.toLowerCase());
}

// Whether a 404 is in a form in which a Nests API says it: an error that speaks of a nest, .NET's own, or no word.
function saysNo(said, text) {
  if (said === null) return text === "";
  const words = ["error", "message", "title", "detail"].map((name) => said[name]);
  const own = words.some((word) => typeof word === "string" && /^(the )?nest\b[^/<>]{0,80}$/i.test(word));
  return own || (said.title === "Not Found" && said.status === 404 && typeof said.traceId === "string");
}

async function connected(run, next) {
  const as = run.asked === "join" ? "authenticated" : "guest";
  const { token } = run;
  for (let made = 1; run.connect !== null; made++) {
    const tried = await within(policy.connect_timeout_s, run.signal, (signal) => run.connect({ token, as, signal }));
    const told = tried.error?.status;
    const status = "value" in tried ? 200 : REFUSALS.includes(told) ? told : 0;
    run.timedOut = tried.timedOut;
    attempted(run, "connect", status, tried.error);
    if (status === 200) break;
    if (status === 0 && made < policy.connect_attempts && elapsed(run) <= policy.horizon_s) continue;
    Object.assign(run, { asked: "connect", status, retryAfter: null });
    return false;
  }
  run.seat = { as, token };
  tell(run, { type: "seat", as, token, kind: next.kind, message: next.message });
  return true;
}

async function pause(run, next) {
  const failed = run.status === 0 || run.status === 429 || run.status >= 500;
  if (failed && run.asked !== "connect") run.errorRetries += 1;
  const { waitSeconds: seconds, kind, message, retryOffered } = next;
  tell(run, { type: "wait", at: Date.now(), seconds, kind, message, retryOffered, restartOffered: restart(run) });
  await within(seconds, run.signal, () => new Promise(() => {}));
  Object.assign(run, { asked: null, status: null, retryAfter: null, timedOut: false });
}

function verdict(run, { kind, message, retryOffered }) {
  const said = {
    kind,
    joined: run.seat !== null,
    message,
    retryOffered,
    restartOffered: run.seat === null && restart(run),
    as: run.seat?.as ?? null,
    token: run.seat?.token ?? null,
    room: run.room,
    ageSeconds: age(run),
    elapsedSeconds: elapsed(run),
    requests: run.requests,
    attempts: run.attempts,
  };
  tell(run, { type: "verdict", verdict: said });
  return said;
}

// Whether the host is given "Restart Nest": where anybody else is given Retry.
function restart(run) {
  return run.host && nextAction({ ...situation(run), host: false }, () => 0).retryOffered;
}

function attempted(run, step, status, error) {
  const attempt = {
    step,
    status,
    timedOut: run.timedOut,
    at: Date.now(),
    ageSeconds: age(run),
    elapsedSeconds: elapsed(run),
    retryAfterSeconds: run.retryAfter,
  };
  run.attempts.push(attempt);
  tell(run, error === undefined ? { type: "attempt", ...attempt } : { type: "attempt", ...attempt, error });
}

function tell(run, event) {
  run.signal?.throwIfAborted();
  run.onEvent?.(event);
}

// What came of a piece of work within so many seconds (null: however long): {value}, {error} or timedOut. Whatever ends
// it, its timer is gone and its own signal is aborted; that of the join rejects with the signal's reason.
function within(seconds, outer, work) {
  return new Promise((resolve, reject) => {
    const inner = new AbortController();
    let timer;
    const end = (settle, said) => {
      clearTimeout(timer);
      outer?.removeEventListener("abort", aborted);
      settle(said);
    };
    const aborted = () => {
      end(reject, outer.reason);
      inner.abort(outer.reason);
    };
    if (outer?.aborted) return aborted();
    outer?.addEventListener("abort", aborted);
    if (seconds !== null) {
      timer = setTimeout(() => {
        end(resolve, { timedOut: true });
        inner.abort(new DOMException("no answer in time", "TimeoutError"));
      }, seconds * 1000);
    }
    (async () => work(inner.signal))().then(
      (value) => end(resolve, { value, timedOut: false }),
      (error) => end(resolve, { error, timedOut: false }),
    );
  });
}

// The text of an answer, "" for none and null for one that is too long to be read.
async function body(response) {
  const reader = response.body?.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) return text + decoder.decode();
    bytes += value.byteLength;
    if (bytes > LONGEST_BODY) {
      reader.cancel().catch(() => {});
      return null;
    }
    text += decoder.decode(value, { stream: true });
  }
}

function object(text) {
  try {
    const found = JSON.parse(text);
    return typeof found === "object" && !Array.isArray(found) ? found : null;
  } catch {
    return null;
  }
}

// Seconds by Retry-After (RFC 9110, 10.2.3), digits or a date, of a 429 and a 503; null where nothing readable says so.
function retryAfter(response) {
  if (![429, 503].includes(response.status)) return null;
  const text = (response.headers.get("retry-after") ?? "").slice(0, 60).trim();
  const now = Date.parse(response.headers.get("date") ?? "") || Date.now();
  if (/^\d{1,18}(\.\d{0,9})?$/.test(text)) return Math.min(Number(text), LONGEST_WAIT);
  const until = DATE.test(text) ? Date.parse(text) : NaN;
  return Number.isNaN(until) ? null : Math.min(Math.max(0, (until - now) / 1000), LONGEST_WAIT);
}
