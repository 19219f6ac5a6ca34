/**
 * The two ends of a connection, as both sides of packline use them: a source to read and a sink to write, one chunk at
 * a time.
 *
 * In: a {@linkcode Duplex}. Out: its ends. For any pair of streams they are made of its reader and its writer. A socket
 * has ends of its own: each stream between a socket and its user costs some 3 µs a read, and 4 KiB a connection.
 */

import type { Duplex } from "./duplex.ts";

/** Gives bytes. */
export interface Source {
  /** The next bytes, `null` at the end. They are the caller's until it reads again. */
  read(): Promise<Uint8Array | null>;
  /** Nobody reads any more. */
  cancel(reason: unknown): void;
}

/** Takes bytes. */
export interface Sink {
  /** Resolves when all of them have been taken. */
  write(bytes: Uint8Array): Promise<void>;
  /** No more will come. */
  close(): Promise<void>;
  /** What is under way is of no use any more. */
  abort(reason: unknown): void;
}

/** A connection's ends. */
export interface Ends {
  readonly source: Source;
  readonly sink: Sink;
}

// By the pair itself, so that a pair that somebody has made of it, with streams of other properties, is not mistaken for
// it.
const ownEnds = new WeakMap<Duplex, Ends>();

/** Gives a pair ends of its own; whoever asks for its ends gets them in place of its streams. */
export function withEnds(duplex: Duplex, ends: Ends): Duplex {
  ownEnds.set(duplex, ends);
  return duplex;
}

/** The ends of a pair; from then on, they alone may be used. */
export function endsOf(duplex: Duplex): Ends {
  return ownEnds.get(duplex) ?? {
    source: new StreamSource(duplex.readable.getReader()),
    sink: new StreamSink(duplex.writable.getWriter()),
  };
}

class StreamSource implements Source {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(reader: ReadableStreamDefaultReader<Uint8Array>) {
    this.#reader = reader;
  }

  async read(): Promise<Uint8Array | null> {
    const { done, value } = await this.#reader.read();
    return done ? null : value;
  }

  cancel(reason: unknown): void {
    // A stream that has ended already rejects: that is what was wanted.
    this.#reader.cancel(reason).catch(ignore);
  }
}

class StreamSink implements Sink {
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;

  constructor(writer: WritableStreamDefaultWriter<Uint8Array>) {
    this.#writer = writer;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#writer.write(bytes);
  }

  close(): Promise<void> {
    return this.#writer.close();
  }

  abort(reason: unknown): void {
    this.#writer.abort(reason).catch(ignore);
  }
}

function ignore(): void {}
