/**
 * What one connection of a client sends: its settings before the first request, requests, control messages and PINGs.
 * After a quiet time it first looks whether the server has closed the connection.
 *
 * In: messages. Out: the same, encoded; when the look is over, a callback. Refused: calls that cannot be encoded.
 */

import type { Encoding } from "../codec/encode.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { encodeGiven } from "../codec/given.ts";
import { type KnownControl, Settings } from "../codec/message.ts";
import { BUILT_IN_NUMBERS } from "../codec/message_table.ts";
import type { Output } from "../codec/stage.ts";
import { type EncodedRequest, type SentControl, writeControl, writeEncodedRequest } from "../codec/write_message.ts";
import type { Writer } from "../codec/writer.ts";
import { ClientCall, type ClientSettings } from "./client_call.ts";
import type { ItemMessage } from "./item_output.ts";
import { PING_SEQ } from "./replies.ts";
import { unsendable } from "./unsendable.ts";

/** After this long without traffic, look for a closed connection first. */
const QUIET_MS = 1_000;

const PING: EncodedRequest & { readonly kind: "ping" } = {
  kind: "ping",
  ttl: undefined,
  given: encodeGiven(
    { cmd: BUILT_IN_NUMBERS.get("PING") as number, params: {}, meta: undefined, credit: undefined },
    1,
    MAX_SHORT_PAYLOAD_BYTES,
  ),
};

/** What a client sends. */
export type ClientOutput = ClientCall | SentControl | typeof PING;

/** The connection, as its sender sees it. */
export interface SenderHost {
  /** A look is over. */
  wake(): void;
  /** A call could not be encoded. */
  forget(call: ClientCall): void;
}

/** The sending side of one connection. */
export class Sender implements Encoding<ClientOutput> {
  /** Set when the stages start. */
  output: Output<ClientOutput> | undefined;
  readonly #settings: ClientSettings;
  readonly #host: SenderHost;
  #isGreeted = false;
  #controls: KnownControl[] = [];
  /** The time of the last traffic. */
  #lastUseMs: number;
  #look: ReturnType<typeof setTimeout> | undefined;

  constructor(settings: ClientSettings, host: SenderHost) {
    this.#settings = settings;
    this.#host = host;
    this.#lastUseMs = settings.clock.now();
  }

  /** Records traffic. */
  used(nowMs: number): void {
    this.#lastUseMs = nowMs;
  }

  /**
   * Whether the connection was quiet, and may be closed without our knowing it yet. Then this is looked at, and the host
   * is woken.
   */
  isQuiet(nowMs: number): boolean {
    if (nowMs - this.#lastUseMs < QUIET_MS) return false;
    // The runtime polls its sockets before a timer fires, so pending input is read first.
    this.#look ??= setTimeout(() => {
      this.#look = undefined;
      this.#lastUseMs = this.#settings.clock.now();
      this.#host.wake();
    }, 0);
    return true;
  }

  /** Sends a call. */
  send(call: ClientCall): void {
    this.output?.enqueue(call);
  }

  /**
   * Sends an item of a caller's stream, or its end.
   *
   * @throws {EncodeError} If it cannot be encoded; errors of the caller's getters pass through. None of its bytes were sent.
   */
  sendItem(message: ItemMessage): void {
    this.output?.enqueue(message);
  }

  /** Sends a PING. */
  ping(): void {
    this.greet();
    this.output?.enqueue(PING);
  }

  /** Says again that the client lives, where that needs no answer. */
  promise(): void {
    this.output?.enqueue(new Settings({ alive: this.#settings.aliveMs }));
  }

  /** Keeps a control message until `sendControls()`. */
  add(control: KnownControl): void {
    this.#controls.push(control);
  }

  /** Sends the control messages that wait. */
  sendControls(): void {
    if (this.#controls.length === 0) return;
    const controls = this.#controls;
    this.#controls = [];
    for (const control of controls) this.output?.enqueue(control);
  }

  /** Cancels a look. */
  close(): void {
    clearTimeout(this.#look);
  }

  /**
   * Sends the settings, once, before the first request and without waiting for it: a server that shuts down meanwhile tells
   * only those who have asked. Not without `seq`: such a server would answer control messages.
   */
  greet(): void {
    if (this.#isGreeted) return;
    this.#isGreeted = true;
    const { sequenced, maxPayloadBytes, aliveMs } = this.#settings;
    if (!sequenced) return;
    const max = maxPayloadBytes === MAX_SHORT_PAYLOAD_BYTES ? undefined : maxPayloadBytes;
    const alive = aliveMs === 0 ? undefined : aliveMs;
    this.output?.enqueue(new Settings({ max, alive, notice: true }));
  }

  writeMessage(writer: Writer, message: ClientOutput): void {
    if (message instanceof ClientCall) {
      writeEncodedRequest(writer, message, this.#settings.sequenced ? message.id : undefined);
    } else if (message.kind === "ping") writeEncodedRequest(writer, message, PING_SEQ);
    else writeControl(writer, message);
  }

  maxPayloadBytes(message: ClientOutput): number {
    const isGiven = message instanceof ClientCall || message.kind === "request item" || message.kind === "encoded item";
    // What the caller does not give is sent even if the limit is very low.
    return isGiven ? this.#settings.maxPayloadBytes : Infinity;
  }

  /** A call could not be encoded. None of its bytes were sent, and its place is free. */
  onUnwritable(call: ClientOutput, error: unknown): undefined {
    if (!(call instanceof ClientCall)) throw error;
    this.#host.forget(call);
    call.end(unsendable(call.name, error));
  }
}
