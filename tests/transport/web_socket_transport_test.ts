/** Frames of WebSockets (RFC 6455): its own examples, every fault, and how bytes are cut. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { socketTransport } from "../../transport/deno_network.ts";
import { type WebSocketRole, WebSocketTransport } from "../../transport/web_socket_transport.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { closeFrame, latin1, OPCODES, readAll, ScriptedTransport, webSocketFrame } from "../support/web_socket.ts";
import { settle } from "../support/peers.ts";
import { chunksOf, concat, unhex } from "../support/wire.ts";

const { continuation, text, binary, close, ping, pong } = OPCODES;

/** The mask of the RFC's examples. */
const MASK = unhex("37 fa 21 3d");
const HELLO = latin1("Hello");

/** What is read of frames that end in a close frame, and what the peer got. */
async function readFrames(role: WebSocketRole, ...pieces: Uint8Array[]) {
  const below = new ScriptedTransport(pieces);
  const read = await readAll(new WebSocketTransport(below, role));
  return { read, frames: below.frames };
}

Deno.test("the examples of RFC 6455, section 5.7, with binary in place of text", async () => {
  const end = closeFrame(1000);
  const maskedEnd = closeFrame(1000, { mask: MASK });
  const samples: [hex: string, role: WebSocketRole, read: Uint8Array][] = [
    ["82 05 48 65 6c 6c 6f", "client", HELLO],
    ["82 85 37 fa 21 3d 7f 9f 4d 51 58", "server", HELLO],
    ["02 03 48 65 6c 80 02 6c 6f", "client", HELLO],
  ];
  for (const [bytes, role, expected] of samples) {
    const { read } = await readFrames(role, unhex(bytes), role === "server" ? maskedEnd : end);
    assertEquals(read, expected, bytes);
  }
  for (const [head, size] of [["82 7e 01 00", 256], ["82 7f 00 00 00 00 00 01 00 00", 65_536]] as const) {
    const payload = new Random(size).bytes(size);
    assertEquals((await readFrames("client", concat(unhex(head), payload), end)).read, payload);
  }
});

Deno.test("a ping is answered with its payload, masked by a client, and a pong is nothing", async () => {
  const asClient = await readFrames("client", unhex("89 05 48 65 6c 6c 6f"), unhex("8a 00"), closeFrame(1000));
  assertEquals(asClient.frames.map(({ opcode, payload }) => [opcode, payload]), [[pong, HELLO]]);
  assert(asClient.frames[0].mask !== undefined);
  const masked = unhex("89 85 37 fa 21 3d 7f 9f 4d 51 58");
  const asServer = await readFrames("server", masked, closeFrame(1000, { mask: MASK }));
  assertEquals(asServer.frames, [{ opcode: pong, payload: HELLO, mask: undefined, final: true }]);
});

Deno.test("of many pings behind a write under way, the newest alone is answered, and behind it", async () => {
  const gate = Promise.withResolvers<void>();
  const pings = Array.from({ length: 5_000 }, (_, index) => webSocketFrame(ping, latin1(`${index}`)));
  const below = new ScriptedTransport([...pings, webSocketFrame(binary, HELLO)], gate.promise);
  below.blocked = gate.promise;
  const transport = new WebSocketTransport(below, "client");
  const writing = transport.write(latin1("first"));
  assertEquals(await transport.read(new Uint8Array(64)), HELLO.length);
  gate.resolve();
  await writing;
  await settle();
  assertEquals(below.frames.map(({ opcode, payload }) => [opcode, payload]), [
    [binary, latin1("first")],
    [pong, latin1("4999")],
  ]);
});

Deno.test("a flood of frames without data is read in portions, with pauses between them", async () => {
  for (const opcode of [ping, pong, binary]) {
    const flood = concat(...Array.from({ length: 100 }, () => webSocketFrame(opcode, latin1(""), { mask: MASK })));
    const below = new ScriptedTransport([]);
    let floodBytes = 0;
    below.read = (into) => {
      if (floodBytes > 200_000) into.set(webSocketFrame(binary, HELLO, { mask: MASK }));
      else into.set(flood.subarray(0, into.length));
      floodBytes += into.length;
      return Promise.resolve(floodBytes > 200_000 + into.length ? 11 : into.length);
    };
    const clock = new FakeClock();
    const reading = new WebSocketTransport(below, "server", undefined, clock).read(new Uint8Array(600));
    await clock.advance(0);
    assert(floodBytes < 20_000, `${floodBytes} bytes without a pause`);
    await clock.advance(100);
    assertEquals(await reading, 5);
  }
});

