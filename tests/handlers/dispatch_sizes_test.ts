/** How large replies and failures may be (PROTOCOL.md, "Replies", "Long frames"): the server's limit, and its caller's. */

import { assertEquals } from "@std/assert";
import { encode } from "../support/msgpack.ts";
import { RpcError } from "../../errors.ts";
import { command, reply } from "../../handlers/command.ts";
import { askAll, bothWays, careless, PONG } from "../support/careless.ts";
import { withMemory } from "../support/test_server.ts";
import { chunksOf, hex, type Message, request, unhex } from "../support/wire.ts";

/** Answers with a payload of exactly `size` bytes, to a request without seq. */
const SIZED = careless(({ size }) => {
  // A text has a header of 1, 2, 3 or 5 bytes.
  const texts = [6, 7, 8, 10].map((header) => "x".repeat(size - header));
  return texts.find((res) => encode({ res }).length === size);
});

Deno.test("dispatch sends no long frame unasked either where a handler passes on a name of the peer's", async () => {
  await using served = withMemory({
    commands: { PASS: careless(({ fields }) => reply(1, fields)) },
  });
  await served.peer.send({ cmd: "PASS", fields: { ["$".repeat(60_000)]: 1 } });
  const { err, msg } = await served.peer.readReply();
  assertEquals([err, msg], ["REPLY_NOT_ENCODABLE", `the reply field "${"$".repeat(40)}…" is reserved`]);
  assertEquals(served.errors.take().length, 1);
  await served.peer.send({ cmd: "PASS", fields: { ["$x" + "x" + "😀".repeat(100)]: 1 } });
  assertEquals((await served.peer.readReply()).msg, `the reply field "$xx${"😀".repeat(18)}…" is reserved`);
  assertEquals(served.errors.take().length, 1);
});

Deno.test("dispatch sends no payload that needs a long frame until the client has said it takes one", async () => {
  await using served = withMemory({ commands: { SIZED } });
  const { peer } = served;
  const largest = await peer.ask({ cmd: "SIZED", size: 57_310 });
  assertEquals((largest.res as string).length, 57_302);
  assertEquals(hex(peer.received.slice(0, 2)), "ff fe");
  const refused = await peer.ask({ cmd: "SIZED", size: 57_311 });
  assertEquals([refused.err, Object.keys(refused)], ["REPLY_TOO_LARGE", ["err", "msg"]]);
  await peer.send({ cmd: 0, max: 100_000 });
  const before = peer.received.length;
  assertEquals(((await peer.ask({ cmd: "SIZED", size: 57_311 })).res as string).length, 57_303);
  assertEquals(hex(peer.received.slice(before, before + 6)), "1f 1f 00 00 df df");
  assertEquals(((await peer.ask({ cmd: "SIZED", size: 100_000 })).res as string).length, 99_990);
  assertEquals((await peer.ask({ cmd: "SIZED", size: 100_001 })).err, "REPLY_TOO_LARGE");
  assertEquals(await peer.ask({ cmd: 1 }), PONG);
  assertEquals(served.errors.take(), [], "a limit of the caller's own is no error of the server");
});

Deno.test("dispatch holds to its own limit, whatever a client would take", async () => {
  await using served = withMemory({ commands: { SIZED }, maxPayloadBytes: 70_000 });
  await served.peer.send({ cmd: 0, max: 2 ** 53 - 1 });
  assertEquals(((await served.peer.ask({ cmd: "SIZED", size: 70_000 })).res as string).length, 69_990);
  assertEquals((await served.peer.ask({ cmd: "SIZED", size: 70_001 })).err, "REPLY_TOO_LARGE");
  assertEquals(served.errors.take().length, 1);
});

Deno.test("dispatch holds to a limit below the short frame's, both ways", async () => {
  await using served = withMemory({ commands: { SIZED }, maxPayloadBytes: 100 });
  assertEquals(((await served.peer.ask({ cmd: "SIZED", size: 100 })).res as string).length, 93);
  const over = await served.peer.ask({ cmd: "SIZED", size: 101 });
  assertEquals(over.err, "REPLY_TOO_LARGE");
  assertEquals(served.errors.take().length, 1);
  await served.peer.send({ cmd: 1, text: "x".repeat(100) });
  const [refused, ...rest] = await served.peer.readToEnd();
  assertEquals([refused.err, rest], ["BAD_FRAME", []]);
});

