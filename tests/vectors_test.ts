/**
 * The frames of `vectors.json`, which were captured from the article's own client and server or made by its own Lua
 * code: read, written, sent to a server, and cut in every way a network can cut them. And what they are samples of:
 * every length that a header can say, and a frame of the largest, byte by byte.
 */

import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { DecodeStage } from "../codec/decode.ts";
import { EncodeStage } from "../codec/encode.ts";
import { FrameScanner, TERMINATOR, writeLongHeader, writeShortHeader } from "../codec/frame.ts";
import {
  type Decoded,
  type Fields,
  type InvalidMessage,
  ReceivedReply,
  Reply,
  Request,
  Truncated,
} from "../codec/message.ts";
import { readReply, readRequest } from "../codec/read_message.ts";
import { type OutgoingRequest, writeReply, writeRequest } from "../codec/write_message.ts";
import { encode } from "./support/msgpack.ts";
import type { Payload } from "../codec/read_message.ts";
import type { Writer } from "../codec/writer.ts";
import { RpcError } from "../errors.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { serve } from "./support/demo_server.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import { chunksOf } from "./support/wire.ts";
import vectors from "./vectors.json" with { type: "json" };

interface Frame {
  name: string;
  hex: string;
  value: unknown;
}

const frames: Frame[] = vectors.frames;
const requests = frames.filter(({ name }) => name.startsWith("request"));
const replies = frames.filter(({ name }) => name.startsWith("reply"));

Deno.test("vectors.json has requests, replies and headers", () => {
  assertEquals([requests.length, replies.length, vectors.headers.length], [6, 4, 16]);
  assertEquals(requests.length + replies.length, frames.length);
});

// Bytes to values, values to bytes ----------------------------------------------------------------------------------

/** All that the stage makes of some chunks and the end of their stream. */
function decodeAll<Message>(readMessage: (payload: Payload) => Message | InvalidMessage, chunks: Uint8Array[]) {
  const stage = new DecodeStage(readMessage, DEFAULT_LIMITS);
  const messages: Decoded<Message>[] = [];
  const output = { enqueue: (batch: Decoded<Message>[]) => void messages.push(...batch), terminate() {} };
  for (const chunk of chunks) {
    const reused = chunk.slice();
    stage.transform(reused, output);
    reused.fill(0xee); // as a source does that reads into the same buffer again
  }
  stage.flush(output);
  for (const message of messages) {
    // Sizes are tested elsewhere.
    if (message instanceof Request) Object.assign(message, { weightBytes: 0, frameBytes: 0 });
    if (message instanceof ReceivedReply) message.weightBytes = 0;
  }
  return messages;
}

