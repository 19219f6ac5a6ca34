/**
 * Peers that are dead and do not say so: one that reads nothing, one whose network drops everything, one whose process is
 * stopped. Each has said when it would be dead, has a stream or a call open, and is ended in its time: its handlers are
 * told, its places are free, and its neighbour is served. No FIN and no RST comes of any of them.
 */

import { assertEquals } from "@std/assert";
import { command } from "../../handlers/command.ts";
import type { ServeOptions } from "../../server.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { overEach, TCP, TLS, type Transport } from "../support/transports.ts";
import { connectPeer, settle, startProxy } from "../support/peers.ts";
import { Held, type TestServer, withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const ALIVE_MS = 2_000;
const ALIVE = { cmd: 0, alive: ALIVE_MS };

/** A server looks twice a second. */
const LATE_MS = 1_000;

/** A server with two commands that last: a call that nobody answers, and a stream of large items. */
class Scene implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly held = new Held();
  /** Why streams were told to end. */
  readonly endings: string[] = [];
  readonly #stream = command({
    handler: (_: object, { signal }): AsyncIterable<string> => {
      signal.addEventListener("abort", () => this.endings.push(signal.reason.code));
      return (async function* () {
        while (true) yield "x".repeat(50_000);
      })();
    },
  });

  server!: TestServer;

  static async set(options: ServeOptions, transport: Transport): Promise<Scene> {
    const scene = new Scene();
    const commands = { HOLD: scene.held.command, STREAM: scene.#stream };
    scene.server = await withServer({ clock: scene.clock, commands, ...options }, transport);
    return scene;
  }

  /** Why the held call was told to end, if it was. */
  get ending(): string | undefined {
    const { signal } = this.held.calls[0].context;
    return signal.aborted ? signal.reason.code : undefined;
  }

  /** What is left, as a neighbour is told: connections, its own included, and handlers. */
  async left(): Promise<[connections: number, inFlight: number]> {
    const neighbour = await this.server.connect();
    const { res } = await neighbour.ask({ cmd: "STATS" }) as {
      res: { connections: { open: number }; inFlight: number };
    };
    neighbour.close();
    return [res.connections.open, res.inFlight];
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.held.finishAll();
    return this.server[Symbol.asyncDispose]();
  }
}

overEach("dead peers - one that reads nothing of a stream is ended after writeTimeoutMs", async (transport) => {
  await using scene = await Scene.set({ writeTimeoutMs: 10_000 }, transport);
  const { clock, endings } = scene;
  const peer = await connectPeer(scene.server.address);
  await peer.send({ cmd: 0, alive: 3_600_000 }, { cmd: "STREAM", seq: 1 });
  let sentBytes = -1;
  for (let stable = 0; stable < 20; await settle(2)) { // until the system's buffers take no more
    const { sent } = scene.server.server.statistics().bytes;
    stable = sent === sentBytes && sent > 0 ? stable + 1 : 0;
    sentBytes = sent;
  }
  await clock.advance(10_000);
  assertEquals(endings, []);
  await clock.advance(LATE_MS);
  assertEquals(endings, ["CONNECTION_LOST"]);
  await settle();
  assertEquals(await scene.left(), [1, 0]);
  peer.close();
});

overEach(
  "dead peers - one that vanished with a quiet stream open is ended after 1.5 of its intervals; if it comes back, it is told",
  async (transport) => {
    await using scene = await Scene.set({}, transport);
    const { clock, held } = scene;
    await using proxy = await startProxy(scene.server.address);
    const peer = await connectPeer(proxy.through);
    await peer.send(ALIVE, { cmd: "HOLD", seq: 1 }, { cmd: "TICK", seq: 2, interval: 3_600 });
    assertEquals(await peer.readReply(), { seq: 2, res: 1, more: true });
    proxy.freeze();
    await peer.send({ cmd: 1, seq: 3 }); // it does not know
    await clock.advance(1.5 * ALIVE_MS);
    assertEquals(scene.ending, undefined);
    await clock.advance(LATE_MS);
    assertEquals(scene.ending, "CONNECTION_LOST");
    held.finishAll();
    await settle();
    assertEquals(await scene.left(), [1, 0]);
    proxy.resume();
    assertEquals(await peer.readToBreak(), []);
    peer.close();
  },
);

overEach(
  "dead peers - one whose process is stopped is ended after 1.5 of its intervals; if it goes on, it is told",
  async (transport) => {
    await using scene = await Scene.set({}, transport);
    const { clock, held } = scene;
    const program = new URL("stopped_client.ts", import.meta.url).pathname;
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", program, JSON.stringify(scene.server.address), String(ALIVE_MS)],
      stdout: "piped",
    }).spawn();
    const stdout = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    try {
      assertEquals(JSON.parse((await stdout.read()).value ?? "") as Message, { seq: 2, res: "PONG" });
      child.kill("SIGSTOP");
      await settle(); // what it has sent is read
      await clock.advance(1.5 * ALIVE_MS);
      assertEquals(scene.ending, undefined);
      await clock.advance(LATE_MS + 1_000); // a PING that was under way may have been read late
      assertEquals(scene.ending, "CONNECTION_LOST");
      held.finishAll();
      await settle();
      assertEquals(await scene.left(), [1, 0]);
      child.kill("SIGCONT");
      assertEquals(JSON.parse((await stdout.read()).value ?? ""), []);
      assertEquals((await child.status).code, 0);
    } finally {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await child.status;
      await stdout.cancel();
    }
  },
  Deno.build.os === "windows" ? [] : [TCP, TLS],
);
