/**
 * Thousands of interleavings of what the ends of streams do, and of what happens to them, compared with a model.
 *
 * `--interleavings N` after `--` asks for more than the default; each has a seed of its own, which is printed if it fails.
 */

import { assert, assertEquals } from "@std/assert";
import { ClientConnection } from "../../client/client_connection.ts";
import { OutgoingItems } from "../../client/outgoing_items.ts";
import { RequestEnd } from "../../codec/message.ts";
import { Call } from "../../handlers/call.ts";
import { CallerItems } from "../../handlers/caller_items.ts";
import { Calls } from "../../handlers/calls.ts";
import { ItemWindow } from "../../session/item_queue.ts";
import { newSeed, Random } from "../support/random.ts";
import { replaced } from "../support/replaced.ts";
import { runModel } from "./model.ts";

const given = Deno.args.indexOf("--interleavings");
const INTERLEAVINGS = given < 0 ? 2_000 : Number(Deno.args[given + 1]);

/** What must be among the outcomes, for them to show anything. */
const TO_BE_MET = [
  ...["value", "HANDLER", "CANCELLED", "CONNECTION_LOST", "CLOSED", "TIMEOUT"].flatMap((outcome) =>
    ["up", "down", "both"].map((kind) => `${kind} ${outcome}`)
  ),
  ...["up source", "both source", "down left", "both left", "tracked left", "tracked value"],
];

/** Runs the model many times. Returns what was wrong in the first run that has such a fault, and what was met. */
async function runs(count: number, seed: number, such = /./) {
  const seeds = new Random(seed);
  const met = new Map<string, number>();
  for (let index = 0; index < count; index++) {
    const runSeed = seeds.below(2 ** 32);
    const { faults, outcomes } = await runModel(runSeed);
    for (const outcome of outcomes) met.set(outcome, (met.get(outcome) ?? 0) + 1);
    if (such.test(faults.join())) return { faults: [`run ${index}, seed ${runSeed}`, ...faults], met };
  }
  return { faults: [], met };
}

Deno.test(`model - ${INTERLEAVINGS} interleavings of streams both ways come out as they must`, async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const { faults, met } = await runs(INTERLEAVINGS, seed);
  console.log(Object.fromEntries([...met].sort()));
  assertEquals(faults, []);
  assertEquals(TO_BE_MET.filter((outcome) => !met.has(outcome)), [], "never met");
});

// Canaries -----------------------------------------------------------------------------------------------------------

const canaries: [name: string, breakIt: () => Disposable, noticed: RegExp][] = [
  [
    "a server that takes half a stream for a whole one",
    () =>
      replaced(CallerItems.prototype, "cut", () =>
        function (this: CallerItems) {
          this.end();
        }),
    /half a stream was taken for a whole one/,
  ],
  [
    "a server that grants before its handler takes",
    () =>
      replaced(Calls.prototype, "take", (take) =>
        function (this: Calls, request, arrival) {
          take.call(this, request, arrival);
          const call = this.bySeq.get(request.seq as number);
          if (call !== undefined && request.hasItems) this.grant(call, 5);
        }),
    /granted unasked/,
  ],
  [
    "a server that sends more than its caller takes",
    () =>
      replaced(Call.prototype, "grant", (grant) =>
        function (this: Call, items) {
          grant.call(this, items + 1);
        }),
    /where the caller takes/,
  ],
  [
    "a server that loses an item",
    () => {
      let items = 0;
      return replaced(CallerItems.prototype, "add", (add) =>
        function (this: CallerItems, item, weightBytes) {
          return ++items % 10 === 0 ? undefined : add.call(this, item, weightBytes);
        });
    },
    /got other items than it was sent|half a stream/,
  ],
  [
    "a server that keeps the memory of what nobody took",
    () => replaced(ItemWindow.prototype, "close", () => () => {}),
    /at rest, bytes is|at rest, streams is/,
  ],
  [
    "a client that ignores credit",
    () => replaced(OutgoingItems.prototype, "hold", () => () => undefined),
    /were granted beside the first/,
  ],
  [
    "a client that leaves its source open",
    () => replaced(OutgoingItems.prototype, "end", () => () => {}),
    /its source was ended 0 and 0 times/,
  ],
  [
    "a client that says the end in place of a cancel",
    () =>
      replaced(ClientConnection.prototype, "abandon", (abandon) =>
        function (this: ClientConnection, call) {
          if (call.items !== undefined) this.items.send(new RequestEnd(call.id));
          abandon.call(this, call);
        }),
    /half a stream was taken for a whole one|behind the end/,
  ],
];

for (const [name, breakIt, noticed] of canaries) {
  Deno.test(`model - canary: ${name} is caught`, async () => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    using _ = breakIt();
    const { faults } = await runs(2_000, seed, noticed);
    assert(faults.length > 0, "not caught");
  });
}
