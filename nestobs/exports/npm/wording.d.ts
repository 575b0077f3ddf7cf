import type { Kind } from "./policy.js";

/** Of the one button: before the first try (not signed in: `joinAsGuest`), after one that failed, during the next; for
 * the host, where others are given `retry`: `restart`. */
export declare const labels: {
  readonly join: string;
  readonly joinAsGuest: string;
  readonly retry: string;
  readonly retrying: string;
  readonly restart: string;
};

/** Shown to somebody signed in who was seated as a guest (kind "guest_instead"). */
export declare const toast: { readonly title: string; readonly description: string };

/** What the page says at the end, as written; nextAction fills in `{when}` and adds the hint to sign in. */
export declare const messages: { readonly [kind in Kind]: string };
