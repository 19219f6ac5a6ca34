/**
 * Finds out whether the peer of a transport has broken the connection while nothing is read from it: a read would tell,
 * but there is none.
 *
 * In: a transport. Out: word that it is broken.
 */

import type { Transport } from "./transport.ts";

/** Probes one transport. */
export class Probe {
  readonly #transport: Transport;
  readonly #onBroken: (error: unknown) => void;
  #underWay = false;

  /**
   * @param transport What to probe.
   * @param onBroken Told that it is broken, by a probe or by the transport itself.
   */
  constructor(transport: Transport, onBroken: (error: unknown) => void) {
    this.#transport = transport;
    this.#onBroken = onBroken;
    transport.broken?.catch(onBroken);
  }

  /** @param isWriting Whether a write is under way, which tells as well. */
  look(isWriting: boolean): void {
    if (this.#transport.broken !== undefined) return this.#transport.look?.();
    if (isWriting || this.#underWay) return;
    this.#underWay = true;
    // On a socket, an empty write fails if the peer has reset the connection.
    this.#transport.write(new Uint8Array(0)).then(() => this.#underWay = false, this.#onBroken);
  }
}
