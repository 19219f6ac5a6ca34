/** A transport whose first bytes are looked at before they are read. */

import { assertEquals, assertNotEquals, assertThrows } from "@std/assert";
import { PeekedTransport } from "../../transport/peeked.ts";
import { latin1, ScriptedTransport, webSocketFrames } from "../support/web_socket.ts";
import { unhex } from "../support/wire.ts";

Deno.test("what was looked at is read first, also what comes while nobody looks any more", async () => {
  const gate = Promise.withResolvers<void>();
  const below = new ScriptedTransport([latin1("abc"), latin1("def")]);
  const transport = new PeekedTransport(below);
  assertEquals(await transport.more(), true);
  assertEquals(transport.bytes, latin1("abc"));
  const read = below.read.bind(below);
  below.read = (into) => gate.promise.then(() => read(into));
  void transport.more();
  transport.skip(1);
  const space = new Uint8Array(1);
  assertEquals([await transport.read(space), space[0]], [1, 0x62]);
  gate.resolve();
  const rest = new Uint8Array(64);
  const parts: number[] = [];
  for (let bytes; (bytes = await transport.read(rest)) !== null;) parts.push(...rest.subarray(0, bytes));
  assertEquals(Uint8Array.from(parts), latin1("cdef"));
  assertNotEquals(parts.length, 0);
  assertThrows(() => webSocketFrames(unhex("82 05 48")), Error, "cut off");
});
