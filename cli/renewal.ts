/**
 * Checks whether the certificates of a running service were renewed: at SIGHUP, and once a minute.
 *
 * In: a function that gives the certificates. Out: new certificates for the listeners; a line in the log. Refused, in
 * one line of the log: certificates that cannot be read or that TLS cannot use; the old ones stay in use.
 *
 * Files are read again, not watched. Kubernetes renews a certificate by changing a link beside it, which a watch on the
 * file does not notice. A network file system reports no change at all. Reading three small files takes less than a
 * millisecond, and needs the same permissions as the first time.
 */

import type { Clock, Timer } from "../transport/clock.ts";
import { messageOf } from "../transport/runtime.ts";
import { renewalProblem } from "../transport/certificate.ts";
import { askServerTls, type ServerTls } from "../transport/tls.ts";

/** Kubernetes takes about as long to update the files of a changed secret. */
const LOOK_EVERY_MS = 60_000;

/** How the log names the result of a check. */
export type RenewalEvent = "renewed" | "renewal_failed";

/** Options of a renewal. */
interface RenewalOptions {
  /** Gives the certificates. */
  ask: () => ServerTls | Promise<ServerTls>;
  /** The certificates that it gave first. */
  first: ServerTls;
  /** The clock. */
  clock: Clock;
  /** Logs the result of a check. */
  note: (text: string, event: RenewalEvent) => void;
}

/** The certificates of one service. */
export class Renewal {
  /** The certificates in use. */
  current: ServerTls;
  readonly #options: RenewalOptions;
  #use: (tls: ServerTls) => unknown = () => {};
  /** The result of the last check, which is logged only once. */
  #found: string;
  /** Checks run one after the other, so that the last one decides. */
  #looking = Promise.resolve();
  #timer: Timer | undefined;

  constructor(options: RenewalOptions) {
    this.#options = options;
    this.current = options.first;
    this.#found = keyOf(options.first);
  }

  /** Checks once a minute from now on. New certificates go to `use`, which may return a promise. */
  start(use: (tls: ServerTls) => unknown): void {
    this.#use = use;
    this.#lookLater();
  }

  /** Stops the regular checks. */
  stop(): void {
    if (this.#timer !== undefined) this.#options.clock.clearTimer(this.#timer);
  }

  /** Checks now, and logs the result. If `wanted` is false, logs only a new result. */
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
      const tls = await askServerTls(this.#options.ask, this.#options.clock);
      return { tls, problem: renewalProblem(this.current, tls) };
    } catch (error) {
      return { tls: this.current, problem: messageOf(error) };
    }
  }
}

/** A key that is equal for equal certificates. */
function keyOf({ cert, key, ca }: ServerTls): string {
  return JSON.stringify([cert, key, ca]);
}