/** The chunk that the stage makes of some messages. */
function encodeAll<Message>(writeMessage: (writer: Writer, message: Message) => void, messages: Message[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  const stage = new EncodeStage<Message>({
    writeMessage,
    maxPayloadBytes: () => DEFAULT_LIMITS.maxPayloadBytes,
    onUnwritable: (_message, error) => {
      throw error;
    },
  });
  const output = { enqueue: (chunk: Uint8Array) => void chunks.push(chunk), terminate() {} };
  for (const message of messages) stage.transform(message, output);
  stage.flush(output);
  assertEquals(chunks.length, 1, "a batch leaves in one chunk");
  return chunks[0];
}

function readWhole(payload: Payload): { value: unknown } {
  const value = payload.readValue();
  payload.finish();
  return { value };
}

for (const { name, hex, value } of frames) {
  Deno.test(`the frame of the ${name} is read and written`, () => {
    assertEquals(decodeAll(readWhole, [Uint8Array.fromHex(hex)]), [{ value }]);
    assertEquals(encodeAll((writer, value) => writer.writeValue(value), [value]).toHex(), hex);
  });
}

for (const { name, hex, value } of requests) {
  Deno.test(`the ${name} is read as a request, and written by a client`, () => {
    const request = requestOf(value);
    assertEquals(decodeAll(readRequest, [Uint8Array.fromHex(hex)]), [request]);
    // What the article's client sends for a command it does not know, ours never sends.
    if (request.cmd === undefined) return;
    const outgoing: OutgoingRequest = { ...request, cmd: request.cmd };
    assertEquals(encodeAll(writeRequest, [outgoing]).toHex(), hex);
  });
}

for (const { name, hex, value } of replies) {
  Deno.test(`the ${name} is read as a reply, and written by a server`, () => {
    const fields = value as Fields;
    assertEquals(decodeAll(readReply, [Uint8Array.fromHex(hex)]), [replyOf(fields)]);
    const outcome = typeof fields.err === "string" ? new RpcError(fields.err) : fields;
    assertEquals(encodeAll(writeReply, [new Reply(undefined, outcome, false)]).toHex(), hex);
  });
}

Deno.test("the stages notice one changed byte", () => {
  for (const { hex, value } of frames) {
    const bytes = Uint8Array.fromHex(hex);
    for (let index = 0; index < bytes.length; index++) {
      const changed = bytes.with(index, bytes[index] ^ 1);
      assertNotEquals(decodeAll(readWhole, [changed]), [{ value }], `${hex}, byte ${index}`);
    }
  }
});

/** A value of the vectors as a server reads it; an empty array is an empty map. */
function requestOf(value: unknown): Request {
  const { cmd, ...params } = value as { cmd?: number };
  return Object.assign(new Request(), { cmd, params });
}

function replyOf(fields: Fields): ReceivedReply {
  return Object.assign(new ReceivedReply(), { fields });
}

// A server ----------------------------------------------------------------------------------------------------------

/** How much longer than three seconds the captured sleep of three seconds took; exact, for it has few digits in binary. */
const OVERSLEPT_MS = 3.003000020980835 * 1000 - 3000;

/** A clock that stands still, but when a handler sleeps: then it goes on at once, by a little more, as in the capture. */
function capturedClock(): Clock {
  let nowMs = 0;
  return {
    ...systemClock,
    now: () => nowMs,
    setTimer(callback, delayMs, keepAlive) {
      if (!keepAlive || delayMs > 60_000) return systemClock.setTimer(callback, delayMs, keepAlive);
      const wake = () => {
        nowMs += delayMs + OVERSLEPT_MS;
        callback();
      };
      return systemClock.setTimer(wake, 0, true);
    },
  };
}

/** The reply to DELAY on that clock. */
function slept(seconds: number): string {
  const payload = encode({ res: "DONE", slept: (seconds * 1000 + OVERSLEPT_MS) / 1000 });
  return `20${(payload.length + 32).toString(16)}${payload.toHex()}0a`;
}

/** What a server answers to each request, in their order. */
const ANSWERS = [
  named("reply PING"),
  named("reply DELAY"),
  slept(10),
  slept(0.5),
  named("reply INVALID_SLEEP"),
  named("reply CMD_NOT_FOUND"),
];

function named(name: string): string {
  return frames.find((frame) => frame.name === name)?.hex ?? "";
}

/** What a server sends for some chunks and the end of the client's half. */
async function answersTo(chunks: Uint8Array[]): Promise<string> {
  await using server = await serve({ port: 0, clock: capturedClock() });
  using conn = await Deno.connect({ port: server.port });
  conn.setNoDelay(true);
  for (const chunk of chunks) await conn.write(chunk);
  await conn.closeWrite();
  let answers = "";
  const buffer = new Uint8Array(1024);
  for (let read; (read = await conn.read(buffer)) !== null;) answers += buffer.subarray(0, read).toHex();
  return answers;
}

for (const [index, { name, hex }] of requests.entries()) {
  Deno.test(`a server answers the ${name} by exactly its reply`, async () => {
    assertEquals(await answersTo([Uint8Array.fromHex(hex)]), ANSWERS[index]);
  });
}

for (const size of [1, 7, 1000]) {
  Deno.test(`a server answers all requests by exactly their replies, sent ${size} bytes at a time`, async () => {
    const bytes = Uint8Array.fromHex(requests.map(({ hex }) => hex).join(""));
    assertEquals(await answersTo(chunksOf(bytes, size)), ANSWERS.join(""));
  });
}

// Cuts --------------------------------------------------------------------------------------------------------------

/** Each stream with what it is read as, and where its frames end. */
const STREAMS = [
  {
    name: "requests",
    decode: (chunks: Uint8Array[]) => decodeAll<unknown>(readRequest, chunks),
    frames: requests,
    messages: requests.map(({ value }) => requestOf(value)) as unknown[],
  },
  {
    name: "replies",
    decode: (chunks: Uint8Array[]) => decodeAll<unknown>(readReply, chunks),
    frames: replies,
    messages: replies.map(({ value }) => replyOf(value as Fields)) as unknown[],
  },
];

for (const { name, decode, frames, messages } of STREAMS) {
  const bytes = Uint8Array.fromHex(frames.map(({ hex }) => hex).join(""));

  Deno.test(`the stream of all ${name} is read the same, wherever it is cut in two or in three`, () => {
    for (let first = 0; first <= bytes.length; first++) {
      for (let second = first; second <= bytes.length; second++) {
        const chunks = [bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)];
        assertEquals(decode(chunks), messages, `cut at ${first} and ${second}`);
      }
    }
  });

  Deno.test(`the stream of all ${name} is read the same in chunks of any size`, () => {
    for (let size = 1; size <= bytes.length; size++) {
      assertEquals(decode(chunksOf(bytes, size)), messages, `chunks of ${size}`);
    }
  });

  Deno.test(`the stream of all ${name}, ended at any byte, brings its whole frames and invents nothing`, () => {
    const ends = frames.map((_, index) => frames.slice(0, index + 1).reduce((sum, { hex }) => sum + hex.length / 2, 0));
    for (let length = 0; length <= bytes.length; length++) {
      const whole = ends.filter((end) => end <= length).length;
      const left = length - (ends[whole - 1] ?? 0);
      const expected = [...messages.slice(0, whole), ...(left > 0 ? [new Truncated(left)] : [])];
      assertEquals(decode([bytes.subarray(0, length)]), expected, `ended at ${length}`);
      assertEquals(decode(chunksOf(bytes.subarray(0, length), 1)), expected);
    }
  });
}

