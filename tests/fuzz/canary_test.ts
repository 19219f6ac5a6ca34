/**
 * The checks of the fuzz, checked: each of these readers and servers is broken in one way, and a short run must notice.
 */

import process from "node:process";
import { assert, assertEquals, assertMatch } from "@std/assert";
import {
  Cancel,
  InvalidMessage,
  ReceivedReply,
  Request,
  RequestCredit,
  RequestEnd,
  RequestItem,
  UnknownControl,
} from "../../codec/message.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { decode } from "../support/msgpack.ts";
import { Call } from "../../handlers/call.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { newSeed, Random } from "../support/random.ts";
import { replaced } from "../support/replaced.ts";
import { serveOne } from "../support/serve_one.ts";
import { concat, message } from "../support/wire.ts";
import { contentsOf, takeApart } from "./by_hand.ts";
import { type Codec, readAll, SERVER, SHIPPED } from "./codec_checks.ts";
import type { Serve } from "./conversation.ts";
import { shrink } from "./corpus.ts";
import { complaintAbout, fuzz, type Plan } from "./fuzz.ts";
import type { Input } from "./inputs.ts";
import { LARGE } from "./samples.ts";
import { checkRoundTrip } from "./round_trip.ts";
import { BOUND_MS } from "./stopwatch.ts";
import { fromStreams } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";

const SEED = newSeed();

/** No message is too heavy for these. */
const UNWEIGHED = { ...DEFAULT_LIMITS, maxMessageBytes: 2 ** 31 - 1 };

type Read = Codec["readRequests"];

/** Does something to the bytes of a stream before they are read, in one piece. */
function before(change: (bytes: Uint8Array) => Uint8Array): Partial<Codec> {
  const changed = (read: Read): Read => (chunks) => read([change(concat(...chunks))]);
  return { readRequests: changed(SHIPPED.readRequests), readReplies: changed(SHIPPED.readReplies) };
}

/** Writes 0x0A wherever a frame should end. */
function withGoodTerminators(bytes: Uint8Array): Uint8Array {
  let good = bytes;
  for (let tries = 0; tries < 10 && takeApart(good).end === "broken"; tries++) {
    const read = takeApart(good).payloads.reduce((sum, payload) => sum + payload.length + 3, 0);
    const end = read + 2 + (good[read] + 224) % 256 * 256 + (good[read + 1] + 224) % 256;
    if (end >= good.length) break;
    good = Uint8Array.from(good, (byte, index) => index === end ? 0x0a : byte);
  }
  return good;
}

/** Reads some messages as others. */
function misread(change: (message: unknown) => unknown): Partial<Codec> {
  const changed = (read: Read): Read => (chunks) => read(chunks).map(change);
  return { readRequests: changed(SHIPPED.readRequests), readReplies: changed(SHIPPED.readReplies) };
}

let rejected = false;

