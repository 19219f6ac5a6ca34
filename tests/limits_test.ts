/** The limits of a server: their ranges, defaults and refusals. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  checkLimit,
  checkOptions,
  DEFAULT_LIMITS,
  LIMIT_NAMES,
  type Limits,
  MAY_BE_ENDLESS,
  OPTION_KINDS,
  resolveLimits,
} from "../limits.ts";
import { createServer, serve } from "../server.ts";
import { serveOne } from "./support/serve_one.ts";
import { memoryPair } from "../transport/memory.ts";

/** The least and the most that each limit may be. */
const RANGES: Record<keyof Limits, [least: number, most: number]> = {
  maxConnections: [1, 2 ** 31 - 1],
  maxConnectionAgeMs: [1, 2 ** 31 - 1],
  maxInFlight: [1, 2 ** 31 - 1],
  maxInFlightTotal: [1, 2 ** 31 - 1],
  maxHeldBytes: [1, 2 ** 31 - 1],
  maxTotalHeldBytes: [1, 2 ** 31 - 1],
  frameTimeoutMs: [1, 2 ** 31 - 1],
  idleTimeoutMs: [1, 2 ** 31 - 1],
  halfOpenTimeoutMs: [1, 2 ** 31 - 1],
  handlerTimeoutMs: [1, 2 ** 31 - 1],
  writeTimeoutMs: [1, 2 ** 31 - 1],
  maxQueuedBytes: [1, 2 ** 31 - 1],
  maxPayloadBytes: [1, 64 * 1024 * 1024],
  maxDepth: [1, 1_000],
  maxMessageBytes: [1, 2 ** 31 - 1],
  maxStrikes: [1, 100_000],
  strikeWindowMs: [1, 2 ** 31 - 1],
};

Deno.test("every limit takes the values of its range, and refuses all others by name", () => {
  assertEquals(Object.keys(RANGES).sort(), [...LIMIT_NAMES].sort());
  for (const name of LIMIT_NAMES) {
    const [least, most] = RANGES[name];
    for (const value of [least, most, DEFAULT_LIMITS[name]]) {
      assertEquals(checkLimit(name, value), value);
      assertEquals(resolveLimits({ [name]: value })[name], value);
    }
    for (const value of [least - 1, most + 1, -1, NaN, Infinity, -Infinity, "5", 2 ** 31, 1.5, null, true, 5n, {}]) {
      if (value === Infinity && MAY_BE_ENDLESS.has(name)) {
        assertEquals(resolveLimits({ [name]: value })[name], Infinity);
        continue;
      }
      const error = assertThrows(() => checkLimit(name, value), RangeError, name);
      assert(error.message.includes(`from ${least} to ${most}`), error.message);
      assertThrows(() => resolveLimits({ [name]: value } as never), RangeError, name);
    }
  }
});

Deno.test("a refused limit is shown as it was given", () => {
  assertThrows(() => checkLimit("maxInFlight", "5"), RangeError, 'Cannot use "5" as maxInFlight');
  assertThrows(() => checkLimit("maxInFlight", -1), RangeError, "Cannot use -1 as maxInFlight");
});

Deno.test("a refused array is shown with its elements, because one of them is wrong", () => {
  const kinds = { pages: OPTION_KINDS.texts };
  const shown: [given: unknown[], text: string][] = [
    [["a", 5], '["a", 5]'],
    [
      [undefined, null, () => {}, {}, [["deep"]], Symbol("s")],
      "[undefined, null, a function, an object, an array, Symbol(s)]",
    ],
    [Array(30).fill(1), `[${Array(20).fill(1).join(", ")}, …]`],
  ];
  for (const [pages, text] of shown) {
    const { message } = assertThrows(() => checkOptions({ pages }, kinds), TypeError);
    assertEquals(message, `Cannot use ${text} as pages: it must be an array of strings`);
  }
  assertThrows(
    () => createServer({ webOrigins: ["https://a.example/"] }),
    TypeError,
    'use ["https://a.example/"] as web',
  );
});

Deno.test("resolveLimits() gives the defaults where nothing, or undefined, is wanted, and changes no default", () => {
  assertEquals(resolveLimits({}), DEFAULT_LIMITS);
  assertEquals(resolveLimits({ maxInFlight: undefined }), DEFAULT_LIMITS);
  const limits = resolveLimits({ maxInFlight: 1 });
  assertEquals(limits, { ...DEFAULT_LIMITS, maxInFlight: 1 });
  limits.maxDepth = 5;
  assertEquals(DEFAULT_LIMITS.maxDepth, 64);
});

Deno.test("serve() and createServer() refuse a limit out of range, and leave nothing behind", async () => {
  for (const name of LIMIT_NAMES) {
    for (const value of [0, -1, NaN, Infinity, "5", 2 ** 31, 1.5]) {
      if (value === Infinity && MAY_BE_ENDLESS.has(name)) continue;
      const limits = { [name]: value as number };
      await assertRejects(() => serve({ port: 0, ...limits }), RangeError, `as ${name}: `);
      await assertRejects(() => serveOne(memoryPair()[0], limits), RangeError, `as ${name}: `);
    }
  }
});
