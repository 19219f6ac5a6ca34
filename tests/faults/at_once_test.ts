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

/** A schema that takes two milliseconds of everybody's time. */
function slowSchema() {
  const counts = { done: 0 };
  const schema: StandardSchema<string> = {
    "~standard": {
      version: 1,
      vendor: "slow",
      validate(value) {
        for (let times = 0; times < 4; times++) work();
        counts.done++;
        return { value: value as string };
      },
    },
  };
  return { counts, schema };
}

overEach(`at once - ${MESSAGES} messages that take their schema long leave the others served`, async (transport) => {
  const { counts, schema } = slowSchema();
  const CHECKED = command({ schema: schema as unknown as StandardSchema<object>, handler: () => null });
  await using server = await withServer({ commands: { CHECKED } }, transport);
  const [flooder, good] = [await server.connect(), await server.connect()];
  assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
  const message = request({ cmd: "CHECKED", text: "x".repeat(500) });
  await flooder.sendBytes(concat(...new Array<Uint8Array>(MESSAGES).fill(message)));
  await until("it has begun", () => counts.done > 0);
  assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
  assert(counts.done < MESSAGES / 2, `${counts.done} of ${MESSAGES} went before`);
  assertEquals((await flooder.readReplies(MESSAGES)).length, MESSAGES);
});

overEach(`at once - ${MESSAGES} items that take their schema long leave the others served`, async (transport) => {
  const { counts, schema } = slowSchema();
  const ITEMS = command({
    items: schema,
    async handler(_params: object, { items }) {
      for await (const _ of items);
    },
  });
  await using server = await withServer({ commands: { ITEMS } }, transport);
  const [flooder, good] = [await server.connect(), await server.connect()];
  assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
  const item = request({ cmd: 0, seq: 1, item: "x" });
  await flooder.sendBytes(concat(request({ cmd: "ITEMS", seq: 1, $items: true }), item));
  for (let granted = 0; granted < MESSAGES;) granted += (await flooder.readReply()).credit as number;
  await until("the first is taken", () => counts.done > 0);
  await flooder.sendBytes(concat(...new Array<Uint8Array>(MESSAGES).fill(item)));
  await until("it has begun", () => counts.done > 1);
  assertEquals(await good.ask({ cmd: 1 }), { res: "PONG" });
  assert(counts.done < MESSAGES / 2, `${counts.done} of ${MESSAGES} went before`);
  await until("all are taken", () => counts.done === MESSAGES + 1);
});
