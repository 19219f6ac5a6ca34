/** The client of Redis for JavaScript, as a load. */

import { createClient } from "@redis/client";
import { GETS, loadThrough } from "./calls.ts";

await loadThrough(async ({ port }) => {
  const client = createClient({ socket: { host: "127.0.0.1", port } });
  await client.connect();
  return (key) => client.get(key);
}, GETS);
