/** A WebSocket that the runtime's HTTP server opens, as a transport. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { systemClock } from "../../transport/clock.ts";
import { Origins } from "../../transport/origins.ts";
import type { Transport } from "../../transport/transport.ts";
import { upgrade } from "../../transport/upgraded_web_socket.ts";
import { closeFrame, OPCODES, webSocketFrame } from "../support/web_socket.ts";
import { MASK, Raw, upgradeOf } from "../support/web_socket_service.ts";
import { concat } from "../support/wire.ts";

Deno.test("an upgraded WebSocket that is closed before it is open is closed when it opens", async () => {
  const options = {
    origins: new Origins([]),
    maxUnreadBytes: 1,
    refuses: () => false,
    openTimeoutMs: 60_000,
    clock: systemClock,
  };
  await using http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request, info) => {
    const { response, transport } = upgrade(request, info, options);
    transport?.close();
    return response;
  });
  const page = new WebSocket(`ws://127.0.0.1:${http.addr.port}/`);
  assertEquals(await new Promise<number>((resolve) => page.onclose = ({ code }) => resolve(code)), 1001);
});

Deno.test("many small messages that wait are kept together, and take no longer to read than one", async () => {
  const MESSAGES = 800 * 256;
  const { promise: upgraded, resolve } = Promise.withResolvers<Transport>();
  const options = {
    origins: new Origins([]),
    maxUnreadBytes: MESSAGES,
    refuses: () => false,
    openTimeoutMs: 60_000,
    clock: systemClock,
  };
  await using http = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request, info) => {
    const { response, transport } = upgrade(request, info, options);
    resolve(transport as Transport);
    return response;
  });
  using raw = await Raw.connect(http.addr.port);
  await raw.send(upgradeOf());
  await raw.readHead();
  const frames = Array.from({ length: 256 }, (_, byte) => {
    return webSocketFrame(OPCODES.binary, Uint8Array.of(byte), { mask: MASK });
  });
  const all = concat(...frames);
  for (let sent = 0; sent < MESSAGES; sent += frames.length) await raw.send(all);
  await raw.send(closeFrame(1000, { mask: MASK }));
  const transport = await upgraded;
  await assertRejects(() => transport.broken as Promise<void>); // the end comes behind all messages
  const space = new Uint8Array(64 * 1024);
  const began = performance.now();
  for (let at = 0; at < MESSAGES;) {
    const bytes = await transport.read(space) as number;
    for (const byte of space.subarray(0, bytes)) assertEquals(byte, at++ & 255);
  }
  assert(performance.now() - began < 5_000); // each for itself, they took 40 s, and held up everybody else
  await assertRejects(() => transport.read(space), Error, "closed the WebSocket with 1000");
});
