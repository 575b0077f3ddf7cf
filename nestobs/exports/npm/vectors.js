// Does nextAction decide as nestobs does? `npm test` in this folder: every vector of vectors.json, to the last bit.

import { readFileSync } from "node:fs";

import { nextAction, policy } from "./policy.js";

const found = JSON.parse(readFileSync(new URL("./vectors.json", import.meta.url), "utf8"));
let failed = JSON.stringify(found.policy) === JSON.stringify(policy) ? 0 : 1;
for (const { state, random, expected } of found.vectors) {
  const numbers = [...random];
  const said = nextAction(state, () => numbers.shift());
  if (Object.keys(expected).every((name) => said[name] === expected[name])) continue;
  failed += 1;
  console.error(JSON.stringify({ state, random, expected, said }));
}
console.log(`${found.vectors.length} vectors, ${failed} of them failed`);
process.exitCode = failed === 0 ? 0 : 1;
