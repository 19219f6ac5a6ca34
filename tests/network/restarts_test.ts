/**
 * Restarts of servers under load, in small: no call fails, and a stream ends early only with the code that says to go on
 * elsewhere. `restarts.ts` is the same in large.
 */

import { assert, assertEquals } from "@std/assert";
import { type Package, testWith } from "../production/programs.ts";
import { newSeed } from "../support/random.ts";
import { failed, restartUnderLoad, type Setup, SETUPS } from "./restarts.ts";

function testRestarts(name: string, setup: Setup, packages: readonly Package[]): void {
  testWith(packages, `restarts - ${name}: no call is lost`, async () => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const { calls, streams } = await restartUnderLoad(setup, {
      clients: 50,
      restarts: 6,
      pauseMs: 300,
      settleMs: 1_200,
      seed,
    });
    const { GOING_AWAY: _, ...lost } = failed(streams);
    assertEquals([failed(calls), lost], [{}, {}]);
    assert(calls.DONE > 500 && streams.DONE > 10, `too few to tell: ${JSON.stringify({ calls, streams })}`);
  });
}

testRestarts("two servers in turn", SETUPS.plain, []);
testRestarts("two servers behind HAProxy", SETUPS.haproxy, ["haproxy"]);
testRestarts("two servers behind nginx", SETUPS.nginx, ["nginx", "libnginx-mod-stream"]);
testRestarts("one server with two workers", SETUPS.workers, []);
testRestarts("a server whose successor listens before it ends", SETUPS.overlapping, []);
