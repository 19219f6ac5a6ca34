/** Long requests, which a server reads in parts: the same messages and refusals as in one go, in the same order. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { DecodeStage, LONG_PAYLOAD_BYTES, type ServerReading } from "../../codec/decode.ts";
import { LongPayload } from "../../codec/long_payload.ts";
import { type ClientMessage, type Decoded, type InvalidMessage, Request, RequestItem } from "../../codec/message.ts";
import { readRequest } from "../../codec/read_message.ts";
import { DEFAULT_LIMITS, type Limits } from "../../limits.ts";
import { encode } from "../support/msgpack.ts";
import { concat, frame, request, unhex } from "../support/wire.ts";

/** Reads bytes as a connection does, in parts if it is a server's. */
async function read(
  bytes: Uint8Array,
  limits: Limits,
  server?: ServerReading,
): Promise<Decoded<ClientMessage>[]> {
  const stage = new DecodeStage(readRequest, limits, server);
  const messages: Decoded<ClientMessage>[] = [];
  const output = { enqueue: (batch: Decoded<ClientMessage>[]) => void messages.push(...batch), terminate() {} };
  for (let at = 0; at < bytes.length;) {
    const space = stage.space(64 * 1024);
    const part = bytes.subarray(at, at + space.length);
    space.set(part);
    await stage.transform(space.subarray(0, part.length), output);
    at += part.length;
  }
  stage.flush(output);
  return messages;
}

/** What is read in parts, which must be what is read at once; and how many parts there were. */
async function readBoth(bytes: Uint8Array, limits = DEFAULT_LIMITS): Promise<[Decoded<ClientMessage>[], number]> {
  let pauses = 0;
  const inParts = await readInParts(bytes, limits, () => pauses++);
  assertEquals(inParts, await read(bytes, limits));
  return [inParts, pauses];
}

/** What is read in parts; every second one ends in a pause. */
function readInParts(bytes: Uint8Array, limits: Limits, onPause: () => number): Promise<Decoded<ClientMessage>[]> {
  return read(bytes, limits, {
    async readAhead(reader) {
      const payload = new LongPayload(reader);
      for (const parts = payload.readAhead(); !parts.next().done;) if (onPause() % 2 === 1) await Promise.resolve();
      return payload;
    },
  });
}

const names = (count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, index) => [`name ${index}`, index]));
const LONG = "x".repeat(LONG_PAYLOAD_BYTES);

const LARGE: Record<string, [fields: Record<string, unknown>, leastPauses: number]> = {
  "a map of names": [{ cmd: 1, seq: 5, map: names(10_000) }, 39],
  "parameters": [{ ...names(5_000), cmd: "SUM", ttl: 10, seq: 5, meta: { token: "a" } }, 19],
  "records": [
    { cmd: 1, list: Array.from({ length: 3_000 }, (_, id) => ({ id, tags: ["a", [id / 3]], none: {} })) },
    20,
  ],
  "numbers": [{ cmd: 1, list: Array.from({ length: 40_000 }, (_, index) => index) }, 150],
  "keys like those of arrays": [{
    cmd: 1,
    map: Object.fromEntries(Array.from({ length: 9_000 }, (_, i) => [3 * i, i])),
  }, 30],
  "a text": [{ cmd: 1, text: LONG }, 0],
  "binary data": [{ cmd: 1, data: new Uint8Array(1_000_000).fill(7), after: 1 }, 0],
  "an item": [{ cmd: 0, seq: 5, item: names(10_000) }, 39],
  "names for later versions": [{ cmd: 1, $later: names(5_000), $items: true, seq: 3 }, 19],
  "two meanings": [{ cmd: 0, seq: 5, item: LONG, end: true }, 0],
  "a wrong seq": [{ cmd: 1, seq: LONG }, 0],
};

for (const [name, [fields, leastPauses]] of Object.entries(LARGE)) {
  Deno.test(`a long message is the same message in parts: ${name}`, async () => {
    const [messages, pauses] = await readBoth(request(fields));
    assertEquals(messages.length, 1);
    assert(pauses >= leastPauses, `${pauses} parts`);
  });
}

