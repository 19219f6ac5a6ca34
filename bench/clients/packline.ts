/** packline's own client, as a load. */

import { connect } from "../../client.ts";
import { loadThrough } from "./calls.ts";

await loadThrough(async ({ port }) => {
  const client = await connect({ port });
  return async () => {
    const { res } = await client.reply("PING");
    if (res !== "PONG") throw new Error(`a reply is wrong: ${res}`);
  };
});
