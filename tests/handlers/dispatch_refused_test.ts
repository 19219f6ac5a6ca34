/** What is no command, and what is no message (PROTOCOL.md, "What goes wrong"): each is answered, and the connection goes on. */

import { assert, assertEquals } from "@std/assert";
import { careless, PONG } from "../support/careless.ts";
import { withMemory } from "../support/test_server.ts";
import { concat, frame, type Message, request, unhex } from "../support/wire.ts";

Deno.test("dispatch finds no command by a name or number that nobody registered", async () => {
  await using served = withMemory({ commands: { MINE: careless(() => 1) } });
  const inherited = Object.getOwnPropertyNames(Object.prototype);
  assert(inherited.includes("constructor") && inherited.includes("__proto__"));
  const names = [...inherited, "ping", "PING ", "", "1", "2", "then", "MINE\0"];
  for (const cmd of [...names, 5, 15, 16, 2 ** 53 - 1, -1, 1.5, NaN, null, true, [], {}, 2n ** 60n]) {
    assertEquals(await served.peer.ask({ cmd, seq: 1 }), { seq: 1, err: "CMD_NOT_FOUND" }, Deno.inspect(cmd));
  }
  assertEquals(await served.peer.ask({}), { err: "CMD_NOT_FOUND" });
  assertEquals(await served.peer.ask({ cmd: "MINE" }), { res: 1 });
});

Deno.test("dispatch takes a name of Object.prototype for a command where one is registered", async () => {
  const commands = Object.fromEntries(
    ["constructor", "__proto__", "toString"].map((name) => [name, careless(() => name)]),
  );
  await using served = withMemory({ commands });
  for (const name of Object.keys(commands)) assertEquals(await served.peer.ask({ cmd: name }), { res: name });
  const { res } = await served.peer.ask({ cmd: "STATS" }) as { res: { commands: Record<string, { calls: number }> } };
  for (const name of Object.keys(commands)) {
    assertEquals(Object.getOwnPropertyDescriptor(res.commands, name)?.value.calls, 1);
  }
});

Deno.test("dispatch gives the handler a parameter named __proto__ as one like any other", async () => {
  let seen: object | undefined;
  await using served = withMemory({
    commands: {
      LOOK: careless((params) => {
        seen = params;
        return params;
      }),
    },
  });
  const reply = await served.peer.ask(JSON.parse('{"cmd":"LOOK","__proto__":{"admin":true}}'));
  assertEquals(Object.getOwnPropertyNames(reply.res), ["__proto__"]);
  assert(Object.getPrototypeOf(seen) === Object.prototype && !("admin" in seen!));
});

Deno.test("dispatch answers INVALID_MESSAGE in the order of the lane, and goes on", async () => {
  const payloads = [
    "",
    "c1",
    "01",
    "91 01",
    "81 a3 63 6d 64",
    "80 80",
    "81 a1 61 a1 ff",
    "81 a1 61 d4 05 00",
    "81 c0 01",
  ];
  await using served = withMemory();
  for (const payload of payloads) {
    await served.peer.sendBytes(concat(request({ cmd: 1 }), frame(unhex(payload)), request({ cmd: 1 })));
    const [before, { err, msg, ...rest }, after] = await served.peer.readReplies(3);
    assertEquals([before, err, rest, after], [PONG, "INVALID_MESSAGE", {}, PONG], payload);
    assert(typeof msg === "string");
  }
});

Deno.test("dispatch answers INVALID_MESSAGE for fields out of their range, with the seq where it is sound", async () => {
  await using served = withMemory();
  const bad: Message[] = [{ ttl: 0 }, { ttl: "5" }, { ttl: -1 }, { meta: 5 }, { meta: { a: 1 } }, { credit: 0 }];
  for (const fields of bad) {
    const { seq, err } = await served.peer.ask({ cmd: 1, seq: 9, ...fields });
    assertEquals([seq, err], [9, "INVALID_MESSAGE"], Deno.inspect(fields));
    assertEquals((await served.peer.ask({ cmd: 1, ...fields })).err, "INVALID_MESSAGE");
  }
  assertEquals((await served.peer.ask({ cmd: 1, credit: 5 })).err, "INVALID_MESSAGE", "credit without a seq");
  assertEquals(await served.peer.ask({ cmd: 1, seq: 9, ttl: 5_000, meta: {}, credit: 1 }), { seq: 9, ...PONG });
});

Deno.test("dispatch answers INVALID_MESSAGE for a malformed control message, and goes on", async () => {
  await using served = withMemory();
  for (
    const fields of [{ seq: 1, cancel: true, credit: 1 }, { cancel: true }, { seq: 1, cancel: 1 }, {
      seq: 1,
      credit: 0,
    }, { max: -1 }]
  ) {
    const { err, seq } = await served.peer.ask({ cmd: 0, ...fields });
    assertEquals([err, seq], ["INVALID_MESSAGE", undefined], Deno.inspect(fields));
  }
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

Deno.test("dispatch ignores a control message that it does not know: no reply, no strike", async () => {
  await using served = withMemory({ maxStrikes: 1 });
  for (let times = 0; times < 3; times++) {
    for (const fields of [{}, { seq: 1 }, { alive: 30_000, notice: true }, { seq: 1, item: 1 }, { later: true }]) {
      await served.peer.send({ cmd: 0, ...fields });
    }
  }
  assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
});

Deno.test("dispatch puts no byte of the peer's into an error", async () => {
  await using served = withMemory();
  const marks = new TextEncoder().encode("MARK");
  await served.peer.ask({ cmd: 1 });
  for (
    const payload of [marks, concat(unhex("81 a4"), marks, unhex("c1")), concat(unhex("81 a5"), marks, unhex("ff 01"))]
  ) {
    await served.peer.sendBytes(frame(payload));
    await served.peer.readReply();
  }
  await served.peer.ask({ cmd: "MARK" });
  await served.peer.ask({ cmd: 1, seq: "MARK" });
  await served.peer.ask({ cmd: 1, meta: { MARK: 5 } });
  assert(!new TextDecoder().decode(served.peer.received).includes("MARK"));
});
