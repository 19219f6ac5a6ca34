/**
 * A socket as a pair of streams: on real sockets, half-closes and closes; on a scripted one, partial writes and how much
 * is read when.
 */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Duplex } from "../../transport/duplex.ts";
import { addressText, closeQuietly, socketDuplex } from "../../transport/tcp.ts";
import { newSeed, Random } from "../support/random.ts";
import { concat, hex, settle } from "../support/wire.ts";

const SEED = newSeed();

/** Two ends of a real connection. */
async function socketPair(): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [here, there] = await Promise.all([Deno.connect({ port: listener.addr.port }), listener.accept()]);
  return [here, there];
}

/** A socket that does what a test says; what is not asked for fails. */
function scriptedConn(methods: Partial<Deno.TcpConn>): Deno.Conn {
  return { remoteAddr: { transport: "tcp", hostname: "::1", port: 5 }, setNoDelay() {}, ...methods } as Deno.Conn;
}

async function readAll(readable: ReadableStream<Uint8Array>): Promise<Uint8Array[]> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of readable) chunks.push(chunk.slice());
  return chunks;
}

Deno.test("socketDuplex() leaves the way back open when the peer has half-closed", async () => {
  const [client, conn] = await socketPair();
  const server = socketDuplex(conn);
  await client.closeWrite();
  assertEquals(await readAll(server.readable), []);
  const writer = server.writable.getWriter();
  await writer.write(new TextEncoder().encode("still here"));
  await writer.close();
  const [reply] = await readAll(socketDuplex(client).readable);
  assertEquals(new TextDecoder().decode(reply), "still here");
  server.close!();
  client.close();
});

Deno.test("the built-in streams, in its place, would close the way back", async () => {
  const [client, conn] = await socketPair();
  await client.closeWrite();
  assertEquals(await readAll(conn.readable), []);
  await assertRejects(() => conn.write(new Uint8Array(1)), Deno.errors.BadResource);
  client.close();
});

Deno.test("socketDuplex() ends the write half, and only it, when its writable is closed", async () => {
  const [client, conn] = await socketPair();
  const server = socketDuplex(conn);
  await server.writable.close();
  assertEquals(await client.read(new Uint8Array(1)), null);
  await client.write(Uint8Array.of(1, 2, 3));
  client.close();
  assertEquals((await readAll(server.readable)).map(hex), ["01 02 03"]);
  server.close!();
});

Deno.test(`socketDuplex() carries bytes both ways unchanged (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const [client, conn] = await socketPair();
  const bytes = new Random(SEED).bytes(3_000_000);
  const [there, here] = [socketDuplex(conn), socketDuplex(client)];
  const echoed = there.readable.pipeTo(there.writable);
  const writer = here.writable.getWriter();
  const [chunks] = await Promise.all([readAll(here.readable), writer.write(bytes).then(() => writer.close()), echoed]);
  const whole = concat(...chunks);
  assert(whole.length === bytes.length && whole.every((byte, index) => byte === bytes[index]));
  for (const duplex of [here, there]) duplex.close!();
});

Deno.test("socketDuplex() interrupts a read and a write that wait when it is closed", async () => {
  const [client, conn] = await socketPair();
  const server = socketDuplex(conn);
  const reading = assertRejects(() => server.readable.getReader().read(), Error);
  const writer = server.writable.getWriter();
  // More than the sockets between them can hold.
  const writing = assertRejects(() => writer.write(new Uint8Array(32 * 1024 * 1024)), Error);
  await settle();
  server.close!();
  await Promise.all([reading, writing]);
  server.close!(); // once more does no harm
  client.close();
});

Deno.test("socketDuplex() hands the errors of the socket on", async () => {
  const broken = scriptedConn({
    read: () => Promise.reject(new Deno.errors.ConnectionReset("reset")),
    write: () => Promise.reject(new Deno.errors.BrokenPipe("broken")),
  });
  const { readable, writable } = socketDuplex(broken);
  await assertRejects(() => readable.getReader().read(), Deno.errors.ConnectionReset);
  await assertRejects(() => writable.getWriter().write(new Uint8Array(1)), Deno.errors.BrokenPipe);
});

Deno.test("socketDuplex() writes until all has been taken", async () => {
  const taken: string[] = [];
  const conn = scriptedConn({
    write(bytes) {
      const part = bytes.slice(0, 2);
      taken.push(hex(part));
      return Promise.resolve(part.length);
    },
  });
  await socketDuplex(conn).writable.getWriter().write(Uint8Array.of(1, 2, 3, 4, 5));
  assertEquals(taken, ["01 02", "03 04", "05"]);
});

Deno.test("socketDuplex() reads when it is asked, and not ahead", async () => {
  let reads = 0;
  const conn = scriptedConn({
    read(buffer) {
      buffer[0] = ++reads;
      return Promise.resolve(1);
    },
  });
  const reader = socketDuplex(conn).readable.getReader();
  await settle();
  assertEquals(reads, 0);
  const { value } = await reader.read();
  await settle();
  assertEquals([reads, hex(value!)], [1, "01"], "the chunk is left alone until the next is asked for");
});

Deno.test("socketDuplex() takes a larger buffer as reads fill it, up to 64 KiB, and a smaller one as they do not", async () => {
  const offered: number[] = [];
  const growing = [1, 1, 0.5, 0.2, 1, 1, 1, 1, 1, 1];
  const shrinking = [0.125, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1];
  const fills = [...growing, ...shrinking];
  const conn = scriptedConn({
    read(buffer) {
      offered.push(buffer.length);
      const fill = fills.shift();
      return Promise.resolve(fill === undefined ? null : Math.floor(buffer.length * fill));
    },
  });
  await readAll(socketDuplex(conn).readable);
  const kibibytes = [0.5, 1, 2, 2, 2, 4, 8, 16, 32, 64, 64, 64, 32, 16, 8, 4, 2, 1, 0.5, 0.5, 0.5];
  assertEquals(offered, kibibytes.map((kib) => kib * 1024));
});

Deno.test("socketDuplex() switches Nagle's delay off, where there is one", () => {
  const noDelay: unknown[] = [];
  const conn = scriptedConn({ setNoDelay: (on) => void noDelay.push(on) });
  assertEquals(socketDuplex(conn).peer, "[::1]:5");
  assertEquals(noDelay, [true]);
  const unix = { remoteAddr: { transport: "unix", path: "/run/x" } } as unknown as Deno.Conn;
  const duplex: Duplex = socketDuplex(unix);
  assertEquals(duplex.peer, "unix:/run/x");
});

Deno.test("addressText() names every kind of address", () => {
  assertEquals(addressText({ transport: "tcp", hostname: "127.0.0.1", port: 1235 }), "127.0.0.1:1235");
  assertEquals(addressText({ transport: "tcp", hostname: "::1", port: 1235 }), "[::1]:1235");
  assertEquals(addressText({ transport: "unix", path: "/run/packline" }), "unix:/run/packline");
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
});
