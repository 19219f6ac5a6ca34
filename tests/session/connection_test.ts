/** What a connection does with the buffers that it has sent, on transports that release them and on others. */

import { assertEquals } from "@std/assert";
import { command } from "../../handlers/command.ts";
import { createServer } from "../../server.ts";
import { fromStreams, type Transport } from "../../transport/transport.ts";
import { concat, messages, request } from "../support/wire.ts";

const ITEMS = [1, 2, 3, 4];
const ITEM_BYTES = 100_000;

const LARGE = command(async function* () {
  for (const fill of ITEMS) yield new Uint8Array(ITEM_BYTES).fill(fill);
});

/** The chunks of a stream of large items, as a transport has got them. */
async function chunksOf(releasesBytes: boolean): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  const input = concat(request({ cmd: 0, max: 1_000_000 }), request({ cmd: "LARGE", seq: 1 }));
  const transport: Transport = fromStreams({
    readable: new ReadableStream({
      start(controller) {
        controller.enqueue(input);
        controller.close();
      },
    }),
    writable: new WritableStream({ write: (chunk) => void chunks.push(releasesBytes ? chunk.slice() : chunk) }),
  });
  await using server = createServer({ commands: { LARGE } });
  await server.accept(Object.assign(transport, { releasesBytes }));
  return chunks;
}

for (const releasesBytes of [false, true]) {
  Deno.test(`Connection sends large items whole where a transport ${releasesBytes ? "releases" : "keeps"} what it is given`, async () => {
    const replies = messages(concat(...await chunksOf(releasesBytes)));
    const items = replies.filter(({ more }) => more).map(({ res }) => res);
    assertEquals(items, ITEMS.map((fill) => new Uint8Array(ITEM_BYTES).fill(fill)));
  });
}
