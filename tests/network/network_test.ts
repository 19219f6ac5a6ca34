/**
 * Who notices what, and after how long at the most: the faults of the table, with a short `aliveMs`.
 */

import { assert, assertEquals } from "@std/assert";
import { testOnNetwork } from "./hosts.ts";
import { type Ending, type Fault, faults, observe, SITUATIONS } from "./observe.ts";

const ALIVE_MS = 1_000;

/** What a busy machine may add. */
const SLACK_MS = 1_000;

/** Both sides look every half second, and count a silence from the first look that finds it. */
const LOOK_MS = 1_000;

/** Between which times somebody notices, in milliseconds. */
type Bounds = readonly [least: number, most: number];

/** An end that the system tells of. */
const AT_ONCE: Bounds = [0, SLACK_MS];
/** The least time that a client allows for an answer. */
const ANSWER_MS = 2_000;
/** A silence: the client asks after a quarter of `aliveMs`, and waits for the answer. */
const CLIENT: Bounds = [ANSWER_MS, 0.25 * ALIVE_MS + ANSWER_MS + LOOK_MS + SLACK_MS];
/** The server has heard its last question, perhaps, and then waits 1.5 times as long as `aliveMs`. */
const SERVER: Bounds = [1.5 * ALIVE_MS - LOOK_MS, 2 * ALIVE_MS + LOOK_MS + SLACK_MS];

/** What is expected of a fault: where there is nobody to notice, nothing. */
interface Expected {
  readonly code: string;
  readonly caller?: Bounds;
  readonly handler?: Bounds;
}

function testFault(fault: Fault, { code, caller, handler }: Expected): void {
  testOnNetwork(`network - ${fault.name}: ${code}, in time`, async () => {
    // The system sends what was dropped again after 0.2, 0.6 and 1.4 s: a busy machine has time to heal before the second.
    const options = { aliveMs: ALIVE_MS, patienceMs: 6 * ALIVE_MS, healAfterMs: 0.25 * ALIVE_MS };
    const observed = await observe(fault, options);
    for (const situation of SITUATIONS) {
      // That one waits for another server, as long as its time lasts.
      if (situation === "next" && fault.dead === "server") continue;
      check(`${situation}, caller`, observed[situation].caller, code, caller);
      check(`${situation}, handler`, observed[situation].handler, code, handler);
    }
  });
}

function check(who: string, ending: Ending | undefined, code: string, bounds: Bounds | undefined): void {
  if (ending === undefined || bounds === undefined) return;
  const [least, most] = bounds;
  assertEquals(ending.code, code, who);
  assert(least <= ending.afterMs && ending.afterMs <= most, `${who}: ${ending.afterMs} ms, not ${least} to ${most}`);
}

testFault(faults.bothWays, { code: "CONNECTION_LOST", caller: CLIENT, handler: SERVER });
testFault(faults.toServer, { code: "CONNECTION_LOST", caller: CLIENT, handler: SERVER });
testFault(faults.toClient, { code: "CONNECTION_LOST", caller: CLIENT, handler: SERVER });
testFault(faults.linkRemoved, { code: "CONNECTION_LOST", caller: CLIENT, handler: SERVER });
testFault(faults.serverKilled, { code: "CONNECTION_LOST", caller: AT_ONCE });
testFault(faults.clientKilled, { code: "CONNECTION_LOST", handler: AT_ONCE });
testFault(faults.serverStopped, { code: "CONNECTION_LOST", caller: CLIENT, handler: AT_ONCE });
testFault(faults.clientStopped, { code: "CONNECTION_LOST", caller: AT_ONCE, handler: SERVER });
testFault(faults.healed, { code: "DONE", caller: AT_ONCE, handler: AT_ONCE });
