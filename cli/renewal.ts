/**
 * Looks at the certificates of a running service again: at SIGHUP, and once a minute.
 *
 * In: what gives the certificates. Out: new ones, to what listens; a line of the log. Refused, in one line: what cannot
 * be read, and what TLS cannot use; the old ones stay.
 *
 * Files are read again, not watched. Kubernetes renews a certificate by a change of a link beside it: a watched file
 * does not notice that, and a network file system reports no change at all. Three small files are read in less than a
 * millisecond, with the permissions that the first time needed.
 */

import type { Clock, Timer } from "../transport/clock.ts";
import { messageOf } from "../transport/runtime.ts";
import { renewalProblem } from "../transport/certificate.ts";
import { askTls, type ServerTls } from "../transport/tls.ts";

/** Kubernetes takes about as long to bring a changed secret to its files. */
const LOOK_EVERY_MS = 60_000;

/** What a look is in the log. */
export type RenewalEvent = "renewed" | "renewal_failed";

/** What to look at. */
export interface RenewalOptions {
  /** Gives the certificates. */
  ask: () => ServerTls | Promise<ServerTls>;
  /** What it gave first. */
  first: ServerTls;
  /** The clock. */
  clock: Clock;
  /** Logs what a look has found. */
  note: (text: string, event: RenewalEvent) => void;
}

/** The certificates of one service. */
export class Renewal {
  /** Those in use. */
  current: ServerTls;
  readonly #options: RenewalOptions;
  #use: (tls: ServerTls) => unknown = () => {};
  /** What the last look has found: it is said once. */
  #found: string;
  /** One look after the other, so that the last one decides. */
  #looking = Promise.resolve();
  #timer: Timer | undefined;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.current = options.first;
    this.#found = keyOf(options.first);
  }

  /** Looks once a minute from now on. New certificates go to `use`, which may return a promise. */
  start(use: (tls: ServerTls) => unknown): void {
    this.#use = use;
    this.#lookLater();
  }

  /** Looks no more by itself. */
  stop(): void {
    if (this.#timer !== undefined) this.#options.clock.clearTimer(this.#timer);
  }

  /** Looks now. Says what it has found; if nobody `wanted` to know, only what is new. */
  look(wanted = true): Promise<void> {
    return this.#looking = this.#looking.then(() => this.#look(wanted));
  }

  #lookLater(): void {
    this.#timer = this.#options.clock.setTimer(
      () => {
        this.#lookLater();
        void this.look(false);
      },
      LOOK_EVERY_MS,
      false,
    );
  }

  async #look(wanted: boolean): Promise<void> {
    const { note } = this.#options;
    const { tls, problem } = await this.#read();
    const found = problem ?? keyOf(tls);
    if (found === this.#found && !wanted) return;
    this.#found = found;
    if (problem !== undefined) return note(`the old certificate stays in use: ${problem}`, "renewal_failed");
    if (found === keyOf(this.current)) return note("the certificate in use is the latest", "renewed");
    this.current = tls;
    await this.#use(tls);
    note("a new certificate is in use", "renewed");
  }

  async #read(): Promise<{ tls: ServerTls; problem?: string }> {
    try {
      const tls = await askTls(this.#options.ask);
      return { tls, problem: renewalProblem(this.current, tls) };
    } catch (error) {
      return { tls: this.current, problem: messageOf(error) };
    }
  }
}

/** Equal for equal certificates. */
function keyOf({ cert, key, ca }: ServerTls): string {
  return JSON.stringify([cert, key, ca]);
}