const READERS: Record<string, [codec: Partial<Codec>, complaint: RegExp]> = {
  "accepts a bad terminator": [before(withGoodTerminators), /^DecodeStage.*: read .* right is .*BadFrame/s],
  "drops the last byte of a stream": [before((bytes) => bytes.slice(0, -1)), /^DecodeStage.*: read .* right is /s],
  "drops a byte between two chunks": [{
    readRequests: (chunks) => SHIPPED.readRequests(chunks.map((chunk, index) => index === 1 ? chunk.slice(1) : chunk)),
  }, /^DecodeStage\(readRequest\): read .* right is /s],
  "drops a byte of binary data": [{
    decode: (payload) => withoutLastBytes(decode(payload)),
  }, /^decode\(\) read .* std /s],
  "leaks a TypeError": [{
    decode: (payload) => Object.keys((decode(payload) as { value: object }).value) && decode(payload),
  }, /^decode\(\) threw TypeError/],
  "leaks a RangeError of std": [{
    readReplies(chunks) {
      if (concat(...chunks).includes(0xdd)) throw new RangeError("Maximum call stack size exceeded");
      return SHIPPED.readReplies(chunks);
    },
  }, /^DecodeStage\(readReply\) threw RangeError/],
  "refuses what is sound": [{
    decode: (payload) => payload.includes(0xcb) ? decode(payload.subarray(1)) : decode(payload),
  }, /^decode\(\) (refused what std reads|read)/],
  "takes a first message that is not a map": [{
    readRequests: (chunks) => readAll(readRequest, chunks),
  }, /^DecodeStage\(readRequest\): read .* right is \[BadFrame/s],
  "forgets a parameter of a long message": [{
    readRequestsInParts: (chunks) =>
      SHIPPED.readRequestsInParts(chunks).map((message) =>
        message instanceof Request ? Object.assign(message, { params: {} }) : message
      ),
  }, /^DecodeStage\(LongPayload\): read .* right is .*Request/s],
  "reads on behind a broken frame": [{
    readRequests: (chunks) => [...SHIPPED.readRequests(chunks), ...SHIPPED.readRequests([message({ cmd: 1 })])],
  }, /^DecodeStage/],
  "takes an item of nil for none": [
    misread((message) => message instanceof RequestItem && message.item === null ? new UnknownControl() : message),
    /^DecodeStage\(readRequest\): read .*UnknownControl.* right is .*RequestItem/s,
  ],
  "does not weigh items": [
    misread((message) => message instanceof RequestItem ? new RequestItem(message.seq, message.item, 256) : message),
    /^DecodeStage\(readRequest\): read .* right is .*RequestItem/s,
  ],
  "takes an end for a cancel": [
    misread((message) => message instanceof RequestEnd ? new Cancel(message.seq) : message),
    /^DecodeStage\(readRequest\): read .*Cancel.* right is .*RequestEnd/s,
  ],
  "takes the first of two meanings": [
    misread((message) =>
      message instanceof InvalidMessage && message.reason.startsWith("a control") ? new RequestEnd(5) : message
    ),
    /^DecodeStage\(readRequest\): read .*RequestEnd.* right is .*InvalidMessage/s,
  ],
  "forgets that items follow": [
    misread((message) => message instanceof Request ? Object.assign(message, { hasItems: false }) : message),
    /^DecodeStage\(readRequest\): read .* right is .*"hasItems":true/s,
  ],
  "takes credit for the caller's stream for a reply": [
    misread((message) => message instanceof RequestCredit ? new ReceivedReply() : message),
    /^DecodeStage\(readReply\): read .*ReceivedReply.* right is .*RequestCredit/s,
  ],
  "does not recover from a refusal": [{
    decode(payload) {
      if (rejected) return "";
      try {
        return decode(payload);
      } catch (error) {
        rejected = true;
        throw error;
      }
    },
  }, /^the next payload was misread/],
  "takes too long": [{
    // By both clocks of the stopwatch. On a busy machine, a wait is no work. And the thread's own time comes in steps of up
    // to 10 ms, of which the first may be just over.
    decode(payload) {
      const before = process.threadCpuUsage();
      const usedMs = ({ user, system } = process.threadCpuUsage(before)) => (user + system) / 1_000;
      const endMs = performance.now() + BOUND_MS + 1;
      while (payload.length > 400 && (performance.now() < endMs || usedMs() < BOUND_MS + 1));
      return decode(payload);
    },
  }, /^decode\(\) took /],
};

function withoutLastBytes(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.slice(0, -1);
  if (Array.isArray(value)) return value.map(withoutLastBytes);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, field]) => [key, withoutLastBytes(field)]));
}

/** A server whose output is changed on its way, whole write by whole write. */
function after(change: (bytes: Uint8Array) => Uint8Array): Serve {
  return async (transport, options) => {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>({
      transform: (bytes, controller) => controller.enqueue(change(bytes)),
    });
    const inner = streamsOf(transport);
    const piped = readable.pipeTo(inner.writable).catch(() => {}); // the peer may leave
    await serveOne(fromStreams({ ...inner, writable }), options);
    await piped;
  };
}

/** Repeats the last frame of a chunk, or leaves it out. */
function lastFrame(times: number): (bytes: Uint8Array) => Uint8Array {
  return (bytes) => {
    const length = (takeApart(bytes, Infinity).payloads.at(-1)?.length ?? 0) + 3;
    const last = bytes.subarray(-length);
    return concat(bytes.subarray(0, -length), ...new Array<Uint8Array>(times).fill(last));
  };
}

