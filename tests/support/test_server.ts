/** Servers for tests, whose errors a test has to take, and handlers that wait for the test. */

import { type Command, command, type Context } from "../../handlers/command.ts";
import type { ErrorOrigin } from "../../handlers/event_log.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import type { ListeningServer, ServeOptions } from "../../server.ts";
import { serve } from "./demo_server.ts";
import { serveOne } from "./serve_one.ts";
import { standardError } from "../../transport/line_writer.ts";
import { FakeClock } from "./fake_clock.ts";
import { type Address, addressIn, type Place, TCP, type Transport } from "./transports.ts";
import type { Message } from "./wire.ts";
import { connectPeer, connectResettable, memoryPeer, type Peer } from "./peers.ts";

/** A call whose handler waits for the test. */
export interface HeldCall {
  readonly params: Message;
  readonly context: Context;
  /** Answers. */
  finish(result?: unknown): void;
  /** Fails. */
  fail(error: unknown): void;
}

/** A command whose handlers end when the test says so, and who notice nothing else. */
export class Held {
  /** All calls so far, in the order in which their handlers began. */
  readonly calls: HeldCall[] = [];
  /** Handlers that run now, and the most that ever did. */
  running = 0;
  peak = 0;
  /** For the commands of a server. */
  readonly command: Command<Message, unknown> = command({
    handler: (params: Message, context) => this.#hold(params, context),
  });

  /** Lets all go that wait now. */
  finishAll(): void {
    for (const call of this.calls) call.finish();
  }

  async #hold(params: Message, context: Context): Promise<unknown> {
    this.running++;
    this.peak = Math.max(this.peak, this.running);
    try {
      return await new Promise((resolve, reject) => {
        this.calls.push({
          params,
          context,
          finish: (result = params.id ?? null) => resolve(result),
          fail: reject,
        });
      });
    } finally {
      this.running--;
    }
  }
}

/** What this process writes to stderr while something runs, as lines. */
export async function stderrLines(run: () => Promise<void>): Promise<string[]> {
  let text = "";
  const original = Deno.stderr.write;
  Deno.stderr.write = (bytes) => {
    text += new TextDecoder().decode(bytes);
    return Promise.resolve(bytes.length);
  };
  try {
    await run();
    await standardError.flush();
  } finally {
    Deno.stderr.write = original;
  }
  return text.split("\n").slice(0, -1);
}

/** What reached a server's `onError`. What a test does not take makes it fail. */
export class ErrorLog {
  readonly #errors: { error: unknown; origin: ErrorOrigin }[] = [];

  /** The hook, for the options of a server. */
  readonly onError = (error: unknown, origin: ErrorOrigin): void => {
    this.#errors.push({ error, origin });
  };

  /** The errors so far, which are then forgotten. */
  take(): unknown[] {
    return this.#errors.splice(0).map(({ error }) => error);
  }

  /** As {@linkcode take}, with where each came from. */
  takeWithOrigin(): { error: unknown; origin: ErrorOrigin }[] {
    return this.#errors.splice(0);
  }

  /** Fails if there is an error that nobody took. */
  assertEmpty(): void {
    const [first] = this.take();
    if (first !== undefined) {
      throw new Error("an error reached the hook that the test did not expect", { cause: first });
    }
  }
}

/** A listening server and its peers. */
export class TestServer implements AsyncDisposable {
  readonly server: ListeningServer;
  readonly errors: ErrorLog;
  readonly #clock: unknown;
  readonly #place: Place;
  readonly #peers: Peer[] = [];

  constructor(server: ListeningServer, errors: ErrorLog, clock: unknown, place: Place) {
    this.server = server;
    this.errors = errors;
    this.#clock = clock;
    this.#place = place;
  }

  get port(): number {
    return this.server.port;
  }

  /** Where a client finds it. */
  get address(): Address {
    return addressIn(this.#place, this.port);
  }

  /** A peer, which is closed with the server. */
  async connect(): Promise<Peer> {
    return this.#keep(await connectPeer(this.address));
  }

  /** A peer that can be reset, which is closed with the server. */
  async connectResettable(): Promise<Peer> {
    return this.#keep(await connectResettable(this.address));
  }

  /** Closes the peers, then the server, which does not wait for what still runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#peers) await peer[Symbol.asyncDispose]();
    const shutdown = this.server.shutdown({ graceMs: 0 });
    if (this.#clock instanceof FakeClock) await this.#clock.advance(5_000);
    await shutdown;
    await this.#place[Symbol.asyncDispose]();
    this.errors.assertEmpty();
  }

  #keep(peer: Peer): Peer {
    this.#peers.push(peer);
    return peer;
  }
}

/** A server on this machine: on a free port of TCP, unless another transport is given. */
export async function withServer(options: ServeOptions = {}, transport: Transport = TCP): Promise<TestServer> {
  const errors = new ErrorLog();
  const place = await transport.place();
  const where = options.path === undefined ? place.serve : {}; // a path stands in place of an address
  const server = await serve({ ...where, onError: errors.onError, ...options });
  return new TestServer(server, errors, options.clock, place);
}

/** A connection served in memory: as a socket, but nothing in it takes time. */
export class ServedInMemory implements AsyncDisposable {
  readonly peer: Peer;
  readonly errors = new ErrorLog();
  /** Resolves when the server has done with the connection. */
  readonly served: Promise<void>;

  constructor(options: ServerOptions) {
    const [peer, there] = memoryPeer();
    this.peer = peer;
    this.served = serveOne(there, { onError: this.errors.onError, ...options });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.peer[Symbol.asyncDispose]();
    await this.served;
    this.errors.assertEmpty();
  }
}

/** A connection in memory, and the peer at its end. */
export function withMemory(options: ServerOptions = {}): ServedInMemory {
  return new ServedInMemory(options);
}