// Headers -----------------------------------------------------------------------------------------------------------

Deno.test("each header of vectors.json is written for its length", () => {
  for (const { length, hex } of vectors.headers) {
    const header = new Uint8Array(2);
    writeShortHeader(header, 0, length);
    assertEquals(header.toHex(), hex);
  }
});

Deno.test("every length from 0 to 57,310 goes through a header and back", () => {
  const scanner = new FrameScanner(DEFAULT_LIMITS.maxPayloadBytes);
  const bytes = new Uint8Array(MAX_SHORT_PAYLOAD_BYTES + 4);
  const headers = new Set<number>();
  for (let length = 0; length <= MAX_SHORT_PAYLOAD_BYTES; length++) {
    const frameBytes = length + 3;
    writeShortHeader(bytes, 0, length);
    bytes[frameBytes - 1] = TERMINATOR;
    const scanned = scanner.scan(bytes, 0, frameBytes);
    const incomplete = scanner.scan(bytes, 0, frameBytes - 1);
    bytes[frameBytes - 1] = 0;
    const broken = scanner.scan(bytes, 0, frameBytes);
    // One comparison for all, since 57,311 times five cost seconds.
    const right = scanned === frameBytes && scanner.payloadStart === 2 && scanner.payloadEnd === 2 + length;
    assert(right && incomplete === 0 && broken === -1, `length ${length}`);
    headers.add(bytes[0] << 8 | bytes[1]);
  }
  assertEquals(headers.size, MAX_SHORT_PAYLOAD_BYTES + 1);
  assert(!headers.has(0x1f1f), "the mark of a long frame is no header of a short one");
});