const SERVERS: Record<string, [serve: Serve, complaint: RegExp]> = {
  "answers twice": [after(lastFrame(2)), /a reply too many|is not the last reply/],
  "loses a reply": [after(lastFrame(0)), /\d+ final replies to \d+ messages/],
  "drops a byte": [after((bytes) => bytes.subarray(0, -1)), /no frames/],
  "writes fields in another order": [
    after(() => message({ more: true, res: 1, seq: 5 })),
    /begins with neither res nor err|wrong place/,
  ],
  "answers with nonsense": [after((bytes) => bytes.map((byte, index) => index === 2 ? 0xc1 : byte)), /cannot be read/],
  "grants more to a call without a stream": [
    after((bytes) => concat(message({ seq: 5, credit: 3 }), bytes)),
    /a grant for seq 5, which has no stream|a reply too many for seq 5/,
  ],
  "grants no items": [after(() => message({ seq: 5, credit: 0 })), /a grant is no number of items/],
  "says more with a grant": [after(() => message({ seq: 5, credit: 1, more: true })), /a grant has other fields/],
  "goes on behind a broken frame": [
    after((bytes) => takeBadFrame(bytes) ? concat(bytes, message({ res: "PONG" })) : bytes),
    /BAD_FRAME is not the last reply|a reply too many/,
  ],
  "bothers its operator": [async (transport, options) => {
    options?.onError?.(new Error("a byte was wrong"), {});
    await serveOne(transport, options);
  }, /reached onError/],
  "leaves a promise alone": [async (transport, options) => {
    void Promise.reject(new Error("nobody looks"));
    await serveOne(transport, options);
  }, /a rejection that nobody handled/],
  "rejects": [async (transport, options) => {
    await serveOne(transport, options);
    throw new Error("the connection was bad");
  }, /a rejection that nobody handled/],
  "never ends": [async (transport, options) => {
    await serveOne(transport, options);
    await new Promise(() => {});
  }, /nothing moves any more/],
};

function takeBadFrame(bytes: Uint8Array): boolean {
  return new TextDecoder().decode(bytes).includes("BAD_FRAME");
}

/** What a short run complains of. */
async function complaints(plan: Partial<Plan>): Promise<string[]> {
  const { failures } = await fuzz({ seed: SEED, inputs: 4_000, mostFailures: 3, ...plan });
  return failures.map(({ complaint }) => complaint);
}

for (const [name, [codec, complaint]] of Object.entries(READERS)) {
  Deno.test(`the fuzz notices a reader that ${name} (seed ${SEED})`, async () => {
    const found = await complaints({ codec: { ...SHIPPED, ...codec } });
    assert(found.length > 0);
    assert(found.some((text) => complaint.test(text)), found[0]);
  });
}

for (const [name, [serve, complaint]] of Object.entries(SERVERS)) {
  Deno.test(`the fuzz notices a server that ${name} (seed ${SEED})`, async () => {
    const found = await complaints({ serve });
    assert(found.length > 0);
    assert(found.some((text) => complaint.test(text)), found[0]);
  });
}

Deno.test(`a round trip notices a reader that drops a byte (seed ${SEED})`, () => {
  const random = new Random(SEED);
  const dropping = { ...SHIPPED, ...before((bytes) => bytes.slice(0, -1)) };
  for (let count = 0; count < 10; count++) {
    assertMatch(checkRoundTrip(random, dropping).complaint ?? "", /^written .* read /s);
  }
});

const ITEMS_LOST: Record<string, (message: unknown) => unknown> = {
  "changes an item": (message) => message instanceof RequestItem ? new RequestItem(message.seq, "other") : message,
  "changes the call of an end": (message) => message instanceof RequestEnd ? new RequestEnd(-1) : message,
  "changes a grant": (message) => message instanceof RequestCredit ? new RequestCredit(message.seq, -1) : message,
  "forgets an id": (message) => {
    if (message instanceof ReceivedReply) delete message.fields.$id;
    return message;
  },
};

