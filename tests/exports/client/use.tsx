// A client as somebody writes it in strict TypeScript: everything that the package exports, used.

import { join, labels, messages, nextAction, nip98, policy, toast } from "nest-join";
import type { Action, JoinEvent, JoinOptions, Kind, Policy, Seat, State, Verdict } from "nest-join";
import { join as joinAlone } from "nest-join/join";
import { useNestJoin } from "nest-join/react";

import { nextAction as single, policy as singlePolicy } from "./single.js";

type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Loose<T> = { -readonly [name in keyof T]-?: Exclude<T[name], undefined> };
const sameState: Same<Loose<State>, Loose<Parameters<typeof single>[0]>> = true;
const sameAction: ReturnType<typeof single> = nextAction({});
const samePolicy: Policy = singlePolicy;

export function waitOf(state: State, missing: number | undefined): number {
  const next: Action = nextAction({ ...state, elapsedSeconds: missing }, () => 0.5);
  if (next.action === "info" || next.action === "join" || next.action === "guest") return next.waitSeconds;
  const kind: Kind = next.kind;
  return messages[kind].length > 0 ? next.waitSeconds : (policy.schedule.table[0]?.[1] ?? policy.error_gap_s);
}

interface Nostr {
  signEvent(event: { kind: number; created_at: number; content: string; tags: string[][] }): Promise<object>;
}

export async function audio(room: string, nostr: Nostr | undefined, signal: AbortSignal | undefined): Promise<string> {
  const told: JoinEvent[] = [];
  const options: JoinOptions = {
    api: "https://nests.example/api/v1/nests",
    room,
    createdAt: undefined,
    sign: nostr === undefined ? undefined : nip98((event) => nostr.signEvent(event)),
    connect: async ({ token, as, signal }) => {
      signal.throwIfAborted();
      return `${as} ${token}`;
    },
    signal,
    onEvent: (event) => told.push(event),
  };
  const verdict: Verdict = await joinAlone(options);
  const again: Promise<Verdict> = join({ ...options, sign: ({ url, method }) => `Nostr ${method} ${url}` });
  for (const event of told) {
    if (event.type === "attempt" && event.step === "connect") return String(event.error);
    if (event.type === "wait") return `${event.seconds} s: ${event.message}`;
    if (event.type === "seat") return event.token;
    if (event.type === "verdict") return event.verdict.attempts[0]?.step ?? "";
  }
  return (await again).joined ? (verdict.token ?? "") : labels.retry;
}

export function Nest(props: { api: string; room: string; createdAt?: number }) {
  const { button, message, press, phase, toast: shown, seat } = useNestJoin({
    ...props,
    onRestart: () => {},
    onEvent: (event) => console.log(event.type),
  });
  const seated: Seat | null = seat;
  return (
    <section data-phase={phase} title={shown?.description ?? toast.title}>
      <p role="status">{message}</p>
      {button && (
        <button disabled={button.disabled} onClick={press}>
          {button.label === labels.restart ? "Restart" : button.label}
        </button>
      )}
      {seated && <audio />}
    </section>
  );
}

// @ts-expect-error: a step that there is not
nextAction({ asked: "leave" });
// @ts-expect-error: the room is missing
void join({ api: "" });
// @ts-expect-error: nobody changes the policy
policy.max_requests = 1;
// @ts-expect-error: the hook has its own signal
useNestJoin({ api: "", room: "", signal: new AbortController().signal });

export { sameAction, samePolicy, sameState };
