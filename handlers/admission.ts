/**
 * Decides whether a connection may take another request. While its output, its places or its memory are full, it is not
 * read.
 *
 * In: the calls and the output of a connection. Out: whether there is room; promises of room and of idleness.
 */

import type { ConnectionView } from "../session/connection.ts";
import type { Calls } from "./calls.ts";
import type { ServerState } from "./server_state.ts";

/** Full output resumes only below this share of its limit; otherwise replies would leave one by one. */
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

  /** Whether the next request must wait. */
  get full(): boolean {
    return this.#connection.output.full || this.#calls.taken >= this.#maxInFlight || this.#calls.held.mustWait;
  }

  /** Resolves when there is room or the connection has ended. */
  async untilRoom(): Promise<void> {
    const { output } = this.#connection;
    const { held } = this.#calls;
    while (this.full && this.#connection.isOpen) {
      if (output.full) await output.drained(this.#server.limits.maxQueuedBytes * RESUME_SHARE);
      else if (held.mustWait) await held.untilOneEnds(this.#server.clock, (resume) => this.#resume = resume);
      else await new Promise<void>((resolve) => this.#resume = resolve);
    }
  }

  /** Resolves when all requests are answered or the connection has ended. */
  async untilIdle(): Promise<void> {
    while (!this.#calls.idle && this.#connection.isOpen) await new Promise<void>((resolve) => this.#resume = resolve);
  }

  /** Lets waiters check again after a call has ended. */
  wake(): void {
    this.#resume?.();
  }
}
