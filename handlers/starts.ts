/**
 * Lets handlers begin one after another: the next one begins when the last one has answered or waits for something.
 * Otherwise two handlers could change the same object before the reply of the first one is encoded. Commands whose
 * results are texts or numbers do not need this.
 *
 * In: calls whose handler has begun and did not answer at once; their answers. Out: when the next handler may begin.
 * Refused: nothing.
 */

/** The last handler of a server that has begun. */
export class Starts {
  /** Its call, until the next handler may begin. */
  call: object | undefined;
  #rounds = 0;

  /**
   * The handler of a call has begun.
   *
   * @param rounds After this many rounds of microtasks without an answer, it waits for something.
   */
  began(call: object, rounds: number): void {
    this.call = call;
    this.#rounds = rounds;
  }

  /** A call was answered, or its handler waits for something. */
  passed(call: object | undefined): void {
    if (call === this.call) this.call = undefined;
  }

  /** Resolves when the next handler may begin. */
  async over(): Promise<void> {
    const { call } = this;
    for (let round = 0; round < this.#rounds && call === this.call; round++) await undefined;
    this.passed(call);
  }
}
