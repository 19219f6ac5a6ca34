/** The caller's streams in tests of a client: sources that say how they fared, and a server that does what it is told. */

import { assertRejects } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import type { Fields } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import { FakeClock, turn } from "./fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "./scripted_server.ts";

/** A client, and the server at the end of its connection. */
export async function scene(options: ConnectOptions = {}) {
  const network = memoryNetwork();
  const clock = new FakeClock();
  const client: Client = await connect({ dial: network.dial, clock, random: () => 0, ...options });
  return { client, clock, network, server: await ScriptedServer.accept(network) };
}

/** Waits, turn by turn. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await turn();
}

/** The code of the error of a call. */
export async function failure(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

/** A source that says how often it was asked and ended. Without an end of its own it gives 0, 1, 2 ... */
export class Source implements AsyncIterableIterator<unknown> {
  asked = 0;
  ended = 0;
  constructor(readonly give: (index: number) => unknown = (index) => index, readonly length = Infinity) {}

  async next(): Promise<IteratorResult<unknown>> {
    const index = this.asked++;
    if (index >= this.length) return { done: true, value: undefined };
    return { done: false, value: await this.give(index) };
  }

  return(): Promise<IteratorResult<unknown>> {
    this.ended++;
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/** What never comes. */
export const NEVER = new Promise<never>(() => {});
/** The end of the stream, and its cancel, of the first call. */
export const END = { cmd: 0, seq: 0, end: true };
export const CANCEL = { cmd: 0, seq: 0, cancel: true };

/** An item, as the server reads it. */
export function item(value: unknown, seq = 0): Fields {
  return { cmd: 0, seq, item: value };
}
