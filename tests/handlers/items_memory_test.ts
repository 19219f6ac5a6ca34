/** What uploads over sockets cost in memory: the process stays about as large as it was. */

import { assert, assertEquals } from "@std/assert";
import { unchecked } from "../../handlers/command.ts";
import { command } from "../../handlers/command.ts";
import { overEach } from "../support/transports.ts";
import { type Peer, settle } from "../support/peers.ts";
import { withServer } from "../support/test_server.ts";
import { request } from "../support/wire.ts";

const MIB = 1024 * 1024;

const ITEM = request({ cmd: 0, seq: 1, item: new Uint8Array(MIB) });

/** Sends items as they are granted, up to a number; returns how many were sent when `isOver` says so. */
async function sendAsGranted(peer: Peer, items: number, isOver: (sent: number) => boolean): Promise<number> {
  let sent = 0;
  for (let credit = 1; !isOver(sent);) {
    for (; credit > 0 && sent < items; credit--, sent++) await peer.sendBytes(ITEM);
    if (sent === items) break;
    await settle(1);
    for (const message of peer.takeReady()) credit += message.credit as number;
  }
  return sent;
}

overEach(
  "items - an upload of 256 MiB by a caller who keeps to its credit leaves the memory as it is",
  async (transport) => {
    await using server = await withServer({ maxPayloadBytes: 2 * MIB }, transport);
    const peer = await server.connect();
    await peer.send({ cmd: "TALLY", seq: 1, $items: true });
    const before = Deno.memoryUsage().rss;
    let peak = 0;
    await sendAsGranted(peer, 256, () => {
      peak = Math.max(peak, Deno.memoryUsage().rss);
      return false;
    });
    await peer.send({ cmd: 0, seq: 1, end: true });
    let last;
    do last = await peer.readReply(); while ("credit" in last);
    assertEquals(last, { seq: 1, res: { items: 256, bytes: 256 * MIB } });
    const grown = (peak - before) / MIB;
    console.log(`${grown.toFixed(0)} MiB more at the peak`);
    assert(grown < 128, `${grown} MiB more`);
  },
);

overEach("items - a handler that stops taking holds the caller within the bound", async (transport) => {
  const held = Promise.withResolvers<void>();
  const STOP = command({
    items: unchecked<Uint8Array>(),
    async handler(_: object, { items }) {
      let taken = 0;
      for await (const _ of items) if (++taken === 10) await held.promise;
      return taken;
    },
  });
  await using server = await withServer({ maxPayloadBytes: 2 * MIB, commands: { STOP } }, transport);
  const peer = await server.connect();
  await peer.send({ cmd: "STOP", seq: 1, $items: true });
  let idleTurns = 0;
  let last = 0;
  const sent = await sendAsGranted(peer, 1_000, (sent) => {
    idleTurns = sent === last ? idleTurns + 1 : 0;
    last = sent;
    return idleTurns > 2_000;
  });
  assert(sent >= 10 + 1 && sent <= 10 + 4, `${sent} items were sent, of which 10 were taken`);
  held.resolve();
  await peer.send({ cmd: 0, seq: 1, end: true });
  let reply;
  do reply = await peer.readReply(); while ("credit" in reply);
  assertEquals(reply, { seq: 1, res: sent });
});
