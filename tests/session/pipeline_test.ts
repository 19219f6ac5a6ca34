/**
 * Three stages as one transformer: what goes through in which order, with what patience; and that the real ones say the
 * same, byte for byte, whether they are joined or stand in three streams.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { DecodeStage } from "../../codec/decode.ts";
import { EncodeStage } from "../../codec/encode.ts";
import { SLAB_BYTES } from "../../codec/frame.ts";
import { readRequest } from "../../codec/read_message.ts";
import { command } from "../../handlers/command.ts";
import { DispatchStage } from "../../handlers/dispatch.ts";
import { ServerState } from "../../handlers/server_state.ts";
import type { Stage } from "../../codec/stage.ts";
import { ReadPace } from "../../session/read_pace.ts";
import { compose, DirectPipeline, StreamPipeline } from "../../session/pipeline.ts";
import { BareConnection } from "../support/bare_connection.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { settle } from "../support/peers.ts";
import { ErrorLog } from "../support/test_server.ts";
import { concat, frame, hex, messages, request, unhex } from "../support/wire.ts";

const SEED = newSeed();

type Output<Chunk> = { enqueue(chunk: Chunk): void; terminate(): void };

/** Passes text on, and notes what is asked of it. */
function textStage(name: string, log: string[], more: Partial<Stage<string, string>> = {}): Stage<string, string> {
  return {
    start: () => void log.push(`${name} start`),
    transform(chunk, output) {
      log.push(`${name} ${chunk}`);
      output.enqueue(chunk);
    },
    flush: () => void log.push(`${name} flush`),
    cancel: (reason) => void log.push(`${name} cancel ${reason}`),
    ...more,
  };
}

/** The last stage: text to bytes. */
function byteStage(log: string[]): Stage<string, Uint8Array> {
  return {
    ...(textStage("encode", log) as unknown as Stage<string, Uint8Array>),
    transform(chunk, output) {
      log.push(`encode ${chunk}`);
      output.enqueue(new TextEncoder().encode(chunk));
    },
  };
}

const textOf = (chunk: Uint8Array | undefined) => new TextDecoder().decode(chunk);

/** The stages joined, in a stream that holds any number of chunks. */
function streamOf(
  log: string[],
  decode: Partial<Stage<string, string>> = {},
  dispatch: Partial<Stage<string, string>> = {},
): TransformStream<string, Uint8Array> {
  const stages = compose(textStage("decode", log, decode), textStage("dispatch", log, dispatch), byteStage(log));
  return new TransformStream(stages, undefined, { highWaterMark: Infinity });
}

Deno.test("compose() starts, runs, flushes and cancels the stages in their order", async () => {
  const log: string[] = [];
  const stream = streamOf(log);
  assertEquals(log.splice(0).sort(), ["decode start", "dispatch start", "encode start"]);
  const writer = stream.writable.getWriter();
  await writer.write("a");
  assertEquals(log.splice(0), ["decode a", "dispatch a", "encode a"]);
  await writer.close();
  assertEquals(log.splice(0), ["decode flush", "dispatch flush", "encode flush"]);
  assertEquals((await Array.fromAsync(stream.readable)).map(textOf), ["a"]);

  const aborted = streamOf(log);
  log.splice(0);
  await aborted.writable.abort("gone");
  assertEquals(log.splice(0), ["decode cancel gone", "dispatch cancel gone", "encode cancel gone"]);

  const cancelled = streamOf(log);
  log.splice(0);
  await cancelled.readable.cancel("gone");
  assertEquals(log.splice(0), ["decode cancel gone", "dispatch cancel gone", "encode cancel gone"]);
});

Deno.test("compose() takes the next chunk only when dispatch has done with the last", async () => {
  const log: string[] = [];
  const rooms: (() => void)[] = [];
  const stream = streamOf(log, {}, {
    transform(chunk, output) {
      log.push(`dispatch ${chunk}`);
      output.enqueue(chunk);
      return new Promise<void>((resolve) => rooms.push(resolve));
    },
  });
  const writer = stream.writable.getWriter();
  writer.write("a");
  const second = writer.write("b");
  await settle();
  assertEquals(log.filter((line) => line.endsWith("b")), []);
  rooms.shift()!();
  await settle();
  assertEquals(log.filter((line) => line.endsWith("b")), ["decode b", "dispatch b", "encode b"]);
  rooms.shift()!();
  await second;
});

