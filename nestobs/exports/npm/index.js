// How a client joins a nest, by a policy that was measured. Written by nestobs; see README.md.

export { join, nip98 } from "./join.js";
export { nextAction, policy } from "./policy.js";
export { labels, messages, toast } from "./wording.js";
