import { assertEquals } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { ItemBudget } from "../../session/item_queue.ts";
import { TimerWheel } from "../../session/deadlines.ts";
import { CallCounts, CallQueue, signals } from "../../client/calls.ts";
import { type ClientCall, type ClientCallOwner, UnaryCall } from "../../client/client_call.ts";
import { callEncoder, encodeCall } from "../../client/sender.ts";
import { ItemOutput } from "../../client/outgoing_items.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { newSeed, Random } from "../support/random.ts";

const clock = new FakeClock();
const owner: ClientCallOwner = {
  settings: {
    clock,
    sequenced: true,
    maxInFlight: 1,
    maxPayloadBytes: 1_000,
    aliveMs: 0,
    policy: { idempotent: false, waitForReady: true, timeoutMs: Infinity },
  },
  deadlines: new TimerWheel(clock),
  signals,
  unanswered: 0,
  counts: new CallCounts(),
  itemBudget: new ItemBudget(1_000),
  cmdOf: (name) => name,
  encoder: callEncoder,
  obstacle: undefined,
  begin() {},
  onAnswered() {},
  onRejected() {},
  giveUp: (call, outcome) => call.settle(outcome),
};

const CONNECTION = {
  peer: "the server",
  server: "the server",
  items: new ItemOutput({ queuedBytes: 0 }, () => {}),
  grant() {},
  abandon() {},
  missAnswer() {},
};

function newCall(settled: (call: ClientCall) => void = () => {}): UnaryCall {
  const call = new UnaryCall(owner, "A", encodeCall(owner, "A", {}, {}), {});
  call.resolve = call.reject = () => settled(call);
  return call;
}

Deno.test("ClientCall - it is settled once, whatever comes", () => {
  let settled = 0;
  const call = newCall(() => settled++);
  call.settle({ res: 1 });
  call.settle({ res: 2 });
  call.end(new RpcError("TIMEOUT"));
  assertEquals(settled, 1);
});

Deno.test("ClientCall - the time that is left is whole milliseconds, never none", async () => {
  const call = new UnaryCall(owner, "A", encodeCall(owner, "A", {}, { timeoutMs: 10.5 }), { timeoutMs: 10.5 });
  call.reject = () => {};
  call.begin();
  call.startTimeout(clock.now());
  call.send(CONNECTION, 0, clock.now());
  assertEquals(call.ttl, 11);
  await clock.advance(10.4);
  call.send(CONNECTION, 1, clock.now());
  assertEquals(call.ttl, 1);
  await clock.advance(5);
  assertEquals(call.isSettled, true);
});

Deno.test("ClientCall - the time that is left is never more than that of the call, whatever sums are rounded to", () => {
  for (let index = 0; index < 1_000; index++) {
    const nowMs = 12_345 + index / 7;
    const call = new UnaryCall(owner, "A", encodeCall(owner, "A", {}, { timeoutMs: 5_000 }), { timeoutMs: 5_000 });
    call.resolve = () => {};
    call.startTimeout(nowMs);
    call.send(CONNECTION, 0, nowMs);
    assertEquals(call.ttl, 5_000, `at ${nowMs}`);
    call.settle({});
  }
});

Deno.test("CallQueue - what is settled is passed over, and does not stay", () => {
  const queue = new CallQueue<ClientCall>(clock, () => {});
  const calls = Array.from({ length: 5 }, () => newCall());
  for (const call of calls) queue.push(call);
  for (const index of [0, 3, 4]) {
    queue.forget(calls[index]);
    calls[index].end(new RpcError("CANCELLED"));
  }
  assertEquals(queue.empty, false);
  assertEquals([queue.shift(), queue.shift(), queue.shift()], [calls[1], calls[2], undefined]);
  assertEquals(queue.empty, true);
});

Deno.test("CallQueue - any order of events leaves what was pushed and neither taken nor settled", () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const queue = new CallQueue<ClientCall>(clock, () => {});
  let waiting: UnaryCall[] = [];
  for (let step = 0; step < 20_000; step++) {
    const choice = random.below(100);
    if (choice < 45) {
      const call = newCall();
      queue.push(call);
      waiting.push(call);
    } else if (choice < 70) {
      const call = queue.shift();
      assertEquals(call === waiting.shift(), true, `step ${step}`);
    } else if (choice < 99) {
      if (waiting.length === 0) continue;
      const [call] = waiting.splice(random.below(waiting.length), 1);
      queue.forget(call);
      call.end(new RpcError("CANCELLED"));
    } else if (random.chance(0.1)) {
      assertEquals(queue.all().length, waiting.length, `step ${step}`);
      for (const call of queue.all()) {
        queue.forget(call);
        call.end(new RpcError("CLOSED"));
      }
      waiting = [];
    }
    assertEquals(queue.empty, waiting.length === 0, `step ${step}`);
  }
});