Deno.test("a message in parts, with control frames between them, is its bytes", async () => {
  const mask = MASK;
  const { read, frames } = await readFrames(
    "server",
    webSocketFrame(binary, latin1("He"), { mask, final: false }),
    webSocketFrame(ping, latin1("?"), { mask }),
    webSocketFrame(continuation, latin1(""), { mask, final: false }),
    webSocketFrame(pong, latin1("!"), { mask }),
    webSocketFrame(continuation, latin1("llo"), { mask }),
    webSocketFrame(binary, latin1(""), { mask }),
    webSocketFrame(binary, latin1(", you"), { mask }),
    closeFrame(1000, { mask }),
  );
  assertEquals(read, latin1("Hello, you"));
  assertEquals(frames.map(({ opcode }) => opcode), [pong]);
});

/** What breaks the protocol, for a server, with the code that its peer gets and a word of the error. */
const FAULTS: [name: string, frame: Uint8Array, code: number, error: RegExp][] = [
  ["text", webSocketFrame(text, HELLO, { mask: MASK }), 1003, /text/],
  ["text in parts", webSocketFrame(text, HELLO, { mask: MASK, final: false }), 1003, /text/],
  ["no mask", webSocketFrame(binary, HELLO), 1002, /without a mask/],
  ["no mask on a ping", webSocketFrame(ping, HELLO), 1002, /without a mask/],
  ["no mask on an empty close", webSocketFrame(close, latin1("")), 1002, /without a mask/],
  ...[0x10, 0x20, 0x40, 0x70].map((reserved): [string, Uint8Array, number, RegExp] => {
    return [`reserved ${reserved}`, webSocketFrame(binary, HELLO, { mask: MASK, reserved }), 1002, /a reserved bit/];
  }),
  ...[3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode): [string, Uint8Array, number, RegExp] => {
    return [`opcode ${opcode}`, webSocketFrame(opcode, HELLO, { mask: MASK }), 1002, /unknown opcode/];
  }),
  ["a ping in parts", webSocketFrame(ping, HELLO, { mask: MASK, final: false }), 1002, /in parts/],
  ["a ping of 126 bytes", webSocketFrame(ping, new Uint8Array(126), { mask: MASK }), 1002, /more than 125/],
  ["a close of 126 bytes", webSocketFrame(close, new Uint8Array(126), { mask: MASK }), 1002, /more than 125/],
  ["a part of no message", webSocketFrame(continuation, HELLO, { mask: MASK }), 1002, /continuation of no/],
  [
    "a message within a message",
    concat(
      webSocketFrame(binary, latin1(""), { mask: MASK, final: false }),
      webSocketFrame(binary, HELLO, { mask: MASK }),
    ),
    1002,
    /within another/,
  ],
  [
    "125 in two bytes",
    webSocketFrame(binary, new Uint8Array(125), { mask: MASK, lengthBytes: 2 }),
    1002,
    /the length 125/,
  ],
  ["65,535 in eight", webSocketFrame(binary, new Uint8Array(65_535), { mask: MASK, lengthBytes: 8 }), 1002, /65535/],
  ["a length of 2 ** 63", concat(unhex("82 ff 80 00 00 00 00 00 00 00"), MASK), 1009, /never ends/],
  ["a length of 2 ** 53", concat(unhex("82 ff 00 20 00 00 00 00 00 00"), MASK), 1009, /never ends/],
  ["a close of one byte", webSocketFrame(close, latin1("x"), { mask: MASK }), 1002, /code is not valid/],
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map((code): [string, Uint8Array, number, RegExp] => {
    return [`a close with ${code}`, closeFrame(code, { mask: MASK }), 1002, /code is not valid/];
  }),
  [
    "a close whose reason is not UTF-8",
    webSocketFrame(close, unhex("03 e8 c3 28"), { mask: MASK }),
    1002,
    /reason is not UTF-8/,
  ],
];

