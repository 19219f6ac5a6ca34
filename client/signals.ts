/**
 * Many calls that share an `AbortSignal`, with one listener for all of them: to take one listener off a signal, the runtime
 * looks through all that are on it.
 *
 * In: calls, each with its signal. Out: `abort()` of those whose signal is aborted. Refused: nothing.
 */

/** Something that a signal ends. */
export interface Abortable {
  /** Its signal was aborted. */
  abort(): void;
}

/** What the signals of a client end. */
export class Signals {
  readonly #watched = new Map<AbortSignal, Set<Abortable>>();
  readonly #onAbort = (event: Event) => this.#abort(event.currentTarget as AbortSignal);

  /** Starts to watch. */
  add(signal: AbortSignal, abortable: Abortable): void {
    const others = this.#watched.get(signal);
    if (others) {
      others.add(abortable);
    } else {
      this.#watched.set(signal, new Set([abortable]));
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
  }

  /** Ends the watch; what is not watched is ignored. */
  delete(signal: AbortSignal, abortable: Abortable): void {
    const others = this.#watched.get(signal);
    if (!others?.delete(abortable) || others.size > 0) return;
    this.#watched.delete(signal);
    signal.removeEventListener("abort", this.#onAbort);
  }

  #abort(signal: AbortSignal): void {
    const all = this.#watched.get(signal) ?? [];
    this.#watched.delete(signal);
    for (const each of all) each.abort();
  }
}
