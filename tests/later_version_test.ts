/**
 * What a later version of the other end may say, over TCP and in both directions: it is ignored, and the connection goes
 * on (PROTOCOL.md, "Messages").
 */

import { assertEquals } from "@std/assert";
import { Session } from "../cli/session.ts";
import { outgoing } from "../cli/call.ts";
import { connect } from "../client.ts";
import { memoryNetwork, ScriptedServer, tcpNetwork } from "./support/scripted_server.ts";
import { turn } from "./support/fake_clock.ts";
import { withServer } from "./support/test_server.ts";
import type { Message } from "./support/wire.ts";

/** Control messages that say nothing known, as of clients with settings, streams or anything else of their own. */
function laterControls(seq: number): Message[] {
  return [
    { cmd: 0 },
    { cmd: 0, seq },
    { cmd: 0, pace: 30_000, load: true },
    { cmd: 0, pace: "often" },
    { cmd: 0, seq, items: [1, { max: 1, cancel: true, item: "x" }] },
    { cmd: 0, seq, ended: true },
    { cmd: 0, pause: null, $trace: "x" },
    { cmd: 0, meta: { token: "t" }, ttl: 5, text: "x".repeat(100_000) },
  ];
}

/** Messages from the server that answer nothing, as of servers that shut down, take more, or tell anything else. */
function laterNotices(seq: number): Message[] {
  return [
    { gone: 5_000 },
    { seq, going: 5_000 },
    { credit: 5 },
    { seq, credits: 5 },
    { seq, more: true, part: 1 },
    { seq: seq + 1_000, later: null },
    { $load: 0.5 },
    { msg: "text", data: { res: 1, err: "NO" }, later: "x".repeat(50_000) },
  ];
}

Deno.test("a server ignores control messages of a later client: no reply, no strike, and all calls go on", async () => {
  await using served = await withServer({ maxStrikes: 1 });
  const peer = await served.connect();
  await peer.send(...laterControls(7), { cmd: 2, sleep: 3_600, seq: 7 });
  await peer.send({ cmd: "TICK", interval: 0, count: 3, seq: 8, credit: 1 });
  assertEquals(await peer.readReply(), { seq: 8, res: 1, more: true });
  for (let times = 0; times < 5; times++) {
    await peer.send(...laterControls(7), ...laterControls(8), ...laterControls(99));
  }
  assertEquals(await peer.ask({ cmd: 1 }), { res: "PONG" });
  const { res } = await peer.ask({ cmd: 4, seq: 9 }) as { res: { inFlight: number; refused: Message } };
  assertEquals([res.inFlight, res.refused.invalidMessage, res.refused.unknownCommand], [2, 0, 0]);

  // What is known beside unknown fields counts.
  await peer.send({ cmd: 0, seq: 8, credit: 9, later: 1 });
  const rest = [{ res: 2, more: true }, { res: 3, more: true }, { res: 3 }];
  assertEquals(await peer.readReplies(3), rest.map((reply) => ({ seq: 8, ...reply })));
  assertEquals(await peer.ask({ cmd: 0, seq: 7, cancel: true, later: 1 }), { seq: 7, err: "CANCELLED" });
  await peer.halfClose();
  assertEquals(await peer.readToEnd(), []);
});

for (const makeNetwork of [memoryNetwork, tcpNetwork]) {
  const name = makeNetwork === tcpNetwork ? "TCP" : "memory";

  Deno.test(`a client over ${name} ignores notices of a later server, whatever runs`, async () => {
    using network = makeNetwork();
    const accepted = ScriptedServer.accept(network);
    await using client = await connect({ dial: () => network.dial() });
    await using server = await accepted;
    await server.reply(...laterNotices(0)); // before any call
    const call = client.reply("A");
    const stream = client.stream("B", {}, { credit: 4 });
    const first = stream.next();
    await server.requests(2);
    await server.reply(...laterNotices(0), { seq: 1, res: "item", more: true }, ...laterNotices(1));
    assertEquals(await first, { done: false, value: "item" });
    await server.reply({ seq: 1, res: "last" }, ...laterNotices(1), ...laterNotices(77), { seq: 0, res: "A" });
    assertEquals(await call, { res: "A" });
    assertEquals(await stream.next(), { done: true, value: "last" });
    await server.reply(...laterNotices(0)); // between calls
    const next = client.reply("C");
    assertEquals((await server.request()).cmd, "C");
    await server.reply({ seq: 2, res: "C", later: 1 });
    assertEquals(await next, { res: "C", later: 1 });
    assertEquals([client.state, client.statistics().lateReplies], ["open", 0]);
  });

  Deno.test(`a client without seq over ${name} does not count notices as replies`, async () => {
    using network = makeNetwork();
    const accepted = ScriptedServer.accept(network);
    await using client = await connect({ dial: () => network.dial(), sequenced: false });
    await using server = await accepted;
    for (const round of [1, 2, 3]) {
      const call = client.reply("A");
      await server.request();
      await server.reply(...laterNotices(0), { res: round }, ...laterNotices(0));
      assertEquals(await call, { res: round });
    }
    assertEquals([client.state, client.statistics().lateReplies], ["open", 0]);
  });

  Deno.test(`the script's session over ${name} neither shows notices nor loses its connection by them`, async () => {
    using network = makeNetwork();
    const session = new Session(() => network.dial());
    const accepted = ScriptedServer.accept(network);
    const conversation = await session.connect(new AbortController().signal);
    await using server = await accepted;
    for (const round of [1, 2, 3]) {
      const replies: unknown[] = [];
      const asked = (async () => {
        const call = outgoing({ name: "GREET", params: {} });
        for await (const { fields } of session.ask(call, new AbortController().signal)) replies.push(fields);
      })();
      await server.request();
      await server.reply(...laterNotices(1), { seq: 1, res: 0, more: true }, ...laterNotices(1));
      await server.reply({ seq: 1, res: round }, ...laterNotices(1));
      await asked;
      assertEquals(replies, [{ res: 0 }, { res: round }]);
      await server.reply(...laterNotices(1)); // nobody asks
      for (let turns = 0; turns < 20; turns++) await turn();
      assertEquals(conversation.ended, false);
    }
    session.close();
  });
}