Deno.test("what breaks the protocol is an error, behind what came before it, and the peer gets its code", async (t) => {
  for (const [name, bytes, code, error] of FAULTS) {
    await t.step(name, async () => {
      const before = webSocketFrame(binary, HELLO, { mask: MASK });
      for (const pieces of [[concat(before, bytes)], chunksOf(concat(before, bytes), 1)]) {
        const below = new ScriptedTransport(pieces);
        const transport = new WebSocketTransport(below, "server");
        const parts: number[] = [];
        const space = new Uint8Array(512);
        const readAllParts = async () => {
          for (let bytes; (bytes = await transport.read(space)) !== null;) parts.push(...space.subarray(0, bytes));
        };
        const { message } = await assertRejects(readAllParts, Error, undefined, name) as Error;
        assert(error.test(message), `${name}: ${message}`);
        assertEquals(latin1("Hello"), Uint8Array.from(parts));
        const sent = below.frames;
        assertEquals(sent.map(({ opcode, payload }) => [opcode, payload[0] << 8 | payload[1]]), [[close, code]]);
      }
    });
  }
  const below = new ScriptedTransport([webSocketFrame(binary, HELLO, { mask: MASK })]);
  const masked = await assertRejects(() => new WebSocketTransport(below, "client").read(new Uint8Array(64)), Error);
  assertEquals(masked.message, "the peer has sent a frame with a mask, which a server has not");
});

Deno.test("a fault behind a write under way gets its code behind that, within a second", async () => {
  for (const isRead of [true, false]) {
    const gate = Promise.withResolvers<void>();
    const below = new ScriptedTransport([webSocketFrame(text, HELLO, { mask: MASK })]);
    below.blocked = gate.promise;
    const clock = new FakeClock();
    const transport = new WebSocketTransport(below, "server", undefined, clock);
    const writing = transport.write(HELLO);
    const reading = assertRejects(() => transport.read(new Uint8Array(64)), Error, "text");
    if (isRead) {
      gate.resolve();
      await writing;
      await assertRejects(() => transport.write(HELLO), Error, "text");
    } else {
      await clock.advance(1_000);
      await reading;
      transport.close();
      gate.reject(new Error("closed"));
      await assertRejects(() => writing, Error, "closed");
    }
    await reading;
    assertEquals(below.frames.map(({ opcode }) => opcode), isRead ? [binary, close] : [binary]);
    assertEquals([below.frames.at(-1)?.payload, below.closed], isRead ? [unhex("03 eb"), false] : [HELLO, true]);
  }
});

Deno.test("a length takes no memory: what has come is given on, and what is missing is a count", async () => {
  const head = unhex("82 7f 00 1f ff ff ff ff ff ff"); // 2 ** 53 - 1
  const transport = new WebSocketTransport(new ScriptedTransport([concat(head, HELLO), HELLO]), "client");
  const space = new Uint8Array(512);
  assertEquals(await transport.read(space), 5);
  assertEquals(await transport.read(space), 5);
  await assertRejects(() => transport.read(space), Error, "without a close frame");
});

Deno.test("what is sent is as few frames as it takes, masked by a client with a new mask each time", async () => {
  for (const size of [1, 125, 126, 65_535, 65_536, 200_000]) {
    for (const role of ["client", "server"] as const) {
      const below = new ScriptedTransport([]);
      below.mostWritten = 10_000; // a socket takes a part
      const transport = new WebSocketTransport(below, role);
      const payload = new Random(size).bytes(size);
      const given = payload.slice();
      for (let at = 0; at < size;) at += await transport.write(given.subarray(at));
      assertEquals(given, payload, "the writer's bytes were changed");
      const { frames } = below;
      assertEquals(concat(...frames.map((frame) => frame.payload)), payload);
      assertEquals(frames.length, Math.ceil(size / 65_535));
      assertEquals(
        frames.every(({ opcode, final, mask }) => opcode === binary && final && !mask === (role === "server")),
        true,
      );
      const masks = frames.flatMap(({ mask }) => mask ? [mask.toHex()] : []);
      assertEquals(new Set(masks).size, masks.length);
    }
  }
});

