/** Handlers that do what the types forbid, and how a test asks them. */

import { assertEquals } from "@std/assert";
import { command, type Commands } from "../../handlers/command.ts";
import type { ServedInMemory } from "./test_server.ts";
import type { Message } from "./wire.ts";

/** The reply to a PING without `seq`. */
export const PONG = { res: "PONG" };

/** A handler that does what a test says, without the types that would forbid it. */
// deno-lint-ignore no-explicit-any -- handlers here do what they must not
export function careless(handler: (params: any, context: any) => any): Commands[string] {
  return command({ handler });
}

/** A command in both kinds: answering at once, and later. */
export function bothWays(answer: () => unknown): Commands {
  return { SYNC: careless(answer), ASYNC: careless(() => Promise.resolve().then(answer)) };
}

/** Asks both kinds, with and without seq, and a PING behind each: the connection must have gone on. */
export async function askAll(served: ServedInMemory): Promise<Message[]> {
  const replies: Message[] = [];
  for (const cmd of ["SYNC", "ASYNC"]) {
    for (const seq of [undefined, 5]) {
      replies.push(await served.peer.ask({ cmd, ...(seq === undefined ? {} : { seq }) }));
      assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
    }
  }
  assertEquals(await served.peer.readReady(), [], "exactly one reply each");
  return replies.map(({ seq: _seq, ...reply }) => reply);
}
