/**
 * Lets many calls share an `AbortSignal` with one listener: to remove one of many listeners, the runtime searches all
 * of them.
 *
 * In: calls with their signals. Out: `abort()` of each call whose signal is aborted. Refused: nothing.
 */

/** Something that a signal can abort, as a listener of its `abort`. */
export interface Abortable {
  /** Its signal was aborted. */
  handleEvent(): void;
}

/** Watches the signals of calls. */
export interface Watcher {
  /** Starts to watch. */
  add(signal: AbortSignal, abortable: Abortable): void;
  /** Stops watching; an unknown object is ignored. */
  delete(signal: AbortSignal, abortable: Abortable): void;
}

/** The signals of one client. */
export class Signals implements Watcher {
  readonly #watched = new Map<AbortSignal, Set<Abortable>>();
  readonly #onAbort = (event: Event) => this.#abort(event.currentTarget as AbortSignal);

  add(signal: AbortSignal, abortable: Abortable): void {
    const others = this.#watched.get(signal);
    if (others) {
      others.add(abortable);
    } else {
      this.#watched.set(signal, new Set([abortable]));
      signal.addEventListener("abort", this.#onAbort, { once: true });
    }
  }

  delete(signal: AbortSignal, abortable: Abortable): void {
    const others = this.#watched.get(signal);
    if (!others?.delete(abortable) || others.size > 0) return;
    this.#watched.delete(signal);
    signal.removeEventListener("abort", this.#onAbort);
  }

  #abort(signal: AbortSignal): void {
    const all = this.#watched.get(signal) ?? [];
    this.#watched.delete(signal);
    for (const each of all) each.handleEvent();
  }
}
