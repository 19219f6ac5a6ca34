/** `cli/prompt_connection.ts` and `cli/conversation.ts`: calls one after the other, over connections that come and go. */

import { assertEquals, assertRejects } from "@std/assert";
import { type Outgoing, outgoing } from "../../cli/call.ts";
import { Session } from "../../cli/prompt_connection.ts";
import { RpcError } from "../../errors.ts";
import { memoryPair } from "../../transport/memory.ts";
import type { ByteStreams, Transport } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";
import { turn } from "../support/fake_clock.ts";
import { frame } from "./scripts.ts";

const PING = outgoing({ name: "PING", params: {} });
const GREET = outgoing({ name: "GREET", params: {} });
const never = new AbortController().signal;

/** A session, and the other ends of its connections. */
function sessionWithPeers() {
  const peers: { streams: ByteStreams; writer: WritableStreamDefaultWriter<Uint8Array> }[] = [];
  const session = new Session(() => {
    const [here, there] = memoryPair();
    const streams = streamsOf(there);
    peers.push({ streams, writer: streams.writable.getWriter() });
    return Promise.resolve(here);
  });
  return { session, peers };
}

async function ask(session: Session, signal = never, call: Outgoing = PING): Promise<unknown[]> {
  const replies = [];
  for await (const { fields, more } of session.ask(call, signal)) replies.push(more ? { ...fields, more } : fields);
  return replies;
}

Deno.test("a session keeps its connection from call to call, and notices when it ends in between", async () => {
  const { session, peers } = sessionWithPeers();
  for (const round of [1, 2]) {
    const asked = ask(session);
    await turn();
    await peers[0].writer.write(frame({ res: round, more: true }));
    await peers[0].writer.write(frame({ res: round }));
    assertEquals(await asked, [{ res: round, more: true }, { res: round }]);
  }
  await peers[0].writer.close();
  await turn();
  const asked = ask(session);
  await turn();
  await peers[1].writer.write(frame({ res: 3 }));
  assertEquals([await asked, peers.length], [[{ res: 3 }], 2]);
  session.close();
});

Deno.test("what stands behind the last reply is nobody's: the next call has a connection of its own", async () => {
  for (const late of [false, true]) {
    const { session, peers } = sessionWithPeers();
    const asked = ask(session);
    await turn();
    const [reply, stray] = [frame({ res: 1 }), frame({ res: "stray" })];
    await peers[0].writer.write(late ? reply : new Uint8Array([...reply, ...stray]));
    assertEquals(await asked, [{ res: 1 }]);
    if (late) await peers[0].writer.write(stray);
    await turn();
    const next = ask(session);
    await turn();
    await peers[1].writer.write(frame({ res: 2 }));
    assertEquals(await next, [{ res: 2 }]);
    session.close();
  }
});

Deno.test("a reply that comes before the request is the answer to it: a server without room says so at once", async () => {
  const { session, peers } = sessionWithPeers();
  await session.connect(never);
  await peers[0].writer.write(frame({ err: "OVERLOADED" }));
  await turn();
  assertEquals(await ask(session), [{ err: "OVERLOADED" }]);
  session.close();
});

Deno.test("a call that is left, or ended by its signal, takes its connection along", async () => {
  const { session, peers } = sessionWithPeers();
  const left = session.ask(PING, never);
  const first = left.next();
  await turn();
  await peers[0].writer.write(frame({ res: 1, more: true }));
  assertEquals((await first).value?.more, true);
  await left.return();
  const stop = new AbortController();
  const stopped = assertRejects(() => ask(session, stop.signal), RpcError, "CONNECTION_LOST");
  await turn();
  stop.abort();
  await stopped;
  const asked = ask(session);
  await turn();
  await peers[2].writer.write(frame({ res: 2 }));
  assertEquals(await asked, [{ res: 2 }]);
  session.close();
});

Deno.test("a dial that hangs is ended by the signal of the call", async () => {
  const session = new Session((signal) => {
    const { promise, reject } = Promise.withResolvers<Transport>();
    signal.addEventListener("abort", () => reject(signal.reason));
    return promise;
  });
  const stop = new AbortController();
  const stopped = assertRejects(() => ask(session, stop.signal), DOMException, "aborted");
  await turn();
  assertEquals(session.send(PING.request), false);
  stop.abort();
  await stopped;
});

Deno.test("settings go once over each connection, with the first call that has some", async () => {
  const { session, peers } = sessionWithPeers();
  const received: string[] = [];
  for (const [call, round] of [[PING, 1], [GREET, 2], [GREET, 3]] as const) {
    const asked = ask(session, never, call);
    await turn();
    const reader = peers[0].streams.readable.getReader();
    received.push((await reader.read()).value?.toHex() ?? "");
    reader.releaseLock();
    await peers[0].writer.write(frame({ seq: 1, res: round }));
    assertEquals(await asked, [{ res: round }]);
  }
  const request = GREET.request.toHex();
  assertEquals(received, [PING.request.toHex(), `${GREET.settings?.toHex()}${request}`, request]);
  session.close();
});

Deno.test("a server that knows no settings refuses them, and its answer is the reply that comes next", async () => {
  const refusal = frame({ err: "CMD_NOT_FOUND" });
  const { session, peers } = sessionWithPeers();
  const first = ask(session, never, GREET);
  await turn();
  await peers[0].writer.write(new Uint8Array([...refusal, ...frame({ res: 1 })]));
  assertEquals(await first, [{ res: 1 }]);
  const second = ask(session, never, GREET);
  await turn();
  await peers[0].writer.write(refusal);
  assertEquals(await second, [{ err: "CMD_NOT_FOUND" }], "the settings went with the first call");
  session.close();
});

Deno.test("where a refusal of the settings is all that comes, it is the reply", async () => {
  for (const end of ["close", "abort"] as const) {
    const { session, peers } = sessionWithPeers();
    const asked = ask(session, never, GREET);
    await turn();
    await peers[0].writer.write(frame({ err: "CMD_NOT_FOUND" }));
    await turn();
    await peers[0].writer[end]();
    assertEquals(await asked, [{ err: "CMD_NOT_FOUND" }]);
    session.close();
  }
});

Deno.test("an error without seq that is no refusal of the settings is the reply", async () => {
  const { session, peers } = sessionWithPeers();
  const asked = ask(session, never, GREET);
  await turn();
  await peers[0].writer.write(frame({ err: "INVALID_MESSAGE" }));
  assertEquals(await asked, [{ err: "INVALID_MESSAGE" }]);
  session.close();
});
