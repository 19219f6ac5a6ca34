/** `cli/frame_tap.ts`: each frame is shown whole and in its turn, and nothing changes on its way. */

import { assertEquals, assertRejects } from "@std/assert";
import { tapFrames } from "../../cli/frame_tap.ts";
import { fromStreams } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";

const PING = Uint8Array.fromHex("202681a3636d64010a");
const PONG = Uint8Array.fromHex("202a81a3726573a4504f4e470a");

/** A tapped end of a connection, the other end, and what was shown. */
function tapped() {
  const sent = new TransformStream<Uint8Array, Uint8Array>();
  const received = new TransformStream<Uint8Array, Uint8Array>();
  const here = fromStreams({ readable: received.readable, writable: sent.writable });
  const shown: string[] = [];
  const tap = tapFrames(here, (frame, direction) => Promise.resolve(shown.push(`${direction} ${frame.toHex()}`)));
  return { duplex: streamsOf(tap), there: sent, shown, peer: received.writable.getWriter() };
}

/** All bytes of a stream, in hex. */
async function collect(readable: ReadableStream<Uint8Array>): Promise<string> {
  let hex = "";
  for await (const chunk of readable) hex += chunk.toHex();
  return hex;
}

Deno.test("tapFrames() shows what is sent, one frame after the other", async () => {
  const { duplex, there, shown } = tapped();
  const writer = duplex.writable.getWriter();
  const received = collect(there.readable);
  await writer.write(new Uint8Array([...PING, ...PING]));
  await writer.close();
  assertEquals(await received, PING.toHex() + PING.toHex());
  assertEquals(shown, [`sent ${PING.toHex()}`, `sent ${PING.toHex()}`]);
});

Deno.test("tapFrames() shows what is received in frames, however it is cut", async () => {
  for (let cut = 1; cut < PONG.length; cut++) {
    const { duplex, peer, shown } = tapped();
    const received = collect(duplex.readable);
    await peer.write(PONG.slice(0, cut));
    await peer.write(new Uint8Array([...PONG.slice(cut), ...PONG.slice(0, cut)]));
    await peer.write(PONG.slice(cut));
    await peer.close();
    assertEquals(await received, PONG.toHex() + PONG.toHex());
    assertEquals(shown, [`received ${PONG.toHex()}`, `received ${PONG.toHex()}`], `cut at ${cut}`);
  }
});

Deno.test("tapFrames() shows half a frame when the stream ends, fails or is not wanted any more", async () => {
  const half = PONG.slice(0, 5);
  const ends: ((tap: ReturnType<typeof tapped>, reader: ReadableStreamDefaultReader) => Promise<unknown>)[] = [
    async ({ peer }, reader) => {
      await peer.close();
      assertEquals(await reader.read(), { done: true, value: undefined });
    },
    async ({ peer }, reader) => {
      await peer.abort(new Error("reset"));
      await assertRejects(() => reader.read(), Error, "reset");
    },
    (_tap, reader) => reader.cancel(),
  ];
  for (const end of ends) {
    const tap = tapped();
    const reader = tap.duplex.readable.getReader();
    const written = tap.peer.write(half);
    await reader.read();
    await written;
    assertEquals(tap.shown, []);
    await end(tap, reader);
    assertEquals(tap.shown, [`received ${half.toHex()}`]);
  }
});

Deno.test("tapFrames() shows bytes that are no frame as they come", async () => {
  const { duplex, peer, shown } = tapped();
  const received = collect(duplex.readable);
  const garbage = Uint8Array.fromHex("ffffffff");
  await peer.write(new Uint8Array([...PONG, ...garbage]));
  await peer.write(PONG);
  await peer.close();
  assertEquals(await received, PONG.toHex() + garbage.toHex() + PONG.toHex());
  assertEquals(shown, [PONG, garbage, PONG].map((bytes) => `received ${bytes.toHex()}`));
});
