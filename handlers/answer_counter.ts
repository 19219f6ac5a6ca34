/**
 * Counts the answered calls of one connection, and reports them to TAP and telemetry. Reads the clock once for many
 * calls.
 *
 * In: calls, when they are answered, refused or abandoned. Out: the counts of their commands; what a tap sees.
 * Successful calls of the current batch are only counted, because a list would outlive them. Calls that a tap has room
 * for are listed. Refused: nothing.
 */

import { encodeFrame } from "../codec/encode.ts";
import type { Reply, Request } from "../codec/message.ts";
import { writeReply } from "../codec/write_message.ts";
import type { RpcError } from "../errors.ts";
import type { Arrival } from "../session/arrival.ts";
import type { ConnectionView } from "../session/connection.ts";
import { type CallSpan, serverTelemetry } from "../session/telemetry.ts";
import type { Clock } from "../transport/clock.ts";
import type { Call } from "./call.ts";
import type { RegisteredCommand, Registry } from "./registry.ts";
import type { Taps } from "./tap.ts";

/** The known parts of a refused request. */
export type RefusedRequest = Pick<Request, "seq" | "cmd" | "frameBytes"> & Partial<Pick<Request, "meta">>;

/** The counter of one connection. */
export class AnswerCounter {
  /** When the clock was last read. */
  lookedMs = -Infinity;
  readonly #clock: Clock;
  readonly #registry: Registry;
  readonly #connection: ConnectionView;
  readonly #taps: Taps;
  #answered: Call[] = [];
  /** Answered calls that a tap may want, with the bytes that were sent. */
  #watched: { call: Call; sentBytes: number }[] = [];
  /** When the current batch arrived. */
  #batchArrival: Arrival | undefined;
  /** The commands of its calls that are only counted; used again, because most batches have one. */
  readonly #batchEntries: RegisteredCommand[] = [];
  #batchSize = 0;

  constructor({ clock, registry }: { clock: Clock; registry: Registry }, connection: ConnectionView) {
    this.#clock = clock;
    this.#registry = registry;
    this.#connection = connection;
    this.#taps = registry.taps;
  }

  /** Begins a batch. Its calls are counted when it ends. */
  beginBatch(arrival: Arrival): void {
    this.#batchArrival = arrival;
    this.#registry.counter = this;
  }

  /** Ends the batch. Returns the time when the clock was last read. */
  endBatch(): number {
    this.count();
    this.#batchArrival = undefined;
    return this.lookedMs;
  }

  /** A call got its final reply, which is the last frame in the output. */
  add(call: Call): void {
    const { entry, arrival, code } = call;
    if (serverTelemetry !== undefined) this.#endSpan(call);
    const isOfBatch = arrival === this.#batchArrival && code === undefined;
    // All calls of a batch have the same duration, so list only as many as a tap has room for.
    if (this.#taps.room > (isOfBatch ? this.#watched.length : 0) && this.#taps.wants(entry)) {
      this.#watched.push({ call, sentBytes: call.itemBytes + this.#connection.output.lastBytes });
    } else if (isOfBatch) {
      if (entry.counts.uncounted++ === 0) this.#batchEntries[this.#batchSize++] = entry;
      return;
    } else {
      this.#answered.push(call);
    }
    if (this.#answered.length + this.#watched.length > 1) return;
    this.#registry.counter = this;
    queueMicrotask(() => this.count());
  }

  /** Counts the calls answered so far. */
  count(): void {
    const listed = this.#answered.length + this.#watched.length;
    if (listed === 0 && this.#batchSize === 0) return;
    const nowMs = this.lookedMs = this.#clock.now();
    if (listed > 0) this.#countListed(nowMs);
    for (let index = 0; index < this.#batchSize; index++) {
      const entry = this.#batchEntries[index];
      const { counts } = entry;
      const durationMs = nowMs - this.#batchArrival!.readMs;
      counts.answered(durationMs, undefined, counts.uncounted);
      if (this.#taps.isOn) this.#taps.leaveOut(entry, durationMs, counts.uncounted);
      counts.uncounted = 0;
    }
    this.#batchSize = 0;
  }

  /** The connection has ended: no more calls are answered. */
  end(): void {
    this.count();
    if (this.#registry.counter === this) this.#registry.counter = undefined;
  }

  #countListed(nowMs: number): void {
    const [answered, watched] = [this.#answered, this.#watched];
    [this.#answered, this.#watched] = [[], []];
    for (const { entry, arrival, code } of answered) {
      entry.counts.answered(nowMs - arrival.readMs, code);
      if (this.#taps.isOn) this.#taps.leaveOut(entry, nowMs - arrival.readMs, 1);
    }
    for (const { call, sentBytes } of watched) {
      call.entry.counts.answered(nowMs - call.arrival.readMs, call.code);
      this.#tell(call, sentBytes, nowMs);
    }
  }

  /** A call has ended without a reply, because its caller is gone. */
  abandoned(call: Call): void {
    if (serverTelemetry !== undefined) this.#endSpan(call);
    if (this.#taps.isOn) this.#tell(call, call.itemBytes, this.#clock.now());
  }

  /** A request was refused before its handler started. */
  refused(request: RefusedRequest, reply: Reply, arrival: Arrival): void {
    const { cmd, frameBytes } = request;
    if (serverTelemetry !== undefined) this.beginSpan(request, arrival)?.end((reply.outcome as RpcError).code);
    if (!this.#taps.isOn) return;
    const command = this.#registry.find(cmd);
    this.#taps.see(command, this.#clock.now() - arrival.readMs, () => ({
      peer: this.#connection.peer,
      command: command?.name ?? (cmd === undefined ? null : String(cmd)),
      code: (reply.outcome as RpcError).code,
      receivedBytes: frameBytes,
      // Measured here, because the reply may have to wait for earlier replies.
      sentBytes: encodeFrame(reply, writeReply).length,
    }));
  }

  /** Begins the span of a request, if telemetry is on. */
  beginSpan({ cmd, meta }: RefusedRequest, arrival: Arrival): CallSpan | undefined {
    const command = this.#registry.find(cmd)?.name;
    const span = serverTelemetry?.begin(command, meta, this.#clock.now() - arrival.readMs);
    span?.reaches(this.#connection.peer);
    if (command === undefined && cmd !== undefined) span?.names(String(cmd));
    return span;
  }

  /** Ends the span of a call. If the handler never started, the span also begins here. */
  #endSpan(call: Call): void {
    (call.span ?? this.beginSpan(call.request, call.arrival))?.end(call.code);
  }

  #tell({ entry, request, items, arrival, code }: Call, sentBytes: number, nowMs: number): void {
    this.#taps.see(entry, nowMs - arrival.readMs, () => ({
      peer: this.#connection.peer,
      command: entry.name,
      code: code ?? null,
      receivedBytes: request.frameBytes + (items?.receivedBytes ?? 0),
      sentBytes,
    }));
  }
}
