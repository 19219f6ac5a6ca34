/** packline's own client, as a load. */

import { connect } from "../../client.ts";
import { loadThrough } from "./calls.ts";

await loadThrough(async ({ port }) => {
  const client = await connect({ port });
  return async () => {
    const result = await client.call.PING();
    if (result !== "PONG") throw new Error(`a result is wrong: ${result}`);
  };
});
