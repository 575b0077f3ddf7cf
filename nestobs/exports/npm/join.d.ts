import type { Asked, Kind } from "./policy.js";

export interface SignRequest {
  readonly url: string;
  readonly method: "GET";
}

/** One request of the API, or one connection, and what came. It holds no token. */
export interface Attempt {
  readonly step: Asked;
  /** HTTP status, or LiveKit's (200: connected); 0: no answer. */
  readonly status: number;
  readonly timedOut: boolean;
  /** Date.now() when it had ended. */
  readonly at: number;
  /** Since created_at then, s; null without an event. */
  readonly ageSeconds: number | null;
  /** Since join() was called, s. */
  readonly elapsedSeconds: number;
  readonly retryAfterSeconds: number | null;
}

/** It asks again by itself after so many seconds. */
export interface Wait {
  /** Date.now() when the wait began. */
  readonly at: number;
  readonly seconds: number;
  /** How it would end now, and what the page shows meanwhile. */
  readonly kind: Kind;
  readonly message: string;
  readonly retryOffered: boolean;
  readonly restartOffered: boolean;
}

/** A seat in the room: with a policy that asks on, a guest's may come before one's own. */
export interface Seat {
  readonly as: "authenticated" | "guest";
  /** For LiveKit. A secret. */
  readonly token: string;
  readonly kind: Kind;
  readonly message: string;
}

/** How the join ended. */
export interface Verdict {
  readonly kind: Kind;
  readonly joined: boolean;
  /** What the page shows; "" where nothing need be said. */
  readonly message: string;
  /** The button that the page then shows: Retry, for the host Restart, or none. */
  readonly retryOffered: boolean;
  readonly restartOffered: boolean;
  /** The seat, null where there is none. */
  readonly as: "authenticated" | "guest" | null;
  readonly token: string | null;
  readonly room: string;
  readonly ageSeconds: number | null;
  readonly elapsedSeconds: number;
  /** API requests made: policy.max_requests at most. */
  readonly requests: number;
  readonly attempts: readonly Attempt[];
}

export type JoinEvent =
  | ({ readonly type: "attempt"; /** Why a connection failed. */ readonly error?: unknown } & Attempt)
  | ({ readonly type: "wait" } & Wait)
  | ({ readonly type: "seat" } & Seat)
  | { readonly type: "verdict"; readonly verdict: Verdict };

export interface JoinOptions {
  /** The API's base, https://HOST/api/v1/nests: your own, never one that only an event names. */
  readonly api: string;
  /** The nest's id there: the event's `d` tag. */
  readonly room: string;
  /** The event's created_at, s; null or left out without an event. */
  readonly createdAt?: number | null | undefined;
  /** The text of an Authorization header (NIP-98), fresh for each request: see nip98. Null or left out: a guest. */
  readonly sign?: ((request: SignRequest) => string | Promise<string>) | null | undefined;
  /** The person is the nest's host (default false). */
  readonly host?: boolean | undefined;
  /**
   * Connects to LiveKit. It rejects where that fails; an error's `status` of 401, 403 or 404 is LiveKit's word. Its
   * signal is aborted when it takes too long: then nobody waits for it any more. Left out: the token is enough.
   */
  readonly connect?:
    | ((seat: {
        readonly token: string;
        readonly as: "authenticated" | "guest";
        readonly signal: AbortSignal;
      }) => unknown)
    | null
    | undefined;
  /** Whether LiveKit's room is there, where the page knows (a seat that another has); null: it does not. */
  readonly roomThere?: (() => boolean | null) | null | undefined;
  readonly signal?: AbortSignal | null | undefined;
  readonly onEvent?: ((event: JoinEvent) => void) | null | undefined;
  readonly fetch?: typeof globalThis.fetch | undefined;
  /** Uniform numbers in [0, 1); default Math.random. */
  readonly random?: (() => number) | undefined;
}

/**
 * Join a nest: asks /info, as oneself and as a guest, waits and asks again, as the policy says, and ends with a verdict.
 *
 * Rejects with the signal's reason when that is aborted: then no timer and no request of it is left, and no event comes.
 * Rejects with what `sign` or `onEvent` throws, and with a TypeError for options that are none.
 */
export declare function join(options: JoinOptions): Promise<Verdict>;

/** What a browser's signer (NIP-07: window.nostr.signEvent) is given to sign. */
export interface AuthEvent {
  kind: 27235;
  created_at: number;
  content: "";
  tags: string[][];
}

/** A `sign` by whatever signs events: `nip98((event) => window.nostr.signEvent(event))`. */
export declare function nip98(
  signEvent: (event: AuthEvent) => object | Promise<object>,
): (request: SignRequest) => Promise<string>;
