// join() once for each room of an API that answers in many ways.

import { join } from "nest-join";

const { api, rooms, slow, createdAt } = JSON.parse(process.argv[2]);
const found = {};
async function ask(room) {
  const options = { api, room, createdAt, sign: () => "Nostr e30=", random: () => 0.5 };
  const { kind, message, retryOffered, requests, attempts } = await join(options);
  found[room] = { kind, message, retryOffered, requests, after: attempts.map((one) => one.retryAfterSeconds) };
}
const waiting = ask(slow);
for (const room of rooms) await ask(room); // one by one, so that none is late because of the others
await waiting;
process.stdout.write(JSON.stringify(found));
