/** A client gives up a server that is too slow with a frame, or that reads nothing: the same watch as at a server. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import type { Transport } from "../../transport/transport.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

async function failure(call: Promise<unknown>): Promise<[code: string, text: unknown]> {
  const error = await assertRejects(() => call, RpcError);
  return [error.code, error.toJSON().msg];
}

Deno.test("a frame that begins and does not end ends the connection after frameTimeoutMs, and the next call dials", async () => {
  const clock = new FakeClock();
  const network = memoryNetwork();
  await using client = await connect({ dial: network.dial, clock, timeoutMs: Infinity, aliveMs: 0 });
  await using server = await ScriptedServer.accept(network);
  const call = failure(client.call("PING"));
  await server.request();
  await server.send(Uint8Array.of(0x20, 0x26, 0x81)); // three of nine bytes
  await clock.advance(DEFAULT_LIMITS.frameTimeoutMs - 1_000);
  assertEquals(client.state, "open");
  await clock.advance(3_000);
  const [code, text] = await call;
  assertEquals(code, "CONNECTION_LOST");
  assertEquals(
    String(text).replace(/in [\d.]+ s/, "in … s"),
    "the connection to memory is lost: a frame arrives too slowly: 0 bytes in … s; the minimum is 4096 bytes per second; " +
      "3 of its 9 bytes have arrived",
  );
  const next = client.call("PING");
  await using other = await ScriptedServer.accept(network);
  assertEquals((await other.request()).cmd, 1);
  await other.reply({ seq: 0, res: "PONG" });
  assertEquals(await next, "PONG");
});

Deno.test("a write that makes no progress ends the connection after writeTimeoutMs", async () => {
  const clock = new FakeClock();
  const closed = Promise.withResolvers<never>();
  closed.promise.catch(() => {});
  let writes = 0;
  const deaf: Transport = {
    peer: "nobody",
    read: () => closed.promise,
    write: ({ length }) => writes++ === 0 ? Promise.resolve(length) : closed.promise, // it takes the settings
    closeWrite: () => closed.promise,
    close: () => closed.reject(new Error("closed")),
  };
  await using client = await connect({ dial: () => Promise.resolve(deaf), clock, timeoutMs: Infinity, aliveMs: 0 });
  const call = failure(client.call("PING"));
  await clock.advance(DEFAULT_LIMITS.writeTimeoutMs - 1_000);
  assertEquals(client.state, "open");
  await clock.advance(3_000);
  assertEquals(await call, ["CONNECTION_LOST", "the connection to nobody is lost: the peer does not read"]);
});

Deno.test("a client with nothing open runs no timer: its connection is not looked at", async () => {
  const clock = new FakeClock();
  const network = memoryNetwork();
  await using client = await connect({ dial: network.dial, clock, timeoutMs: Infinity });
  await using server = await ScriptedServer.accept(network);
  const call = client.call("PING");
  await server.request();
  await server.reply({ seq: 0, res: "PONG" });
  assertEquals(await call, "PONG");
  await clock.advance(1_000);
  assertEquals(clock.timers, 0);
});
