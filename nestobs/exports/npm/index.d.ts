export { join, nip98 } from "./join.js";
export type { Attempt, JoinEvent, JoinOptions, Seat, SignRequest, Verdict, Wait } from "./join.js";
export { nextAction, policy } from "./policy.js";
export type { Action, Asked, Kind, Policy, Schedule, State } from "./policy.js";
export { labels, messages, toast } from "./wording.js";
