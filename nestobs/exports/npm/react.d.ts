import type { Attempt, JoinOptions, Seat, Verdict, Wait } from "./join.js";

export interface NestJoinOptions extends Omit<JoinOptions, "signal"> {
  /** What "Restart Nest" does: the host's own call. */
  readonly onRestart?: (() => void) | undefined;
}

export interface NestJoin {
  /** "joined" from the first seat on, a guest's too. */
  readonly phase: "idle" | "joining" | "joined" | "failed";
  /** What the page says now; "" where nothing need be said. */
  readonly message: string;
  /** The toast to show, once for each object: whoever is signed in sits as a guest. */
  readonly toast: { readonly title: string; readonly description: string } | null;
  /** The one button; null: there is none. */
  readonly button: {
    readonly does: "join" | "retry" | "restart";
    readonly label: string;
    readonly disabled: boolean;
  } | null;
  /** Press that button. */
  readonly press: () => void;
  /** Join, whatever the button is; the verdict, or null when it was stopped or failed. One join at a time. */
  readonly start: () => Promise<Verdict | null>;
  /** End it, without a trace. */
  readonly stop: () => void;
  /** While it waits to ask again. */
  readonly wait: Wait | null;
  readonly seat: Seat | null;
  readonly verdict: Verdict | null;
  /** For the debug panel. */
  readonly attempts: readonly Attempt[];
  /** What `sign` or a listener threw. */
  readonly error: unknown;
}

/**
 * A join as the state of a component. It begins when the button is pressed, and ends with the component, or when `api`
 * or `room` become others. Of the other options those count that the component had when it was pressed; of `onEvent` and
 * `onRestart` always the latest.
 */
export declare function useNestJoin(options: NestJoinOptions): NestJoin;
