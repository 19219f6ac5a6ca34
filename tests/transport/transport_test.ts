/** What all transports share: streams as one, buffers that grow and shrink, all that is to be written. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { memoryPair } from "../../transport/memory.ts";
import {
  type ByteStreams,
  closeQuietly,
  closeTransport,
  FIRST_READ_BYTES,
  fromStreams,
  sizeAfter,
  writeAll,
} from "../../transport/transport.ts";
import { hex } from "../support/wire.ts";

Deno.test("fromStreams() reads a chunk piece by piece, passes over empty ones, and finds the end", async () => {
  const chunks = [Uint8Array.of(1, 2, 3), new Uint8Array(0), Uint8Array.of(4)];
  const transport = fromStreams({ readable: ReadableStream.from(chunks), writable: new WritableStream() });
  const buffer = new Uint8Array(2);
  const read: string[] = [];
  for (let size = await transport.read(buffer); size !== null; size = await transport.read(buffer)) {
    read.push(hex(buffer.subarray(0, size)));
  }
  assertEquals(read, ["01 02", "03", "04"]);
});

Deno.test("fromStreams() refuses streams that somebody else reads or writes", () => {
  for (const taken of ["readable", "writable"] as const) {
    const streams = { readable: new ReadableStream<Uint8Array>(), writable: new WritableStream<Uint8Array>() };
    if (taken === "readable") streams.readable.getReader();
    else streams.writable.getWriter();
    assertThrows(() => fromStreams(streams), TypeError);
  }
});

Deno.test("fromStreams() refuses what is no pair of streams", () => {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
  for (const wrong of [undefined, null, {}, { readable }, { writable }, { readable: 1, writable: 2 }]) {
    assertThrows(() => fromStreams(wrong as unknown as ByteStreams), TypeError, "two streams, readable and writable");
  }
});

Deno.test("fromStreams() closes both streams, once or twice, whatever their close() throws", async () => {
  let cancelled = 0;
  let aborted = 0;
  const transport = fromStreams({
    readable: new ReadableStream({ cancel: () => void cancelled++ }),
    writable: new WritableStream({ abort: () => void aborted++ }),
    close() {
      throw new Error("closed already");
    },
  });
  transport.close();
  transport.close();
  await assertRejects(() => transport.write(new Uint8Array(1)));
  assertEquals([await transport.read(new Uint8Array(1)), cancelled, aborted], [null, 1, 1]);
});

Deno.test("memoryPair() copies what is written: its writer may use the bytes again", async () => {
  const [here, there] = memoryPair();
  const bytes = Uint8Array.of(1, 2, 3);
  const buffer = new Uint8Array(8);
  const reading = there.read(buffer);
  await here.write(bytes);
  bytes.fill(9);
  assertEquals([await reading, hex(buffer.subarray(0, 3))], [3, "01 02 03"]);
  here.close();
  there.close();
});

Deno.test("writeAll() writes until all has been taken", async () => {
  const taken: string[] = [];
  const write = (bytes: Uint8Array) => {
    const part = bytes.slice(0, 2);
    taken.push(hex(part));
    return Promise.resolve(part.length);
  };
  await writeAll({ write }, Uint8Array.of(1, 2, 3, 4, 5));
  assertEquals(taken, ["01 02", "03 04", "05"]);
});

Deno.test("sizeAfter() gives a larger size as reads fill it, up to 64 KiB, and a smaller one as they do not", () => {
  const growing = [1, 1, 0.5, 0.2, 1, 1, 1, 1, 1, 1];
  const shrinking = [0.125, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1];
  const offered = [FIRST_READ_BYTES];
  let size = FIRST_READ_BYTES;
  for (const fill of [...growing, ...shrinking]) {
    size = sizeAfter(size, size, Math.floor(size * fill));
    offered.push(size);
  }
  const kibibytes = [0.5, 1, 2, 2, 2, 4, 8, 16, 32, 64, 64, 64, 32, 16, 8, 4, 2, 1, 0.5, 0.5, 0.5];
  assertEquals(offered, kibibytes.map((kib) => kib * 1024));
});

Deno.test("closeQuietly() closes what may be closed already, and hides nothing else", () => {
  let closed = 0;
  closeQuietly({ close: () => closed++ });
  assertEquals(closed, 1);
  closeQuietly({
    close() {
      throw new Deno.errors.BadResource("closed already");
    },
  });
  const broken = {
    close() {
      throw new TypeError("something else");
    },
  };
  assertThrows(() => closeQuietly(broken), TypeError, "something else");
  closeTransport(broken);
});
