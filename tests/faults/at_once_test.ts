/**
 * What a client makes a server do at once, beside others: thousands of calls that end together, messages whose check takes
 * long. The others are served in between, and not behind all of it.
 */

import { assert, assertEquals } from "@std/assert";
import { command, type StandardSchema } from "../../mod.ts";
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

const MESSAGES = 60;

overEach(`at once - ${MESSAGES} messages that take their schema long leave the others served`, async (transport) => {
  let done = 0;
  const slow: StandardSchema<{ text: string }> = {
    "~standard": {
      version: 1,
      vendor: "slow",
      validate(value) {
        for (let times = 0; times < 4; times++) work();
        done++;
        return { value: value as { text: string } };
      },
    },
  };
  const CHECKED = command({ schema: slow, handler: ({ text }) => text.length });
  await using server = await withServer({ commands: { CHECKED } }, transport);
  const [flooder, good] = [await server.connect(), await server.connect()];
  assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
  const message = request({ cmd: "CHECKED", text: "x".repeat(500) });
  await flooder.sendBytes(concat(...new Array<Uint8Array>(MESSAGES).fill(message)));
  await until("it has begun", () => done > 0);
  assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
  assert(done < MESSAGES / 2, `${done} of ${MESSAGES} went before`);
  assertEquals((await flooder.readReplies(MESSAGES)).length, MESSAGES);
});
