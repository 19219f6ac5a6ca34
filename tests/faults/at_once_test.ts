/**
 * What a client makes a server do at once, beside others: thousands of calls that end together. The others are served in
 * between, and not behind all of it.
 */

import { assert, assertEquals } from "@std/assert";
import { command } from "../../mod.ts";
import { withServer } from "../support/test_server.ts";
import { concat, type Message, request } from "../support/wire.ts";
import { overEach } from "../support/transports.ts";
import { until, untilAtRest } from "./beside.ts";

/** Takes half a millisecond of everybody's time. */
function work(): void {
  for (const endMs = performance.now() + 0.5; performance.now() < endMs;);
}

const CALLS = 400;

/** A command whose handlers wait until they are aborted, which takes its time. */
function abortedSlowly() {
  const counts = { running: 0, aborted: 0 };
  const WAIT = command({
    handler: (_params: Message, { signal }) =>
      new Promise<void>((_resolve, reject) => {
        counts.running++;
        signal.addEventListener("abort", () => {
          work();
          counts.aborted++;
          reject(signal.reason);
        });
      }),
  });
  return { counts, WAIT };
}

for (const how of ["whose client leaves", "whose time is over"]) {
  overEach(`at once - ${CALLS} calls ${how} leave the others served`, async (transport) => {
    const { counts, WAIT } = abortedSlowly();
    await using server = await withServer({ commands: { WAIT } }, transport);
    const [many, good] = [await server.connect(), await server.connect()];
    const ttl = how === "whose time is over" ? 1_000 : undefined;
    await many.send({ cmd: 0, alive: 60_000 }); // if it leaves, its calls are over
    await many.sendBytes(concat(...Array.from({ length: CALLS }, (_, seq) => request({ cmd: "WAIT", seq, ttl }))));
    await until("all run", () => counts.running === CALLS);
    if (ttl === undefined) many.close();
    await until("it has begun", () => counts.aborted > 0);
    assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
    assert(counts.aborted < CALLS / 2, `${counts.aborted} of ${CALLS} were aborted before`);
    await until("all are aborted", () => counts.aborted === CALLS);
    many.close();
    await good[Symbol.asyncDispose]();
    await untilAtRest(server.address);
  });
}
