// join() once for each room of an API that answers in many ways; and what it makes of options that are none.

import { join } from "nest-join";

const { api, rooms, createdAt } = JSON.parse(process.argv[2]);
const found = {};
await Promise.all(
  rooms.map(async (room) => {
    const options = { api, room, createdAt, sign: () => "Nostr e30=", random: () => 0.5 };
    try {
      const { kind, message, retryOffered, requests, attempts } = await join(options);
      found[room] = { kind, message, retryOffered, requests, after: attempts.map((one) => one.retryAfterSeconds) };
    } catch (error) {
      found[room] = { error: `${error.name}: ${error.message}` };
    }
  }),
);
process.stdout.write(JSON.stringify(found));
