/** Where the joiner stands. Everything may be left out; what is known makes the answer better. */
export interface State {
  /** There is an identity, so the authenticated join is tried first (default false). */
  readonly signedIn?: boolean | undefined;
  /** Now minus the event's created_at, by the client's clock, s; null without an event. */
  readonly ageSeconds?: number | null | undefined;
  /** Since the person arrived, s (default 0). */
  readonly elapsedSeconds?: number | undefined;
  /**
   * What was asked last in this round; null before the first request and after each wait; "connect" for a connection to
   * LiveKit that failed. Left out: "guest" where there is a status.
   */
  readonly asked?: Asked | null | undefined;
  /**
   * The HTTP status that came, 0 for none; null before the first request. After "connect" LiveKit's: 404 no such room,
   * 401 the token was refused (or was no text at all), else 0.
   */
  readonly status?: number | null | undefined;
  /** Rounds begun, this one included (default 0). */
  readonly polls?: number | undefined;
  /** API requests made (default: as many as so many rounds may make). */
  readonly requests?: number | undefined;
  /** Waits made after a 429, a 5xx or no answer (default 0). */
  readonly errorRetries?: number | undefined;
  /** The last answer's Retry-After, s. */
  readonly retryAfterSeconds?: number | null | undefined;
  /** /info answered 200 in this round (default false). */
  readonly infoActive?: boolean | undefined;
  /** Since /info was first seen to answer 200 and did not answer otherwise, s; null where that is not known. */
  readonly infoActiveSeconds?: number | null | undefined;
  /** Whether LiveKit's room is there, where somebody who knows says so; null: nobody does. */
  readonly roomThere?: boolean | null | undefined;
  /** Since it is known to be there while /info answered 200, s (default 0). */
  readonly roomThereSeconds?: number | undefined;
  /** Since the room was made, as /info or LiveKit's list says, s; null: neither does. */
  readonly roomMadeSeconds?: number | null | undefined;
  /** The person is the nest's host, who is offered no Retry (default false). */
  readonly host?: boolean | undefined;
  /** What was asked last was not answered in time (default false). */
  readonly timedOut?: boolean | undefined;
  /** Tries for a seat of one's own since a guest's was taken, this one included; null: none was. */
  readonly upgrades?: number | null | undefined;
}

export type Asked = "info" | "join" | "guest" | "connect";

/** How a join ended, or would end now. The first three are joins. */
export type Kind =
  | "authenticated"
  | "guest"
  | "guest_instead"
  | "starting_up"
  | "gone"
  | "api_fault"
  | "unauthorised"
  | "forbidden"
  | "rate_limited"
  | "api_down"
  | "bad_token"
  | "livekit_unreachable"
  | "not_loaded";

/**
 * What to do next. "info", "join", "guest": make that request. "connect": with the token that came. "wait": so many
 * seconds, then begin a new round. "stop": the join has ended; of kind "guest_instead": in the seat that there is.
 */
export type Action = Asking<"info" | "join" | "guest"> | Telling<"connect" | "wait" | "stop">;

type Asking<Name> = Name extends string
  ? {
      readonly action: Name;
      readonly waitSeconds: number;
      readonly kind: null;
      readonly message: "";
      readonly retryOffered: false;
    }
  : never;

type Telling<Name> = Name extends string
  ? {
      readonly action: Name;
      /** 0 unless action is "wait". */
      readonly waitSeconds: number;
      /** To stop: how it ended; to wait: how it would; to connect: what holds once the joiner is in the room. */
      readonly kind: Kind;
      /** What the page shows. */
      readonly message: string;
      /** With a Retry button or without. */
      readonly retryOffered: boolean;
    }
  : never;

/** Gaps between rounds, s. `table`: rows of age and gap, ascending. */
export interface Schedule {
  readonly kind: "none" | "fixed" | "exponential" | "full_jitter" | "table";
  readonly interval_s: number;
  readonly factor: number;
  readonly cap_s: number;
  readonly table: readonly (readonly [age_s: number, gap_s: number])[];
}

/** The policy, as in the policy file. Durations and ages in seconds. */
export interface Policy {
  readonly name: string;
  readonly ask_info: boolean;
  readonly fallback: readonly number[];
  readonly schedule: Schedule;
  readonly jitter: number;
  readonly message_threshold_s: number;
  readonly give_up_age_s: number;
  readonly horizon_s: number;
  readonly max_requests: number;
  readonly error_retries: number;
  readonly error_gap_s: number;
  readonly request_timeout_s: number;
  readonly connect_attempts: number;
  readonly connect_timeout_s: number;
  readonly stay_s: number;
  readonly load_cutoff_s: number | null;
  readonly wording: "guide" | "released";
  readonly info_from: number;
  readonly fault_after_s: number | null;
  readonly fault_listed_s: number | null;
  readonly person: {
    readonly reaction_s: number;
    readonly spread: number;
    readonly leaves: number;
    readonly leaves_gone: number;
  } | null;
  readonly fallback_age_s?: number;
  readonly fallback_tries?: number;
  readonly upgrades?: number;
}

export declare const policy: Policy;

/**
 * The next move. It depends on its arguments alone.
 *
 * @param random uniform numbers in [0, 1); default Math.random
 * @throws {TypeError} for a state that is none: its message names the property
 */
export declare function nextAction(state: State, random?: () => number): Action;
