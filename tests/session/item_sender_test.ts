/** `session/item_sender.ts`: items leave one by one, none before it may, and the source is ended. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { CreditWindow, endItems, type ItemReceiver, iteratorOf, sendEach } from "../../session/item_sender.ts";
import { turn } from "../support/fake_clock.ts";

/** A receiver with credit. */
class Receiver implements ItemReceiver {
  isSettled = false;
  readonly sent: unknown[] = [];
  readonly credit: CreditWindow;

  constructor(items: number) {
    this.credit = new CreditWindow(items);
  }

  hold(): Promise<void> | undefined {
    if (this.credit.left === 0) return this.credit.granted();
  }

  sendItem(item: unknown): void {
    this.credit.use();
    this.sent.push(item);
  }

  settle(): void {
    this.isSettled = true;
    this.credit.wake();
  }
}

/** Counts how far it was asked. */
function source(values: unknown[], result?: unknown) {
  const counted = {
    asked: 0,
    isEnded: false,
    *items(): Generator<unknown, unknown, void> {
      try {
        for (const value of values) {
          counted.asked++;
          yield value;
        }
        return result;
      } finally {
        counted.isEnded = true;
      }
    },
    async *asyncItems(): AsyncGenerator<unknown, unknown, void> {
      return yield* counted.items();
    },
  };
  return counted;
}

async function turns(): Promise<void> {
  for (let times = 0; times < 5; times++) await turn();
}

Deno.test("CreditWindow counts what may be sent, and wakes the one that waits", async () => {
  const credit = new CreditWindow(2);
  credit.use();
  credit.use();
  assertEquals(credit.left, 0);
  let woken = 0;
  const waiting = credit.granted().then(() => woken++);
  await turns();
  assertEquals(woken, 0);
  credit.grant(3);
  await waiting;
  assertEquals([credit.left, woken], [3, 1]);
  credit.grant(2 ** 53 - 1); // nobody waits, and a window may be without end
  assert(credit.left > 0);
});

for (const kind of ["items", "asyncItems"] as const) {
  Deno.test(`sendEach() sends ${kind} as credit comes, and asks for none before it may be sent`, async () => {
    const from = source(["a", undefined, "c", "d"], "end");
    const receiver = new Receiver(1);
    const done = sendEach(receiver, iteratorOf(from[kind]()));
    await turns();
    assertEquals([receiver.sent, from.asked], [["a"], 1]);
    receiver.credit.grant(2);
    await turns();
    assertEquals([receiver.sent, from.asked], [["a", null, "c"], 3]);
    receiver.credit.grant(5);
    assertEquals(await done, { done: true, value: "end" });
    assertEquals([receiver.sent, receiver.credit.left, from.isEnded], [["a", null, "c", "d"], 4, true]);
  });

  Deno.test(`sendEach() of ${kind} stops where nothing is wanted any more, without the source's next item`, async () => {
    const from = source(["a", "b"]);
    const receiver = new Receiver(1);
    const items = iteratorOf(from[kind]());
    const done = sendEach(receiver, items);
    await turns();
    receiver.settle();
    assertEquals(await done, undefined);
    assertEquals([receiver.sent, from.asked, from.isEnded], [["a"], 1, false]);
    await endItems(items);
    assertEquals(from.isEnded, true);
  });
}

Deno.test("sendEach() drops an item that comes when nothing is wanted any more", async () => {
  const { promise, resolve } = Promise.withResolvers<void>();
  const receiver = new Receiver(1);
  const done = sendEach(
    receiver,
    (async function* () {
      await promise;
      yield "late";
    })(),
  );
  await turns();
  receiver.settle();
  resolve();
  assertEquals([await done, receiver.sent], [undefined, []]);
});

Deno.test("sendEach() tells an empty stream, and asks nothing of one that is over before it begins", async () => {
  const empty = await sendEach(new Receiver(1), iteratorOf([]));
  assertEquals(empty, { done: true, value: undefined });
  const from = source(["a"]);
  const receiver = new Receiver(1);
  receiver.settle();
  assertEquals(await sendEach(receiver, from.items()), undefined);
  assertEquals(from.asked, 0);
});

Deno.test("sendEach() rejects with what the source throws, and with what sending throws", async () => {
  async function* failing(): AsyncGenerator<string> {
    yield "a";
    throw new RangeError("the file is gone");
  }
  const receiver = new Receiver(5);
  await assertRejects(() => sendEach(receiver, failing()), RangeError, "the file is gone");
  assertEquals(receiver.sent, ["a"]);
  const refusing = new Receiver(5);
  refusing.sendItem = () => {
    throw new TypeError("cannot be sent");
  };
  await assertRejects(() => sendEach(refusing, failing()), TypeError, "cannot be sent");
});

Deno.test("iteratorOf() reads a ReadableStream, and ends it while it waits for its next item", async () => {
  let cancelled = 0;
  const stream = new ReadableStream({
    start: (controller) => controller.enqueue("a"),
    cancel: () => void cancelled++,
  });
  const items = iteratorOf(stream);
  const receiver = new Receiver(5);
  const done = sendEach(receiver, items);
  await turns();
  assertEquals([receiver.sent, cancelled], [["a"], 0]);
  receiver.settle();
  await endItems(items);
  assertEquals([await done, cancelled], [undefined, 1]);
});

Deno.test("endItems() rejects with what a source's end throws, and does without one", async () => {
  await endItems([1, 2][Symbol.iterator]());
  const items = {
    next: () => ({ done: false as const, value: 1 }),
    return(): IteratorResult<unknown, unknown> {
      throw new RangeError("cannot be closed");
    },
  };
  await assertRejects(() => endItems(items), RangeError, "cannot be closed");
});

Deno.test("sendEach - a step that is no object is an error, and no endless row of nulls", async () => {
  for (const step of [7, "text", undefined, null]) {
    const receiver = new Receiver(3);
    const items = { next: () => Promise.resolve(step as unknown as IteratorResult<unknown, unknown>) };
    await assertRejects(() => sendEach(receiver, items), TypeError);
    assertEquals(receiver.sent, []);
  }
});