for (const [name, change] of Object.entries(ITEMS_LOST)) {
  Deno.test(`a round trip notices a reader that ${name} (seed ${SEED})`, () => {
    const random = new Random(SEED);
    const codec = { ...SHIPPED, ...misread(change) };
    const found = Array.from({ length: 300 }, () => checkRoundTrip(random, codec).complaint).find(Boolean);
    assertMatch(found ?? "", /^written .* read /s);
  });
}

Deno.test(`a round trip notices a reader that throws (seed ${SEED})`, () => {
  const fail = () => {
    throw new RangeError("Maximum call stack size exceeded");
  };
  const { complaint } = checkRoundTrip(new Random(SEED), { ...SHIPPED, readRequests: fail, readReplies: fail });
  assertMatch(complaint ?? "", /^DecodeStage\(read(Request|Reply)\) threw RangeError/);
});

Deno.test("the fuzz notices a reader that does not weigh, by a payload that is too heavy", async () => {
  const codec: Codec = {
    ...SHIPPED,
    readRequests: (chunks) => readAll(readRequest, chunks, SERVER, UNWEIGHED),
    readReplies: (chunks) => readAll(readReply, chunks, undefined, UNWEIGHED),
    decode: (payload) => decode(payload, UNWEIGHED),
  };
  const heavy = LARGE.filter((payload) => contentsOf(payload).weight > DEFAULT_LIMITS.maxMessageBytes);
  assert(heavy.length > 0);
  for (const bytes of heavy) {
    assertMatch(await complaintAbout({ kind: "payload", bytes }, codec) ?? "", /^depth 2, \d+ bytes$/);
  }
});

Deno.test("the fuzz notices a server that takes half an upload for a whole one", async () => {
  const upload = [{ cmd: "UPLOAD", seq: 5, $items: true }, { cmd: 0, seq: 5, item: 1 }, { cmd: 0, seq: 5, item: 2 }];
  const end = { cmd: 0, seq: 5, end: true };
  const uploads: [messages: Record<string, unknown>[], complaint: string | undefined][] = [
    [[...upload, end], undefined],
    [upload, "an upload of no end was taken for one of 2 items"],
    [[upload[0], upload[1], end], "an upload of 1 was taken for one of 2 items"],
    [[...upload, { cmd: 0, seq: "5", item: 3 }, end], "an upload of no end was taken for one of 2 items"],
  ];
  const taken = after((bytes) => {
    const replies = takeApart(bytes, Infinity).payloads.map((payload) => decode(payload) as Record<string, unknown>);
    const isFinal = (reply: Record<string, unknown>) => reply.seq === 5 && !("credit" in reply);
    return concat(...replies.map((reply) => message(isFinal(reply) ? { seq: 5, res: 2 } : reply)));
  });
  for (const [messages, complaint] of uploads) {
    const bytes = concat(...messages.map((each) => message(each)));
    assertEquals(await complaintAbout({ kind: "stream", bytes }, SHIPPED, taken), complaint);
    assertEquals(await complaintAbout({ kind: "stream", bytes }), undefined);
  }
});

Deno.test("the fuzz notices a server that takes the end of the connection for that of a stream", async () => {
  const bytes = concat(message({ cmd: "UPLOAD", seq: 5, $items: true }), message({ cmd: 0, seq: 5, item: 1 }));
  assertEquals(await complaintAbout({ kind: "stream", bytes }), undefined);
  using _ = replaced(Call.prototype, "endInput", () =>
    function (this: Call) {
      void this.items?.end();
    });
  assertEquals(
    await complaintAbout({ kind: "stream", bytes }),
    "an upload of no end was taken for one of 1 items",
  );
});

Deno.test("a failure is made as small as it can be", async () => {
  const codec = { ...SHIPPED, ...before(withGoodTerminators) };
  const broken = message({ cmd: 1 }).fill(0x0d, -1);
  const bytes = concat(message({ cmd: 1, text: "x".repeat(500) }), broken, message({ cmd: 1 }));
  const fails = async (input: Input) => await complaintAbout(input, codec) !== undefined;
  const smaller = await shrink({ kind: "stream", bytes }, fails);
  assert(smaller.bytes.length <= broken.length && await fails(smaller), `${smaller.bytes.length} bytes`);
});