Deno.test("an empty write, which looks for a broken connection, is no frame", async () => {
  const below = new ScriptedTransport([]);
  await new WebSocketTransport(below, "client").write(new Uint8Array(0));
  assertEquals(below.frames, []);
});

Deno.test("a close frame ends one direction: the other goes on until its own, and then nothing is sent", async () => {
  const below = new ScriptedTransport([concat(webSocketFrame(binary, HELLO), closeFrame(1000), HELLO)]);
  const transport = new WebSocketTransport(below, "client");
  const space = new Uint8Array(64);
  assertEquals([await transport.read(space), await transport.read(space), await transport.read(space)], [
    5,
    null,
    null,
  ]);
  await transport.write(latin1("answer"));
  await transport.closeWrite();
  await transport.closeWrite();
  await assertRejects(() => transport.write(HELLO), Error, "is closed");
  assertEquals(below.frames.map(({ opcode }) => opcode), [binary, close]);
  assertEquals(below.frames[1].payload, unhex("03 e8"));
});

Deno.test("a server that ends a connection at once says so, unless a frame is under way or its close frame was sent", async () => {
  const codes = ({ frames }: ScriptedTransport) =>
    frames.filter(({ opcode }) => opcode === close).map(({ payload }) => payload[0] << 8 | payload[1]);
  const open = new ScriptedTransport([]);
  new WebSocketTransport(open, "server").close();
  assertEquals([codes(open), open.closed], [[1001], true]);

  const answered = new ScriptedTransport([closeFrame(4321, { mask: MASK })]);
  const leaving = new WebSocketTransport(answered, "server");
  await assertRejects(() => leaving.read(new Uint8Array(64)), Error, "4321");
  leaving.close();
  assertEquals(codes(answered), [4321], "the peer's own code goes back");

  const halfClosed = new ScriptedTransport([webSocketFrame(close, latin1(""), { mask: MASK })]);
  const cutting = new WebSocketTransport(halfClosed, "server");
  assertEquals(await cutting.read(new Uint8Array(64)), null);
  cutting.close();
  assertEquals(codes(halfClosed), [1000], "a peer without a code gets none that may not be sent");

  const ended = new ScriptedTransport([]);
  const inOrder = new WebSocketTransport(ended, "server");
  await inOrder.closeWrite();
  inOrder.close();
  assertEquals(codes(ended), [1000]);

  const busy = new ScriptedTransport([]);
  const gate = Promise.withResolvers<void>();
  busy.blocked = gate.promise;
  const writing = new WebSocketTransport(busy, "server");
  const written = writing.write(HELLO);
  writing.close();
  gate.resolve();
  await written;
  assertEquals([codes(busy), busy.closed], [[], true]);

  const client = new ScriptedTransport([]);
  new WebSocketTransport(client, "client").close();
  assertEquals(codes(client), []);
});

Deno.test("the close frame of a server that ends a connection at once arrives, and ends what it waits for", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  using peer = await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port });
  const transport = new WebSocketTransport(socketTransport(await listener.accept()), "server");
  await transport.write(HELLO);
  const reading = assertRejects(() => transport.read(new Uint8Array(64)));
  transport.close();
  await reading;
  assertEquals(
    await new Response(peer.readable).bytes(),
    concat(webSocketFrame(binary, HELLO), unhex("88 02 03 e9")),
  );
});

Deno.test("how a peer closes tells whether it was in order", async () => {
  const end = async (...pieces: Uint8Array[]) => {
    const transport = new WebSocketTransport(new ScriptedTransport(pieces), "client");
    return await transport.read(new Uint8Array(64)).catch((error) => error.message);
  };
  assertEquals(await end(closeFrame(1000)), null);
  assertEquals(await end(webSocketFrame(close, latin1(""))), null);
  assertEquals(await end(webSocketFrame(close, unhex("03 e8 c3 a9"))), null, "a reason is UTF-8");
  assertEquals(await end(closeFrame(1001)), "the peer has closed the WebSocket with 1001, it is going away");
  assertEquals(await end(closeFrame(1011)), "the peer has closed the WebSocket with 1011, internal error");
  assertEquals(await end(closeFrame(4321)), "the peer has closed the WebSocket with 4321, a code of its own");
  const cut = "the peer has ended the connection without a close frame";
  assertEquals([await end(), await end(unhex("88")), await end(unhex("82 05"))], [cut, cut, cut]);
});

