/** packline's client with streams both ways, as a load. In: the work as JSON; optionally the credit of a download. */

import { connect } from "../../client.ts";
import { itemsOf, measureTransfer } from "../stream_job.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";

const [, credit] = Deno.args;
const options = credit === undefined ? {} : { credit: Number(credit) };

await measureTransfer(async ({ port, direction, chunkBytes }) => {
  const client = await connect({ port, maxPayloadBytes: MAX_PAYLOAD_BYTES });
  if (direction === "upload") {
    return async (items) => await client.call("PUT", {}, { items: itemsOf(chunkBytes, items) }) as number;
  }
  return async (items) => {
    let arrived = 0;
    for await (const _item of client.stream("GET", { chunkBytes, items }, options)) arrived++;
    return arrived;
  };
});
