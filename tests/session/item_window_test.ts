/** `ItemWindow`: how many items may come, by their size and by what other streams hold. */

import { assertEquals } from "@std/assert";
import { ItemBudget, ItemWindow } from "../../session/item_queue.ts";

const KIB = 1024;

/** A window that has had its first item, which its reader has taken. */
function windowWith(budget: ItemBudget, itemBytes: number, maxItems = 256): ItemWindow {
  const window = new ItemWindow(budget, maxItems, 1024 * KIB);
  window.open(1);
  window.add(itemBytes);
  window.take(itemBytes);
  return window;
}

const use = ({ usedBytes, unreadBytes, streams }: ItemBudget) => ({ usedBytes, unreadBytes, streams });
const NOTHING = { usedBytes: 0, unreadBytes: 0, streams: 0 };

Deno.test("ItemWindow takes nothing from the budget, and no items, before it is open", () => {
  const budget = new ItemBudget(4_096 * KIB);
  const window = new ItemWindow(budget, 64, 1024 * KIB);
  assertEquals([window.size, window.add(1), window.grant()], [4, false, 0]);
  window.end();
  window.close();
  assertEquals(use(budget), NOTHING);
});

Deno.test("ItemWindow takes the items that were granted, and no more", () => {
  const budget = new ItemBudget(1_000);
  const window = new ItemWindow(budget, 4, 100);
  window.open(2);
  assertEquals([window.add(10), window.add(10), window.add(10)], [true, true, false]);
  window.take(10);
  assertEquals(window.add(10), false, "taking alone grants nothing");
  assertEquals(window.grant(), 3);
  assertEquals([1, 2, 3, 4].map(() => window.add(10)), [true, true, true, false]);
  assertEquals(use(budget), { usedBytes: 30, unreadBytes: 40, streams: 1 }, "one is free");
});

Deno.test("ItemWindow grants half a window at a time, and one item whenever none is outstanding", () => {
  const window = windowWith(new ItemBudget(1_000_000), 1, 10);
  assertEquals(window.grant(), 10);
  const grants: number[] = [];
  for (let item = 0; item < 20; item++) {
    window.add(1);
    window.take(1);
    grants.push(window.grant());
  }
  assertEquals(grants, [0, 0, 0, 0, 5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 5, 0, 0, 0, 0, 5]);

  const single = windowWith(new ItemBudget(10), 100);
  assertEquals([single.size, single.grant(), single.grant()], [1, 1, 0]);
  single.add(100);
  assertEquals(single.grant(), 0, "one is unread");
  single.take(100);
  assertEquals(single.grant(), 1);
});

Deno.test("ItemWindow has as many items as their size leaves room for, at least one and at most its own limit", () => {
  const cases: [itemBytes: number, items: number][] = [
    [1, 256],
    [16 * KIB, 256],
    [64 * KIB, 64],
    [1024 * KIB, 4],
    [1025 * KIB, 3],
    [5_000 * KIB, 1],
  ];
  for (const [itemBytes, items] of cases) {
    const window = windowWith(new ItemBudget(4_096 * KIB), itemBytes);
    assertEquals([window.size, window.grant()], [items, items], `${itemBytes} bytes`);
  }
});

Deno.test("ItemWindow shrinks at once for a large item, and grows again as the next ones are small", () => {
  const window = windowWith(new ItemBudget(4_096 * KIB), KIB);
  const sizes: number[] = [];
  for (const bytes of [KIB, 1024 * KIB, ...new Array(60).fill(KIB)]) {
    window.grant();
    window.add(bytes);
    window.take(bytes);
    sizes.push(window.size);
  }
  assertEquals(sizes.slice(0, 5), [256, 4, 4, 4, 5]);
  assertEquals(sizes.at(-1), 256);
});

Deno.test("ItemBudget gives each stream the same share, once those that had more have used it up", () => {
  const budget = new ItemBudget(1_000);
  const first = windowWith(budget, 10);
  assertEquals(first.grant(), 100);
  const second = windowWith(budget, 10);
  assertEquals([second.size, second.grant()], [1, 1], "the first holds all of it");
  for (let item = 0; item < 60; item++) {
    first.add(10);
    first.take(10);
    if (first.grant() > 0) throw new Error(`more for the first, after ${item} items`);
  }
  assertEquals([first.size, second.size], [50, 50]);
  assertEquals(second.grant(), 49);
  assertEquals(use(budget), { usedBytes: 880, unreadBytes: 0, streams: 2 });
  second.close();
  assertEquals(first.size, 100);
});

Deno.test("ItemBudget has its room for others while streams wait for their first item, however large that may be", () => {
  const budget = new ItemBudget(4_096 * KIB);
  const waiting = Array.from({ length: 7 }, () => new ItemWindow(budget, 256, 1024 * KIB));
  for (const window of waiting) window.open(1);
  const busy = windowWith(budget, 64 * KIB);
  assertEquals(busy.grant(), 8, "an eighth of the memory");
});

Deno.test("ItemBudget lets a stream use no more than its own limit, though the rest is free", () => {
  const window = windowWith(new ItemBudget(1_000_000, 100), 10);
  assertEquals(window.grant(), 10);
});

Deno.test("ItemBudget is exceeded by unread items that were larger than expected, not by what may still come", () => {
  const budget = new ItemBudget(1_000);
  const window = windowWith(budget, 10);
  window.grant();
  for (let item = 0; item < 10; item++) window.add(100);
  assertEquals([budget.isExceeded, budget.unreadBytes], [false, 1_000], "as much as it holds");
  window.add(100);
  assertEquals(budget.isExceeded, true);
  window.take(100);
  assertEquals(budget.isExceeded, false);
});

Deno.test("ItemBudget gets back all that a stream has held, however it ends", () => {
  const budget = new ItemBudget(10_000);
  const ends: Record<string, (window: ItemWindow) => void> = {
    "ended, then read": (window) => {
      window.end();
      assertEquals(use(budget), { usedBytes: 30, unreadBytes: 70, streams: 1 });
      window.take(30);
      assertEquals(use(budget), { usedBytes: 0, unreadBytes: 40, streams: 1 });
      window.take(40);
    },
    "read, then ended": (window) => {
      window.take(30);
      window.take(40);
      window.end();
    },
    "closed": (window) => window.close(),
    "ended, then closed": (window) => {
      window.end();
      window.close();
    },
    "closed twice, then ended": (window) => {
      window.close();
      window.close();
      window.end();
    },
  };
  for (const [how, end] of Object.entries(ends)) {
    const window = windowWith(budget, 25);
    window.grant();
    window.add(30);
    window.add(40);
    end(window);
    assertEquals([use(budget), window.add(1), window.grant()], [NOTHING, false, 0], how);
  }
});

Deno.test("ItemWindow that begins again elsewhere forgets what was granted, and keeps what is unread", () => {
  const budget = new ItemBudget(1_000);
  const window = windowWith(budget, 10);
  window.grant();
  window.add(10);
  window.open(2);
  assertEquals(use(budget), { usedBytes: 20, unreadBytes: 10, streams: 1 });
  assertEquals([window.add(10), window.add(10), window.add(10)], [true, true, false]);
});
