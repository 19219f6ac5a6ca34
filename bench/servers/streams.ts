/** packline with streams both ways: GET sends items, PUT counts the caller's. */

import { command, unchecked } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { itemsOf } from "../stream_job.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";

const GET = command(async function* ({ chunkBytes, items }: { chunkBytes: number; items: number }) {
  for (const item of itemsOf(chunkBytes, items)) yield item; // `yield*` would wait for each item twice
});

const PUT = command({
  items: unchecked<unknown>(),
  handler: async (_params: object, { items }) => {
    let arrived = 0;
    for await (const _item of items) arrived++;
    return arrived;
  },
});

const server = await serve({ port: 0, commands: { GET, PUT }, maxPayloadBytes: MAX_PAYLOAD_BYTES });
console.log(server.port);