Deno.test("every other header is no short frame", () => {
  const scanner = new FrameScanner(DEFAULT_LIMITS.maxPayloadBytes);
  let refused = 0;
  for (let value = 0; value < 65_536; value++) {
    const header = Uint8Array.of(value >> 8, value & 255);
    if (scanner.scan(header, 0, 2) === -1) refused++;
  }
  assertEquals(refused, 65_536 - MAX_SHORT_PAYLOAD_BYTES - 2, "all but the short ones, and the long mark");
});

Deno.test("a long frame begins where the short ones end, and ends at the limit", () => {
  const scan = (length: number, limit: number) => {
    const bytes = new Uint8Array(length + 7);
    writeLongHeader(bytes, 0, length);
    bytes[length + 6] = TERMINATOR;
    return new FrameScanner(limit).scan(bytes, 0, bytes.length);
  };
  assertEquals(scan(57_310, 100_000), -1);
  assertEquals(scan(57_311, 100_000), 57_318);
  assertEquals(scan(100_000, 100_000), 100_007);
  assertEquals(scan(100_001, 100_000), -1);
  const most = Uint8Array.of(0x1f, 0x1f, 0xff, 0xff, 0xff, 0xff);
  assertEquals(new FrameScanner(2 ** 26).scan(most, 0, 6), -1, "2^32 - 1, not -1");
});

// Growth ------------------------------------------------------------------------------------------------------------

/** A frame whose payload has this many bytes, and one of them would be a newline to whoever looks for one. */
function frameOf(payloadBytes: number): Uint8Array {
  const data = new Uint8Array(payloadBytes - 11).fill(0x0a);
  const frame = encodeAll<unknown>((writer, value) => writer.writeValue(value), [{ d: data, cmd: 1 }]);
  assertEquals(frame.length, payloadBytes + 3);
  return frame;
}

/** How many bytes typed arrays copy while something runs. */
function copiedBytes(run: () => void): number {
  const typedArray = Object.getPrototypeOf(Uint8Array.prototype);
  const { set, slice, copyWithin } = typedArray;
  let copied = 0;
  typedArray.set = function (this: Uint8Array, source: Uint8Array, offset?: number) {
    copied += source.length;
    return set.call(this, source, offset);
  };
  typedArray.slice = function (this: Uint8Array, start?: number, end?: number) {
    const part = slice.call(this, start, end);
    copied += part.length;
    return part;
  };
  typedArray.copyWithin = function (this: Uint8Array, target: number, start: number, end = this.length) {
    copied += end - start;
    return copyWithin.call(this, target, start, end);
  };
  try {
    run();
  } finally {
    Object.assign(typedArray, { set, slice, copyWithin });
  }
  return copied;
}

Deno.test("a frame of 57,310 bytes in single bytes is copied a few times, not once for each byte", () => {
  const frame = frameOf(57_310);
  const chunks = chunksOf(frame, 1);
  const messages: unknown[] = [];
  const output = { enqueue: (batch: unknown[]) => void messages.push(...batch), terminate() {} };
  const feed = () => {
    const stage = new DecodeStage(readRequest, DEFAULT_LIMITS);
    for (const chunk of chunks) stage.transform(chunk, output);
  };
  const startMs = performance.now();
  feed();
  const tookMs = performance.now() - startMs;
  const copied = copiedBytes(feed);
  console.log(
    `${frame.length} single bytes: ${tookMs.toFixed(1)} ms, ${(copied / frame.length).toFixed(1)} copies of each`,
  );
  assert(copied <= 4 * frame.length, `${copied} bytes were copied`);
  assert(copied >= frame.length, "the copies were not counted");
  assertEquals(messages.map((message) => message instanceof Request && message.cmd), [1, 1]);

  const naive = copiedBytes(() => {
    let held = new Uint8Array(0);
    for (const chunk of chunks) {
      const joined = new Uint8Array(held.length + chunk.length);
      joined.set(held);
      joined.set(chunk, held.length);
      held = joined;
    }
  });
  assert(naive > 1000 * frame.length, "joining all at each byte is what this test must notice");
});
