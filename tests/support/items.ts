/** Calls with a stream from the caller, whose handlers take items when the test says so. */

import { assertEquals } from "@std/assert";
import type { RpcError } from "../../errors.ts";
import { command, type Context } from "../../handlers/command.ts";
import { ServerConnection } from "../../handlers/server_connection.ts";
import { type ServerOptions, ServerState } from "../../handlers/server_state.ts";
import { demoCommands } from "../../cli/demo_commands.ts";
import { memoryPeer, type Peer, settle } from "./peers.ts";
import { ErrorLog } from "./test_server.ts";
import type { Message } from "./wire.ts";

/** A request with a stream. */
export function upload(cmd: string, seq = 1, fields: Message = {}): Message {
  return { ...fields, cmd, seq, $items: true };
}

/** An item of the stream. */
export function item(value: unknown, seq = 1): Message {
  return { cmd: 0, seq, item: value };
}

/** The end of the stream. */
export function end(seq = 1): Message {
  return { cmd: 0, seq, end: true };
}

/** The items that were granted by now, and the other messages. */
export async function readGrants(peer: Peer): Promise<{ credit: number; others: Message[] }> {
  const all = await peer.readReady();
  const grants = all.filter((message) => "credit" in message);
  return {
    credit: grants.reduce((sum, { credit }) => sum + (credit as number), 0),
    others: all.filter((message) => !("credit" in message)),
  };
}

/** One handler, which waits for the test. */
export class Reading {
  /** How often a loop over its items has come to its `finally`. */
  ended = 0;
  readonly #begun = Promise.withResolvers<Context>();
  readonly #answer = Promise.withResolvers<unknown>();
  #context: Context | undefined;
  /** What `take()` and `leave()` use. */
  #iterator: AsyncIterator<unknown> | undefined;

  /** The handler. */
  handle(context: Context): Promise<unknown> {
    this.#context = context;
    context.signal.addEventListener("abort", () => this.finish(context.signal.reason));
    this.#begun.resolve(context);
    return this.#answer.promise;
  }

  /** Why it was aborted. */
  get signalCode(): string | undefined {
    const { aborted = false, reason } = this.#context?.signal ?? {};
    return aborted ? (reason as RpcError).code : undefined;
  }

  /** The next item. */
  async take(): Promise<IteratorResult<unknown>> {
    return await (await this.#items()).next();
  }

  /** Takes all items; the code of the error at their end, or nothing. */
  async failure(): Promise<string | undefined> {
    const { items } = await this.#begun.promise;
    try {
      for await (const _ of items!);
    } catch (error) {
      return (error as RpcError).code;
    } finally {
      this.ended++;
    }
  }

  /** Leaves the loop. */
  async leave(): Promise<void> {
    await (await this.#items()).return?.();
  }

  /** Answers, or fails. */
  finish(outcome: unknown): void {
    if (outcome instanceof Error) this.#answer.reject(outcome);
    else this.#answer.resolve(outcome);
  }

  async #items(): Promise<AsyncIterator<unknown>> {
    const { items } = await this.#begun.promise;
    return this.#iterator ??= items![Symbol.asyncIterator]();
  }
}

/** A connection in memory, the server's own counts, and READ, whose handlers the test leads. */
export class ServedCalls implements AsyncDisposable {
  readonly peer: Peer;
  readonly state: ServerState;
  readonly connection: ServerConnection;
  readonly served: Promise<void>;
  /** The handlers of READ so far, and the first of them, which may still have to begin. */
  readonly readings: Reading[] = [];
  readonly reading = new Reading();
  readonly #errors = new ErrorLog();

  constructor({ commands, ...options }: ServerOptions = {}) {
    const [peer, there] = memoryPeer();
    this.peer = peer;
    const READ = command((_: object, context) => {
      const reading = this.readings.length === 0 ? this.reading : new Reading();
      this.readings.push(reading);
      return reading.handle(context);
    });
    this.state = new ServerState({
      onError: this.#errors.onError,
      ...options,
      commands: { ...demoCommands, READ, ...commands },
    });
    this.connection = new ServerConnection(this.state, there, () => 0.5);
    this.served = this.connection.run();
  }

  /** Bytes of all items that wait, and of the requests. */
  get heldBytes(): number {
    return this.state.load.bytes;
  }

  /** Fails if items or requests are held, or a handler runs. */
  assertNothingHeld(): void {
    const { handlers, bytes } = this.state.load;
    assertEquals([handlers, bytes], [0, 0]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer[Symbol.asyncDispose]();
    await this.served;
    this.state.close();
    await settle(3);
    this.#errors.assertEmpty();
  }
}
