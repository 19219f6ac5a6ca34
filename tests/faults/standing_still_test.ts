/**
 * A process that stands still for longer than its limits, by a computation or by a signal: what has come meanwhile is read
 * before anybody is taken for silent. The clock is the machine's, since it is the process that stops, and not its clock alone.
 */

import { assertEquals } from "@std/assert";
import { overEach, TCP, TLS, type Transport } from "../support/transports.ts";
import { connectPeer } from "../support/peers.ts";
import { concat, request } from "../support/wire.ts";
import { ChildServer } from "./child.ts";

/** The limits of a server here, and how long it stands still. */
const LIMIT_MS = 1_500;
const STILL_MS = 2_000;

/** By then a server has looked at its connections: what it counts has begun, and is not over. */
const BEGUN_MS = LIMIT_MS * 0.8;

const LIMITS = { idleTimeoutMs: LIMIT_MS, frameTimeoutMs: LIMIT_MS, writeTimeoutMs: LIMIT_MS };

const PONG = { res: "PONG" };

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Ways for a server to stand still, while something is done to it. */
const STILL: [how: string, stand: (server: ChildServer, meanwhile: () => Promise<void>) => Promise<void>][] = [
  ["is stopped by a signal", async (server, meanwhile) => {
    server.kill("SIGSTOP");
    await meanwhile();
    await sleep(STILL_MS);
    server.kill("SIGCONT");
  }],
  ["computes", async (server, meanwhile) => {
    await using peer = await connectPeer(server.address);
    await peer.send({ cmd: "BUSY", ms: STILL_MS });
    await sleep(50); // a computation that has begun can tell nobody
    await meanwhile();
    assertEquals(await peer.readReply(), { res: null });
  }],
];

/**
 * Three connections to a server that stands still: one silent, one in the middle of a frame, one that has promised signs of
 * life. All go on meanwhile.
 */
async function check(transport: Transport, stand: typeof STILL[number][1]): Promise<void> {
  await using server = await ChildServer.start({ served: LIMITS, transport });
  await using silent = await connectPeer(server.address);
  await using midFrame = await connectPeer(server.address);
  await using alive = await connectPeer(server.address);
  const ping = request({ cmd: 1 });
  await silent.sendBytes(ping);
  await midFrame.sendBytes(concat(ping, ping.slice(0, 3)));
  await alive.send({ cmd: 0, alive: LIMIT_MS / 1.5 }, { cmd: 2, sleep: 60, seq: 1 }, { cmd: 1 });
  for (const peer of [silent, midFrame, alive]) assertEquals(await peer.readReply(), PONG);
  await sleep(BEGUN_MS);
  await stand(server, async () => {
    await silent.sendBytes(ping);
    await midFrame.sendBytes(ping.slice(3));
    await alive.sendBytes(ping);
  });
  for (const peer of [silent, midFrame, alive]) assertEquals(await peer.readReply(), PONG);
}

overEach(
  "standing still - a server that is stopped, or computes, reads what came meanwhile before it looks at its limits",
  async (transport) => {
    await Promise.all(STILL.map(([, stand]) => check(transport, stand)));
  },
  Deno.build.os === "windows" ? [] : [TCP, TLS],
);