Deno.test("a long message keeps the order of its fields, and the last of those with the same name", async () => {
  const filler = `d9 ff ${"78".repeat(255)}`;
  const fields = `a1 62 01  a3 636d64 01  a1 61 dc 00 ff ${filler.repeat(255)}  a3 636d64 02  a1 62 03`;
  const [[message]] = await readBoth(frame(unhex(`85 ${fields}`)));
  const { cmd, params } = message as Request;
  assertEquals(cmd, 2);
  assertEquals(Object.keys(params), ["b", "a"]);
  assertEquals(params.b, 3);
});

Deno.test("a long message is refused as a short one is", async () => {
  const deep = `${"91".repeat(DEFAULT_LIMITS.maxDepth)} 01`;
  const padding = `a1 70 c6 00 01 00 00 ${"00".repeat(65_536)}`;
  const refused: Record<string, string> = {
    "ends too early": `82 ${padding} a1 61 dd 00 00 00 05 01`,
    "bytes are left over": `81 ${padding} 01`,
    "0xc1 is not a value": `82 ${padding} a1 61 91 c1`,
    "extension types are not accepted": `82 ${padding} a1 61 92 01 d4 01 01`,
    "nested deeper than": `82 ${padding} a1 61 ${deep}`,
    "a key must be text or an integer": `82 ${padding} a1 61 81 c3 01`,
    "text is not valid UTF-8": `82 ${padding} a1 61 81 a1 ff 01`,
    "seq must be an integer from 0": `82 ${padding} a3 736571 c3`,
  };
  for (const [reason, payload] of Object.entries(refused)) {
    const [messages] = await readBoth(concat(frame(unhex(payload)), request({ cmd: 1 })));
    assertEquals(messages[0].kind, "invalid message");
    assertStringIncludes((messages[0] as InvalidMessage).reason, reason);
    assert(messages[1] instanceof Request, reason);
  }
  const limits = { ...DEFAULT_LIMITS, maxMessageBytes: 400_000 };
  const [[heavy]] = await readBoth(request({ cmd: 1, map: names(10_000) }), limits);
  assertStringIncludes((heavy as InvalidMessage).reason, "more than 400000 bytes");
});

/** More than a message may take: 140 bytes each. */
const HEAVY = Array.from({ length: 70_000 }, () => ({}));

Deno.test("a long request that takes too much memory is refused with its seq, wherever that is", async () => {
  const refusalOf = async (...entries: [string, unknown][]) => {
    const bytes = frame(concat(Uint8Array.of(0x80 | entries.length), ...entries.flat().map(encode)));
    let pauses = 0;
    const [message, ...more] = await readInParts(bytes, DEFAULT_LIMITS, () => pauses++);
    assert(pauses > HEAVY.length / 256);
    assertEquals([message.kind, more], ["invalid message", []]);
    const { reason, seq } = message as InvalidMessage;
    return [reason, seq];
  };
  const heavy: [string, unknown] = ["list", HEAVY];
  const reason = "the message takes more than 8388608 bytes of memory";
  assertEquals(await refusalOf(["cmd", 2], ["seq", 7], heavy), [reason, 7]);
  assertEquals(await refusalOf(heavy, ["seq", 7], ["cmd", "ECHO"]), [reason, 7]);
  assertEquals(await refusalOf(["meta", HEAVY], ["seq", 7]), [reason, 7]);
  assertEquals(await refusalOf(["seq", 7], heavy, ["ttl", -1], ["$later", HEAVY], ["seq", 8]), [reason, 8]);
  assertEquals(await refusalOf(["cmd", 2], heavy), [reason, undefined]);
  // The seq of a control message is that of another message's call.
  assertEquals(await refusalOf(["item", HEAVY], ["seq", 7], ["cmd", 0]), [reason, undefined]);
  for (const wrong of ["7", -1, 1.5, HEAVY]) {
    assertEquals((await refusalOf(["seq", 7], heavy, ["seq", wrong]))[1], undefined);
  }
});

Deno.test("messages before and after a long one keep their order", async () => {
  const long = (seq: number) => request({ cmd: 1, seq, list: new Array(LONG_PAYLOAD_BYTES).fill(seq) });
  const item = request({ cmd: 0, seq: 2, item: LONG });
  const short = (seq: number) => request({ cmd: 1, seq });
  const [messages] = await readBoth(concat(short(1), long(2), item, short(3), short(4), long(5), long(6), short(7)));
  const seen = messages.map((message) =>
    message instanceof Request || message instanceof RequestItem ? message.seq : 0
  );
  assertEquals(seen, [1, 2, 2, 3, 4, 5, 6, 7]);
});