Deno.test("compose() waits for each of the chunks that decode puts out in one go", async () => {
  for (const slow of ["a", "b"]) {
    const { promise, resolve } = Promise.withResolvers<void>();
    const stages = compose(
      textStage("decode", [], { transform: (chunk, output) => [...chunk].forEach((part) => output.enqueue(part)) }),
      textStage("dispatch", [], { transform: (chunk) => chunk === slow ? promise : undefined }),
      byteStage([]),
    );
    const output = { enqueue: () => {}, terminate: () => {} } as unknown as TransformStreamDefaultController<
      Uint8Array
    >;
    stages.start?.(output);
    let isDone = false;
    const done = Promise.resolve(stages.transform("ab")).then(() => isDone = true);
    await settle(1);
    assertEquals(isDone, false, slow);
    resolve();
    await done;
  }
});

Deno.test("compose() waits for what decode puts out at the end, before dispatch is flushed", async () => {
  const log: string[] = [];
  const rooms: (() => void)[] = [];
  const stream = streamOf(log, { flush: (output) => output.enqueue("tail") }, {
    transform(chunk, output) {
      return new Promise<void>((resolve) => rooms.push(resolve)).then(() => {
        log.push(`dispatch ${chunk}`);
        output.enqueue(chunk);
      });
    },
  });
  const closed = stream.writable.close();
  await settle();
  assert(!log.includes("dispatch flush"));
  rooms.shift()!();
  await closed;
  assertEquals(log.slice(-4), ["dispatch tail", "encode tail", "dispatch flush", "encode flush"]);
});

Deno.test("compose() lets dispatch put out at any time, at once", async () => {
  let output: Output<string> | undefined;
  const stream = streamOf([], {}, { start: (given) => void (output = given) });
  const reader = stream.readable.getReader();
  output!.enqueue("unasked");
  assertEquals(textOf((await reader.read()).value), "unasked");
  output!.enqueue("again");
  assertEquals(textOf((await reader.read()).value), "again");
});

Deno.test("compose() lets what is encoded leave as soon as dispatch is idle, and waits for more while it is not", async () => {
  const reply = (text: string) => ({ seq: undefined, outcome: { res: text }, more: false });
  const encode = new EncodeStage<ReturnType<typeof reply>>({
    writeMessage: (writer, { outcome }) => writer.writeValue(outcome),
    maxPayloadBytes: () => Infinity,
    onUnwritable: () => undefined,
  });
  const dispatch = {
    idle: true,
    transform: (text: string, output: Output<ReturnType<typeof reply>>) => output.enqueue(reply(text)),
  };
  const chunks: string[] = [];
  const stages = compose<string, string, ReturnType<typeof reply>>(textStage("decode", []), dispatch, encode);
  stages.start({ enqueue: (chunk) => void chunks.push(textOf(chunk).match(/[abc](?=\n)/g)!.join("")), terminate() {} });
  stages.transform("a");
  assertEquals(chunks, ["a"]);
  dispatch.idle = false;
  stages.transform("b");
  await undefined;
  stages.transform("c");
  assertEquals(chunks, ["a"]);
  await settle();
  assertEquals(chunks, ["a", "bc"]);
});

Deno.test("compose() delivers what was put out before a stage terminates, and takes no more", async () => {
  for (const inTransform of [true, false]) {
    let output: Output<string> | undefined;
    const stream = streamOf([], {}, {
      start: (given) => void (output = given),
      transform(chunk) {
        output!.enqueue(chunk);
        if (inTransform) output!.terminate();
      },
    });
    const writer = stream.writable.getWriter();
    await writer.write("last words");
    if (!inTransform) output!.terminate();
    assertEquals((await Array.fromAsync(stream.readable)).map(textOf), ["last words"]);
    await assertRejects(() => writer.write("more"), TypeError);
    await assertRejects(() => writer.closed, TypeError);
  }
});

Deno.test("compose() puts out what encode holds before dispatch ends the stream", async () => {
  let output: Output<string> | undefined;
  const held: string[] = [];
  const stages = compose<string, string, string>(
    textStage("decode", []),
    textStage("dispatch", [], { start: (given) => void (output = given) }),
    {
      transform: (chunk) => void held.push(chunk),
      flush: (output) => output.enqueue(new TextEncoder().encode(held.splice(0).join())),
    },
  );
  const stream = new TransformStream(stages, undefined, { highWaterMark: Infinity });
  output!.enqueue("last");
  output!.enqueue("words");
  output!.terminate();
  assertEquals((await Array.fromAsync(stream.readable)).map(textOf), ["last,words"]);
});

// The real stages ----------------------------------------------------------------------------------------------------

