/**
 * Whether a connection takes another request now: while the output, the places or the memory are full, it waits, and
 * meanwhile nothing is read.
 *
 * In: the calls and the output of a connection. Out: whether there is room, and promises of room and of rest.
 */

import type { ConnectionView } from "../session/connection.ts";
import type { Calls } from "./calls.ts";
import type { ServerState } from "./server_state.ts";

/** An output that was full is filled again below this share of its limit: at the brim, replies go one by one. */
const RESUME_SHARE = 0.5;

/** The admission of one connection. */
export class Admission {
  readonly #server: ServerState;
  readonly #connection: ConnectionView;
  readonly #calls: Calls;
  readonly #maxInFlight: number;
  #resume: (() => void) | undefined;

  constructor(server: ServerState, connection: ConnectionView, calls: Calls) {
    this.#server = server;
    this.#connection = connection;
    this.#calls = calls;
    this.#maxInFlight = server.limits.maxInFlight;
  }

  /** Whether the next request has to wait. */
  get full(): boolean {
    return this.#connection.output.full || this.#calls.taken >= this.#maxInFlight || this.#calls.held.mustWait;
  }

  /** Resolves when there is room, or the connection has ended. */
  async untilRoom(): Promise<void> {
    const { output } = this.#connection;
    const { held } = this.#calls;
    while (this.full && this.#connection.isOpen) {
      if (output.full) await output.drained(this.#server.limits.maxQueuedBytes * RESUME_SHARE);
      else if (held.mustWait) await held.untilOneEnds(this.#server.clock, (resume) => this.#resume = resume);
      else await new Promise<void>((resolve) => this.#resume = resolve);
    }
  }

  /** Resolves when all that has come is answered, or the connection has ended. */
  async untilIdle(): Promise<void> {
    while (!this.#calls.idle && this.#connection.isOpen) await new Promise<void>((resolve) => this.#resume = resolve);
  }

  /** Something has ended: who waits looks again. */
  wake(): void {
    this.#resume?.();
  }
}
