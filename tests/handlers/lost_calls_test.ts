/** Calls whose connection is lost: there may be many, which end in turns, and none of them counts as answered. */

import { assertEquals } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { accessLog } from "../../handlers/access_log.ts";
import { command } from "../../handlers/command.ts";
import { createServer } from "../../server.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { memoryPeer, settle } from "../support/peers.ts";

/** More calls than the server ends before it lets others have their turn. */
const CALLS = 200;

/** How a handler ends that hears of the end of another call. */
const ENDS: [string, () => string][] = [
  ["answers", () => "done"],
  ["fails", () => {
    throw new RpcError("LATE");
  }],
];

for (const [ends, end] of ENDS) {
  Deno.test(`a handler that ${ends} before its turn to end with its connection has lost its caller`, async () => {
    const clock = new FakeClock();
    const lines: string[] = [];
    const aborted = Promise.withResolvers<void>();
    const commands = {
      HANG: command((_: object, { signal }) => {
        signal.addEventListener("abort", () => {
          clock.compute(5); // the connection has had its turn
          aborted.resolve();
        });
        return new Promise<string>(() => {});
      }),
      AFTER: command(() => aborted.promise.then(end)),
    };
    const middleware = [accessLog((line) => lines.push(line))];
    await using server = createServer({ commands, middleware, clock });
    const [peer, there] = memoryPeer();
    const served = server.accept(there);
    await peer.send(...Array.from({ length: CALLS }, (_, seq) => ({ cmd: seq < CALLS - 1 ? "HANG" : "AFTER", seq })));
    await settle();
    peer.close();
    await served;
    await settle();
    const ended = new Set(lines.map((line) => line.split(" ").slice(2, -2).join(" ")));
    assertEquals(ended, new Set(["HANG CONNECTION_LOST", "AFTER CONNECTION_LOST"]));
    const { calls, errors, inFlight } = server.statistics().commands.AFTER;
    assertEquals({ calls, errors, inFlight }, { calls: 0, errors: {}, inFlight: 0 });
  });
}