/** What the server's three stages make of chunks of bytes, joined or in a stream each. */
async function throughStages(joined: boolean, chunks: Uint8Array[]): Promise<{ bytes: string; errors: number }> {
  const clock = new FakeClock();
  const errors = new ErrorLog();
  const service = new ServerState({
    clock,
    onError: errors.onError,
    commands: {
      THROW: command({
        handler: () => {
          throw new Error("as it was told to");
        },
      }),
      UNENCODABLE: command({ handler: (): unknown => () => {} }),
      COUNT: command({
        async *handler({ to }: { to: number }) {
          for (let count = 1; count <= to; count++) yield count;
          return "done";
        },
      }),
    },
  });
  const connection = new BareConnection();
  const decode = new DecodeStage(readRequest, service.limits);
  const dispatch = new DispatchStage(service, connection, new ReadPace(service));
  const encode = new EncodeStage(dispatch.encoding);
  const source = new TransformStream<Uint8Array, Uint8Array>();
  const replies = joined
    ? source.readable.pipeThrough(new TransformStream(compose(decode, dispatch, encode)))
    : source.readable.pipeThrough(new TransformStream(decode)).pipeThrough(new TransformStream(dispatch))
      .pipeThrough(new TransformStream(encode));
  const collected = Array.fromAsync(replies);
  const writer = source.writable.getWriter();
  const written = (async () => {
    for (const chunk of chunks) await writer.write(chunk);
    await writer.close();
  })().catch(() => {}); // a broken frame ends the stream before all is written
  for (let step = 0; step < 12; step++) await clock.advance(1_000);
  await written;
  service.close();
  return { bytes: hex(concat(...await collected)), errors: errors.take().length };
}

/** Requests of every kind, whose replies come in one order only. */
function traffic(random: Random): Uint8Array[] {
  let seq = 0;
  const kinds: (() => Uint8Array)[] = [
    () => request({ cmd: 1 }),
    () => request({ cmd: "PING", seq: seq++ }),
    () => request({ cmd: 2, sleep: random.below(4) }),
    () => request({ cmd: 2, sleep: -1, seq: seq++ }),
    () => request({ cmd: "NOTHING", seq: seq++ }),
    () => request({ cmd: "THROW" }),
    () => request({ cmd: "UNENCODABLE", seq: seq++ }),
    () => request({ cmd: "COUNT", to: random.below(4) }),
    () => request({ cmd: 0, max: 70_000 }),
    () => request({ cmd: 0, seq: 1_000, cancel: true }),
    () => request({ cmd: 1, ttl: 0 }),
    () => frame(unhex("90")),
    () => frame(unhex("c1")),
  ];
  return Array.from({ length: random.between(1, 12) }, () => random.pick(kinds)());
}

/** Replies by the call they answer. Only within a call, and among those without `seq`, is an order promised. */
function byCall(bytes: string): unknown {
  return Object.groupBy(messages(unhex(bytes)) as { seq?: number }[], ({ seq }) => String(seq));
}

