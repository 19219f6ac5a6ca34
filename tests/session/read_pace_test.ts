/** How much of long messages a server holds in parts: many connections must not each have one that is half read. */

import { assertEquals } from "@std/assert";
import { encode } from "../support/msgpack.ts";
import { Reader } from "../../codec/reader.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { LongReads, ReadPace, type SharedTurns } from "../../session/read_pace.ts";
import { YieldBudget } from "../../session/yield_budget.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";

const CONNECTIONS = 20;
const PAYLOAD = encode({ cmd: 1, list: new Array(10_000).fill(1.5) });

/** Readers that have begun this payload, one for each connection. */
function readers(payload: Uint8Array): Reader[] {
  return Array.from({ length: CONNECTIONS }, () => {
    const reader = new Reader(DEFAULT_LIMITS);
    reader.begin(payload, 0, payload.length);
    return reader;
  });
}

/** A server on which others always come first, until it is told to go on. */
class BusyServer implements SharedTurns {
  readonly clock = new FakeClock();
  readonly connections = { size: CONNECTIONS };
  readonly load = { longReads: new LongReads() };
  readonly yieldBudget = new YieldBudget(this.clock);
  readonly goOn = Promise.withResolvers<void>();

  constructor() {
    let isBusy = true;
    void this.goOn.promise.then(() => isBusy = false);
    Object.defineProperty(this.yieldBudget, "isExhausted", { get: () => isBusy });
    this.yieldBudget.refilled = () => this.goOn.promise;
  }
}

for (
  const [name, payload, outcome] of [
    ["messages", PAYLOAD, "read"],
    ["messages that end too early", PAYLOAD.subarray(0, -5), "the message ends too early"],
  ] as const
) {
  Deno.test(`a server reads eight long ${name} at a time, and all in the end`, async () => {
    const server = new BusyServer();
    const begun = readers(payload);
    const outcomes = begun.map(async (reader) => {
      try {
        await new ReadPace(server).readAhead(reader);
        return "read";
      } catch (error) {
        return (error as Error).message;
      }
    });
    await turn();
    const emptyBytes = readers(payload)[0].weightBytes;
    assertEquals(begun.filter(({ weightBytes }) => weightBytes > emptyBytes).length, 8);
    server.goOn.resolve();
    assertEquals(new Set(await Promise.all(outcomes)), new Set([outcome]));
    assertEquals(server.load.longReads.isFull, false);
  });
}

Deno.test("a long part that took no time does not let more short messages be read at once", () => {
  const pace = new ReadPace({ ...new BusyServer(), yieldBudget: new YieldBudget(new FakeClock()) });
  for (let parts = 0; parts < 5; parts++) assertEquals(pace.rest(256 * 1024, 256 * 1024), undefined);
  assertEquals(pace.bytesAtOnce, 64 * 1024);
});
