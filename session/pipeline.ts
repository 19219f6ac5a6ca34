/**
 * The pipeline of a connection: one `TransformStream` of three stages, decode, dispatch and encode.
 *
 * One stream holds all three, because each hop between two streams costs some 8 µs a read and a call of the next stage
 * costs nothing. The stages work in a stream each as well; the tests compare the two.
 *
 * In: bytes. Out: chunks of bytes, and the end or the error of the stages.
 */

import type { Output, Stage } from "../codec/stage.ts";

/** Hands what one stage puts out to the next, at once, and remembers whether the next asks for patience. */
class Link<Chunk, Out> implements Output<Chunk> {
  /** A promise while the next stage holds the stages before it back. */
  pending: void | Promise<void> = undefined;
  readonly #next: Stage<Chunk, Out>;
  readonly #output: Output<Out>;

  constructor(next: Stage<Chunk, Out>, output: Output<Out>) {
    this.#next = next;
    this.#output = output;
  }

  enqueue(chunk: Chunk): void {
    const pending = this.#next.transform(chunk, this.#output);
    if (pending === undefined) return;
    // Of two chunks in one go, either may hold back.
    this.pending = this.pending ? Promise.all([this.pending, pending]).then(() => {}) : pending;
  }

  terminate(): void {
    void this.#next.flush?.(this.#output); // what it holds goes first
    this.#output.terminate();
  }
}

/**
 * Joins three stages.
 *
 * @param decode The first; puts out at most one chunk for each that comes in.
 * @param dispatch The second; may put out at any time, also outside of `transform`.
 * @param encode The third; never asks for patience, and may put out later in the same turn.
 * @param onChunk Told of each chunk that the last puts out.
 * @returns One transformer, for `new TransformStream()`.
 */
export function compose<In, A, B>(
  decode: Stage<In, A>,
  dispatch: Stage<A, B>,
  encode: Stage<B, Uint8Array>,
  onChunk: () => void = () => {},
): Transformer<In, Uint8Array> {
  return new Composed(decode, dispatch, encode, onChunk);
}

/** Each write is awaited, and dispatch asks the output buffer for room: the queues of the stream need no bound. */
const UNBOUNDED: QueuingStrategy = { highWaterMark: Infinity };

/** The pipeline of one connection. */
export class Pipeline {
  /** Rejects with the error of a stage; resolves when the stages have ended. */
  readonly closed: Promise<void>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  /** @param stages Three stages in one, as {@linkcode compose} joins them. */
  constructor(stages: Transformer<Uint8Array, Uint8Array>) {
    const { writable, readable } = new TransformStream(stages, UNBOUNDED, UNBOUNDED);
    this.#writer = writable.getWriter();
    this.#reader = readable.getReader();
    this.closed = this.#reader.closed;
  }

  /** Hands bytes to the stages. Resolves when they take more; rejects once they have ended. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#writer.write(bytes);
  }

  /** No more bytes will come. Resolves when the stages have ended. */
  end(): Promise<void> {
    return this.#writer.close().catch(ignore); // they may have ended before
  }

  /** Ends the stages at once. */
  abort(reason: unknown): void {
    this.#writer.abort(reason).catch(ignore);
  }

  /** The next chunk; `undefined` at the end. */
  async read(): Promise<Uint8Array | undefined> {
    return (await this.#reader.read()).value;
  }
}

class Composed<In, A, B> implements Transformer<In, Uint8Array> {
  readonly #decode: Stage<In, A>;
  readonly #dispatch: Stage<A, B>;
  readonly #encode: Stage<B, Uint8Array>;
  readonly #onChunk: () => void;
  #output!: Output<Uint8Array>;
  #toDispatch!: Link<A, B>;
  #toEncode!: Link<B, Uint8Array>;

  constructor(
    decode: Stage<In, A>,
    dispatch: Stage<A, B>,
    encode: Stage<B, Uint8Array>,
    onChunk: () => void,
  ) {
    this.#decode = decode;
    this.#dispatch = dispatch;
    this.#encode = encode;
    this.#onChunk = onChunk;
  }

  start(controller: Output<Uint8Array>): void {
    const output = {
      enqueue: (chunk: Uint8Array) => {
        controller.enqueue(chunk);
        this.#onChunk();
      },
      terminate: () => controller.terminate(),
    };
    this.#output = output;
    this.#toEncode = new Link(this.#encode, output);
    this.#toDispatch = new Link(this.#dispatch, this.#toEncode);
    this.#encode.start?.(output);
    this.#dispatch.start?.(this.#toEncode);
    this.#decode.start?.(this.#toDispatch);
  }

  transform(chunk: In): void | Promise<void> {
    const toDispatch = this.#toDispatch;
    toDispatch.pending = undefined;
    this.#decode.transform(chunk, toDispatch);
    return toDispatch.pending;
  }

  async flush(): Promise<void> {
    this.#toDispatch.pending = undefined;
    await this.#decode.flush?.(this.#toDispatch);
    await this.#toDispatch.pending;
    await this.#dispatch.flush?.(this.#toEncode);
    await this.#encode.flush?.(this.#output);
  }

  async cancel(reason: unknown): Promise<void> {
    await this.#decode.cancel?.(reason);
    await this.#dispatch.cancel?.(reason);
    await this.#encode.cancel?.(reason);
  }
}

function ignore(): void {}