Deno.test(`the three stages say the same joined as in a stream each (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const random = new Random(SEED);
  for (let round = 0; round < 12; round++) {
    const bytes = concat(...traffic(random), ...random.pick([[], [], [unhex("20 21 90 0d")], [unhex("20")]]));
    const chunks = random.pieces(bytes, random.pick([1, 10, 1_000]));
    const [joined, apart] = await Promise.all([throughStages(true, chunks), throughStages(false, chunks)]);
    assertEquals(apart.errors, joined.errors, `round ${round}: ${hex(bytes)}`);
    assertEquals(byCall(apart.bytes), byCall(joined.bytes), `round ${round}: ${hex(bytes)}`);
  }
});

Deno.test("the three stages give a stream's item that cannot be encoded one last reply, joined or not", async () => {
  // Apart, the handler has gone on by the time that the encode stage sees the item.
  for (const joined of [true, false]) {
    const clock = new FakeClock();
    const service = new ServerState({
      clock,
      onError: () => {},
      commands: {
        MIXED: command({
          async *handler(): AsyncGenerator<unknown, unknown, void> {
            yield 1;
            yield () => {};
            yield 3;
            return 4;
          },
        }),
      },
    });
    const dispatch = new DispatchStage(service, new BareConnection(), new ReadPace(service));
    const decode = new DecodeStage(readRequest, service.limits);
    const encode = new EncodeStage(dispatch.encoding);
    const source = ReadableStream.from([request({ cmd: "MIXED", seq: 1 }), request({ cmd: 1 })]);
    const replies = joined
      ? source.pipeThrough(new TransformStream(compose(decode, dispatch, encode)))
      : source.pipeThrough(new TransformStream(decode)).pipeThrough(new TransformStream(dispatch))
        .pipeThrough(new TransformStream(encode));
    const all = messages(concat(...await Array.fromAsync(replies)));
    const ofStream = all.filter(({ seq }) => seq === 1);
    assertEquals(ofStream.map(({ res, err, more }) => [res ?? err, more ?? false]), [[1, true], [
      "REPLY_NOT_ENCODABLE",
      false,
    ]]);
    assertEquals(all.filter(({ seq }) => seq === undefined), [{ res: "PONG" }]);
    service.close();
  }
});

Deno.test("StreamPipeline goes on after a rest: with bytes, with what a stage says unasked, and with its end", async () => {
  const log: string[] = [];
  let say!: (text: string) => void;
  const decode: Stage<Uint8Array, string> = {
    transform: (chunk, output) => output.enqueue(textOf(chunk)),
    flush: () => void log.push("decode flush"),
  };
  const dispatch = textStage("dispatch", log, { start: (output) => void (say = (text) => output.enqueue(text)) });
  const pipeline = new StreamPipeline(compose(decode, dispatch, byteStage(log)));
  const bytes = (text: string) => new TextEncoder().encode(text);
  const read = async () => textOf(await pipeline.read());
  say("before any bytes");
  assertEquals(await read(), "before any bytes");
  pipeline.rest();
  await pipeline.write(bytes("first"));
  assertEquals(await read(), "first");
  pipeline.rest();
  say("unasked");
  await pipeline.write(bytes("second"));
  assertEquals([await read(), await read()], ["unasked", "second"]);
  pipeline.rest();
  await pipeline.end();
  assertEquals(await pipeline.read(), undefined);
  await pipeline.closed;
  assertEquals(log.slice(-3), ["decode flush", "dispatch flush", "encode flush"]);
});

Deno.test("StreamPipeline tells of an error of a stage, and of an abort, also after a rest", async () => {
  const failing: Stage<Uint8Array, string> = {
    transform() {
      throw new Error("a bug");
    },
  };
  const log: string[] = [];
  const broken = new StreamPipeline(compose(failing, textStage("dispatch", log), byteStage(log)));
  broken.rest();
  await assertRejects(() => broken.write(new Uint8Array(1)), Error, "a bug");
  await assertRejects(() => broken.closed, Error, "a bug");
  const aborted = new StreamPipeline(compose(failing, textStage("dispatch", log), byteStage(log)));
  aborted.rest();
  aborted.abort(new Error("gone"));
  await assertRejects(() => aborted.closed, Error, "gone");
  assertEquals(log.slice(-2), ["dispatch cancel Error: gone", "encode cancel Error: gone"]);
});

for (const Pipeline of [StreamPipeline, DirectPipeline]) {
  Deno.test(`${Pipeline.name} keeps no slab for the small chunks that wait, and gives all bytes in their order`, async () => {
    const random = new Random(SEED);
    let say!: (bytes: Uint8Array) => void;
    const pipeline = new Pipeline(compose<Uint8Array, string, Uint8Array>(
      { transform() {} },
      { transform() {}, idle: false },
      { transform() {}, start: (output) => void (say = (bytes) => output.enqueue(bytes)) },
    ));
    const said: number[] = [];
    const got: number[] = [];
    for (let step = 0; step < 3_000; step++) {
      // Mostly a few bytes, as from a server's replies: a range of a slab that other connections use too.
      const bytes = random.below(100) === 0 ? random.below(SLAB_BYTES) + 1 : random.below(20) + 1;
      const slab = new Uint8Array(SLAB_BYTES);
      const chunk = slab.subarray(0, bytes).fill(step & 255);
      said.push(...chunk);
      say(chunk);
      slab.fill(0xee, bytes); // what others write into it
      if (random.below(50) === 0) got.push(...await pipeline.read() as Uint8Array);
    }
    const ended = pipeline.end();
    let waitingBytes = 0;
    for (let chunk = await pipeline.read(); chunk !== undefined; chunk = await pipeline.read()) {
      got.push(...chunk);
      waitingBytes += chunk.buffer.byteLength;
    }
    await ended;
    assertEquals(got.length, said.length);
    assert(got.every((byte, index) => byte === said[index]));
    assert(waitingBytes <= 4 * said.length + 4 * SLAB_BYTES, `${waitingBytes} bytes for ${said.length} (${SEED})`);
  });
}
