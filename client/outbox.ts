/**
 * The writing half of a client's connection: messages gathered, encoded and written, one write at a time.
 *
 * In: word that there is something to write. Out: bytes; what is asked for in one turn of the event loop, or while a
 * write is under way, leaves in one write. So the peer's pace is the pace at which messages are taken, and a message
 * that has not been taken can still be taken back.
 *
 * Refused: a message that cannot be written; it leaves no byte, and whoever gave it is told.
 */

import type { Output } from "../codec/stage.ts";
import { EncodeStage } from "../codec/encode.ts";
import type { KnownControl } from "../codec/message.ts";
import { writeControl, writeEncodedRequest } from "../codec/write_message.ts";
import { ClientCall } from "./client_call.ts";
import { type Transport, writeAll } from "../transport/transport.ts";

/** What a client writes. */
export type Outgoing = ClientCall | KnownControl;

/** Where messages come from, and who is told what becomes of them. */
export interface OutboxOptions {
  /** The messages of the next write; none where there is nothing to write. */
  takeBatch(): Outgoing[];
  /** The largest payload. */
  readonly maxPayloadBytes: number;
  /**
   * Whether nothing has come or gone for so long that the peer may have ended the connection, and the end waits to be
   * read.
   */
  mayHaveEnded(): boolean;
  /** Told of a call that cannot be written. */
  onUnwritable(call: ClientCall, error: unknown): void;
  /** Told once that nothing can be written any more. */
  onFailed(error: unknown): void;
}

/** Writes to one connection. */
export class Outbox {
  readonly #transport: Transport;
  readonly #encode: EncodeStage<Outgoing>;
  readonly #options: OutboxOptions;
  #chunks: Uint8Array[] = [];
  #scheduled = false;
  #closed = false;
  /** Before a write after a silence; see {@linkcode OutboxOptions.mayHaveEnded}. */
  #look: ReturnType<typeof setTimeout> | undefined;
  #sending: Promise<void> | undefined;

  /**
   * @param transport The peer.
   * @param options Where messages come from.
   */
  constructor(transport: Transport, options: OutboxOptions) {
    this.#transport = transport;
    this.#options = options;
    this.#encode = new EncodeStage<Outgoing>({
      writeMessage: (writer, message) => {
        if (message instanceof ClientCall) writeEncodedRequest(writer, message);
        else writeControl(writer, message);
      },
      // What the client says of its own accord goes out, however low the limit is.
      maxPayloadBytes: (message) => message instanceof ClientCall ? options.maxPayloadBytes : Infinity,
      onUnwritable: (message, error) => {
        if (!(message instanceof ClientCall)) throw error;
        options.onUnwritable(message, error);
        return undefined;
      },
    });
  }

  /** There is something to write: at the end of this turn, so that more may join it. */
  wake(): void {
    if (this.#scheduled || this.#sending !== undefined) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      // The runtime looks at its sockets before a timer fires: what waits there is read first.
      if (!this.#closed && this.#options.mayHaveEnded()) this.#look = setTimeout(() => this.#wakeUp(), 0);
      else this.#wakeUp();
    });
  }

  #wakeUp(): void {
    this.#scheduled = false;
    this.#flush();
  }

  /**
   * Writes what is left, and says that no more will come.
   *
   * @param patience Ends the wait for a peer that does not read.
   */
  async end(patience: Promise<void>): Promise<void> {
    this.close();
    this.#flush();
    await Promise.race([this.#sending, patience]);
    await Promise.race([this.#transport.closeWrite().catch(ignore), patience]);
  }

  /** Waits no longer before a write, and leaves no timer behind. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#look);
  }

  #flush(): void {
    if (this.#sending === undefined && this.#encodeNext()) this.#sending = this.#send();
  }

  async #send(): Promise<void> {
    try {
      do {
        for (const chunk of this.#chunks) await writeAll(this.#transport, chunk);
      } while (this.#encodeNext());
    } catch (error) {
      this.#options.onFailed(error);
    }
    this.#sending = undefined;
  }

  /** Makes the next chunk, if there is something to write. */
  #encodeNext(): boolean {
    this.#chunks = [];
    const output: Output<Uint8Array> = { enqueue: (chunk) => void this.#chunks.push(chunk), terminate: ignore };
    // Again, where nothing that was to be written could be.
    while (this.#chunks.length === 0) {
      const batch = this.#options.takeBatch();
      if (batch.length === 0) return false;
      for (const message of batch) this.#encode.transform(message, output);
      this.#encode.flush(output);
    }
    return true;
  }
}

function ignore(): void {}