/** One run: random frames, cut at random places, read with random sizes. Returns what is wrong, as text. */
async function wrongIn(random: Random, spoil: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes): Promise<string> {
  const role = random.pick(["client", "server"] as const);
  const payloads: Uint8Array[] = [];
  const frames: Uint8Array[] = [];
  let lastPing: Uint8Array | undefined;
  const add = (opcode: number, payload: Uint8Array, final = true) =>
    frames.push(webSocketFrame(opcode, payload, { final, mask: role === "server" ? random.bytes(4) : undefined }));
  for (let messages = random.between(1, 6); messages > 0; messages--) {
    for (let parts = random.between(1, 4), part = 0; part < parts; part++) {
      const payload = random.bytes(
        random.pick([0, 1, 3, 63, 64, 65, 125, 126, 127, 300, 5_000, random.chance(0.1) ? 70_000 : 700]),
      );
      payloads.push(payload);
      add(part === 0 ? binary : continuation, payload, part === parts - 1);
      if (random.chance(0.2)) add(ping, lastPing = random.bytes(random.between(0, 125)));
      if (random.chance(0.1)) add(pong, random.bytes(random.between(0, 125)));
    }
  }
  add(close, unhex("03 e8"));
  const bytes = spoil(concat(...frames));
  const least = bytes.length < 3_000 ? 1 : 200; // else a run takes seconds
  const below = new ScriptedTransport(random.pieces(bytes, random.pick([least, 500, 100_000])));
  const sizes = () => least * random.pick([1, 5, 100, 300]);
  const read = await readAll(new WebSocketTransport(below, role), sizes).catch((error) => String(error));
  if (typeof read === "string") return read;
  await settle(3);
  const pongs = below.frames.filter(({ opcode }) => opcode === pong);
  if (below.frames.length !== pongs.length) return "something but pongs was sent";
  if (pongs.at(-1)?.payload.toHex() !== lastPing?.toHex()) return "the last ping has another answer";
  const expected = concat(...payloads);
  const at = expected.findIndex((byte, index) => byte !== read[index]);
  return at < 0 && expected.length === read.length
    ? ""
    : `${read.length} of ${expected.length} bytes, wrong from ${at}`;
}

Deno.test("random frames are their bytes, however they are cut and read", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  for (let run = 0; run < 300; run++) assertEquals(await wrongIn(random), "", `run ${run} of seed ${seed}`);
});

Deno.test("the check of random frames notices a damaged byte, a lost one and one too many", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  let unnoticed = 0;
  for (let run = 0; run < 100; run++) {
    const spoils = [
      (bytes: Uint8Array) => bytes.with(random.below(bytes.length), random.below(256)),
      (bytes: Uint8Array) => bytes.filter((_, at) => at !== 5),
      (bytes: Uint8Array) => concat(bytes.subarray(0, 9), Uint8Array.of(1), bytes.subarray(9)),
    ];
    if (await wrongIn(random, random.pick(spoils)) === "") unnoticed++;
  }
  // A byte replaced by itself, or in the payload of a ping that has no answer, is no damage that shows.
  assert(unnoticed < 15, `${unnoticed} of 100 were not noticed`);
});

Deno.test("any bytes end in an error or in order, and are never more than came", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  for (let run = 0; run < 2_000; run++) {
    const bytes = random.bytes(random.between(0, 200));
    if (random.chance(0.8) && bytes.length > 1) bytes.set([0x80 | random.pick([2, 8, 9]), 0x80 | random.below(128)]);
    const transport = new WebSocketTransport(new ScriptedTransport(random.pieces(bytes, 50)), "server");
    const read = await readAll(transport, () => 64).catch((error) => error);
    assert(read instanceof Error || read.length < bytes.length, `${bytes.toHex()} of seed ${seed}`);
  }
});
