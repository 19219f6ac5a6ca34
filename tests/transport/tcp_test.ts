/** A socket as a transport: half-closes and closes on real sockets, names on scripted ones. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { addressText } from "../../transport/address.ts";
import { socketTransport } from "../../transport/deno_network.ts";
import { NodeAcceptor } from "../../transport/node_acceptor.ts";
import { type Transport, writeAll } from "../../transport/transport.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";
import { resetUnseen, settle } from "../support/peers.ts";
import { concat, hex } from "../support/wire.ts";

const SEED = newSeed();

/** Two ends of a real connection. */
async function socketPair(): Promise<[Deno.TcpConn, Deno.TcpConn]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const [here, there] = await Promise.all([Deno.connect({ port: listener.addr.port }), listener.accept()]);
  return [here, there];
}

async function readAll(transport: Transport): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  const buffer = new Uint8Array(64 * 1024);
  for (let size = await transport.read(buffer); size !== null; size = await transport.read(buffer)) {
    pieces.push(buffer.slice(0, size));
  }
  return concat(...pieces);
}

Deno.test("socketTransport() leaves the way back open when the peer has half-closed", async () => {
  const [client, conn] = await socketPair();
  const server = socketTransport(conn);
  await client.closeWrite();
  assertEquals(await server.read(new Uint8Array(1)), null);
  await writeAll(server, new TextEncoder().encode("still here"));
  await server.closeWrite();
  assertEquals(new TextDecoder().decode(await readAll(client)), "still here");
  server.close();
  client.close();
});

Deno.test("the built-in streams, in its place, would close the way back", async () => {
  const [client, conn] = await socketPair();
  await client.closeWrite();
  assertEquals(await Array.fromAsync(conn.readable), []);
  await assertRejects(() => conn.write(new Uint8Array(1)), Deno.errors.BadResource);
  client.close();
});

Deno.test("socketTransport() ends the write half, and only it, by closeWrite()", async () => {
  const [client, conn] = await socketPair();
  const server = socketTransport(conn);
  await server.closeWrite();
  assertEquals(await client.read(new Uint8Array(1)), null);
  await client.write(Uint8Array.of(1, 2, 3));
  client.close();
  assertEquals(hex(await readAll(server)), "01 02 03");
  server.close();
});

Deno.test(`socketTransport() carries bytes both ways unchanged (seed ${SEED})`, async () => {
  console.log(`seed ${SEED}`);
  const [client, conn] = await socketPair();
  const bytes = new Random(SEED).bytes(3_000_000);
  const [there, here] = [socketTransport(conn), socketTransport(client)];
  const echo = async () => {
    const buffer = new Uint8Array(10_000);
    for (let size = await there.read(buffer); size !== null; size = await there.read(buffer)) {
      await writeAll(there, buffer.subarray(0, size));
    }
    await there.closeWrite();
  };
  const [whole] = await Promise.all([readAll(here), writeAll(here, bytes).then(() => here.closeWrite()), echo()]);
  assert(whole.length === bytes.length && whole.every((byte, index) => byte === bytes[index]));
  for (const transport of [here, there]) transport.close();
});

Deno.test("socketTransport() interrupts a read and a write that wait when it is closed", async () => {
  const [client, conn] = await socketPair();
  const server = socketTransport(conn);
  const reading = assertRejects(() => server.read(new Uint8Array(1)), Error);
  // More than the sockets between them can hold.
  const writing = assertRejects(() => writeAll(server, new Uint8Array(32 * 1024 * 1024)), Error);
  await settle();
  server.close();
  await Promise.all([reading, writing]);
  server.close(); // once more does no harm
  client.close();
});

Deno.test("socketTransport() switches Nagle's delay off, where there is one", () => {
  const noDelay: unknown[] = [];
  const remoteAddr = { transport: "tcp", hostname: "::1", port: 5 };
  const conn = { remoteAddr, setNoDelay: (on: boolean) => void noDelay.push(on) } as unknown as Deno.Conn;
  assertEquals(socketTransport(conn).peer, "[::1]:5");
  assertEquals(noDelay, [true]);
  const unix = { remoteAddr: { transport: "unix", path: "/run/x" } } as unknown as Deno.Conn;
  assertEquals(socketTransport(unix).peer, "unix:/run/x");
});

Deno.test("addressText() names every kind of address", () => {
  assertEquals(addressText({ transport: "tcp", hostname: "127.0.0.1", port: 1235 }), "127.0.0.1:1235");
  assertEquals(addressText({ transport: "tcp", hostname: "::1", port: 1235 }), "[::1]:1235");
  assertEquals(addressText({ transport: "unix", path: "/run/packline" }), "unix:/run/packline");
});

Deno.test("NodeAcceptor passes over TCP clients that have left before they are accepted", async () => {
  const acceptor = await NodeAcceptor.listen({ host: "127.0.0.1", port: 0, reusePort: false }, new FakeClock());
  resetUnseen(acceptor.port, 3, [0x20, 0x26]);
  using conn = await Deno.connect({ port: acceptor.port });
  const first = await acceptor.accept();
  assertEquals(first.peer, addressText(conn.localAddr));
  first.close();
  acceptor.close();
});