Deno.test("dispatch takes long requests without being asked, up to its limit", async () => {
  const commands = { LENGTH: careless(({ text }) => text.length) };
  await using served = withMemory({ commands, maxPayloadBytes: 300_000 });
  const bytes = request({ cmd: "LENGTH", text: "\n".repeat(299_978) });
  assertEquals(bytes.length, 300_000 + 7);
  const sent = served.peer.sendBytes(...chunksOf(bytes, 10_000));
  assertEquals(await served.peer.readReply(), { res: 299_978 });
  await sent;
  const tooLong = served.peer.send({ cmd: "LENGTH", text: "\n".repeat(299_979) });
  assertEquals((await served.peer.readReply()).err, "BAD_FRAME");
  await tooLong.catch(() => {}); // its end finds the connection closed
});

Deno.test("dispatch keeps failures to the max that the peer takes: without data, then without text, and at least the code", async () => {
  const FAIL = command({
    handler: (): never => {
      throw new RpcError("NO_SUCH_PLACE", "x".repeat(100), { data: { near: "y".repeat(200) } });
    },
  });
  const asked = async (max: number, request: Record<string, unknown>) => {
    await using served = withMemory({ commands: { FAIL } });
    await served.peer.send({ cmd: 0, max });
    return await served.peer.ask(request);
  };
  const whole = { err: "NO_SUCH_PLACE", msg: "x".repeat(100), data: { near: "y".repeat(200) } };
  assertEquals(await asked(400, { cmd: "FAIL" }), whole);
  assertEquals(await asked(300, { cmd: "FAIL" }), { err: whole.err, msg: whole.msg });
  assertEquals(await asked(100, { cmd: "FAIL" }), { err: whole.err });
  assertEquals(await asked(1, { cmd: "FAIL", seq: 1 }), { seq: 1, err: whole.err });
  assertEquals(await asked(1, { cmd: 1, seq: 1 }), { seq: 1, err: "REPLY_TOO_LARGE" });
  assertEquals(await asked(8, { cmd: "FOO", seq: 1 }), { seq: 1, err: "CMD_NOT_FOUND" });
  assertEquals(await asked(40, { cmd: 1, seq: "no number" }), { err: "INVALID_MESSAGE" });

  await using served = withMemory();
  await served.peer.send({ cmd: 0, max: 40 });
  await served.peer.sendBytes(unhex("ff ff"));
  assertEquals(await served.peer.readReply(), { err: "BAD_FRAME" });
});

Deno.test("dispatch answers INTERNAL for a code that no reply may have, and reports why", async () => {
  const longest = "é".repeat(32); // 64 bytes
  const codes: [code: unknown, said: string][] = [
    ["C".repeat(2_000_000), `"${"C".repeat(64)}…"`],
    ["C".repeat(65), `"${"C".repeat(64)}…"`],
    [longest + "C", `"${longest}C…"`],
    ["C" + "😀".repeat(32), `"C${"😀".repeat(31)}…"`],
    [5, "a number"],
    [undefined, "undefined"],
  ];
  for (const [code, said] of codes) {
    await using served = withMemory({
      commands: bothWays(() => {
        throw new RpcError(code as string, "a text", { data: 1 });
      }),
    });
    assertEquals(await askAll(served), Array(4).fill({ err: "INTERNAL" }));
    const texts = served.errors.take().map(String);
    assertEquals(
      texts,
      Array(4).fill(`TypeError: Cannot answer with ${said} as the code: it must be text of at most 64 bytes`),
    );
  }
  await using served = withMemory({
    commands: bothWays(() => {
      throw new RpcError(longest);
    }),
  });
  assertEquals(await askAll(served), Array(4).fill({ err: longest }));
});

Deno.test("dispatch keeps each part of a failure to the max that the peer takes, whatever an untyped service puts there", async () => {
  const large = "x".repeat(2_000_000);
  const says = (json: object) => () => {
    throw Object.defineProperty(new RpcError("OWN"), "toJSON", { value: () => json });
  };
  const failures: [json: object, reply: Message][] = [
    [{ err: large }, { err: "INTERNAL" }],
    [{ err: large, msg: "a text", data: large }, { err: "INTERNAL" }],
    [{ err: "OWN", $after: large }, { err: "OWN" }],
    [{ err: "OWN", more: large }, { err: "OWN" }],
    [{ err: "OWN", msg: large }, { err: "OWN" }],
    [{ err: "OWN", msg: "a text", data: large }, { err: "OWN", msg: "a text" }],
  ];
  for (const [json, reply] of failures) {
    await using served = withMemory({ commands: bothWays(says(json)) });
    assertEquals(await askAll(served), Array(4).fill(reply));
    assertEquals(served.errors.take().length, 0);
  }
});
