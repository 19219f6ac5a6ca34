/**
 * TLS connections that the server does not read for a while: at its limits, after a broken frame, after a half-close. Each call on
 * them is answered, as over TCP. Several looks of the server at its connections pass meanwhile.
 */

import { assertEquals } from "@std/assert";
import { connect } from "../../client.ts";
import type { ServeOptions } from "../../server.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { Peer, settle } from "../support/peers.ts";
import { Held, type TestServer, withServer } from "../support/test_server.ts";
import { concat, type Message, message, unhex } from "../support/wire.ts";
import { Certificates } from "./certificates.ts";
import { testWith } from "./programs.ts";

const PONG = { res: "PONG" };

/** A server that speaks TLS on a clock that stands still, its handlers in the test's hand, and a peer. */
class World implements AsyncDisposable {
  private constructor(
    readonly clock: FakeClock,
    readonly held: Held,
    readonly server: TestServer,
    readonly ca: string,
    readonly peer: Peer,
  ) {}

  static async begin(options: ServeOptions = {}): Promise<World> {
    await using certificates = await Certificates.begin();
    const authority = await certificates.selfSigned({ subject: "/CN=authority" });
    const { cert, key } = await certificates.signedBy(authority);
    const clock = new FakeClock();
    const held = new Held();
    const server = await withServer({ clock, tls: { cert, key }, commands: { HOLD: held.command }, ...options });
    return new World(clock, held, server, authority.cert, await connectTls(server.port, authority.cert));
  }

  /** Waits for that many handlers, then lets the server look at its connections several times. */
  async lookedAt(handlers: number): Promise<void> {
    while (this.held.running < handlers) await settle();
    for (let looks = 0; looks < 6; looks++) {
      await this.clock.advance(500);
      await settle();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.held.finishAll();
    await this.peer[Symbol.asyncDispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

async function connectTls(port: number, ca: string): Promise<Peer> {
  const conn = await Deno.connectTls({ hostname: "127.0.0.1", port, caCerts: [ca] });
  const buffer = new Uint8Array(64 * 1024);
  let open = true;
  return new Peer({
    async read() {
      const size = await conn.read(buffer);
      return size === null ? null : buffer.slice(0, size);
    },
    async write(bytes) {
      for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
    },
    closeWrite: () => conn.closeWrite(),
    close() {
      if (open) conn.close();
      open = false;
    },
  });
}

function tlsTest(name: string, options: ServeOptions, run: (world: World) => Promise<void>): void {
  testWith(["openssl"], `TLS: ${name}`, async () => {
    await using world = await World.begin(options);
    await run(world);
  });
}

tlsTest("what waits behind a call without seq, more than may be in flight, is answered", {}, async (world) => {
  const pings: Message[] = Array.from({ length: 200 }, () => ({ cmd: 1 }));
  await world.peer.send({ cmd: "HOLD" }, ...pings);
  await world.lookedAt(1);
  world.held.finishAll();
  assertEquals(await world.peer.readReplies(201), [{ res: null }, ...pings.map(() => PONG)]);
});

tlsTest("more calls with seq than may be in flight are answered", { maxInFlight: 16 }, async (world) => {
  const { peer, held } = world;
  await peer.send(...Array.from({ length: 18 }, (_, seq) => ({ cmd: "HOLD", seq })));
  await world.lookedAt(16);
  held.finishAll();
  assertEquals((await peer.readReplies(16)).map(({ seq }) => seq), Array.from({ length: 16 }, (_, seq) => seq));
  await world.lookedAt(2);
  held.finishAll();
  assertEquals((await peer.readReplies(2)).map(({ seq }) => seq), [16, 17]);
});

tlsTest("a call before a broken frame is answered, and the frame is", {}, async (world) => {
  await world.peer.sendBytes(concat(message({ cmd: "HOLD" }), unhex("20 21 90 0d")));
  await world.lookedAt(1);
  world.held.finishAll();
  assertEquals((await world.peer.readToEnd()).map(({ res, err }) => err ?? res), [null, "BAD_FRAME"]);
});

tlsTest("a call before a half-close is answered", {}, async (world) => {
  await world.peer.send({ cmd: "HOLD" });
  await world.peer.halfClose();
  await world.lookedAt(1);
  world.held.finishAll();
  assertEquals(await world.peer.readToEnd(), [{ res: null }]);
});

tlsTest("a library's calls beyond what the server takes are answered", { maxInFlight: 16 }, async (world) => {
  const { clock, held } = world;
  const { port } = world.server;
  await using client = await connect({ port, clock, tls: { ca: world.ca }, maxInFlight: 40, timeoutMs: 60_000 });
  const calls = Promise.all(Array.from({ length: 40 }, (_, id) => client.reply("HOLD", { id })));
  for (const running of [16, 16, 8]) {
    await world.lookedAt(running);
    held.finishAll();
    await settle();
  }
  assertEquals((await calls).map(({ res }) => res), Array.from({ length: 40 }, (_, id) => id));
});
