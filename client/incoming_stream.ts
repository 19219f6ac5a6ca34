/**
 * A stream at the client: receives items, hands them to the reader, and grants credit for more.
 *
 * In: replies with `more`, then the last reply. Out: an async generator. Nothing is sent before the first `next()`, so
 * an unread stream costs nothing. At most the granted items wait. If the connection is lost, a stream whose items have
 * ids resumes after the last item, and an `idempotent` stream without an item starts again. The reader of any other
 * stream gets the received items and then the error. If the caller ends the stream, it ends immediately.
 *
 * Refused: an invalid credit; more items than were granted; an item without `res`; an invalid id.
 */

import { type Fields, ID, ITEMS } from "../codec/message.ts";
import { isReceived, RpcError } from "../errors.ts";
import { DEFAULT_CREDIT } from "../limits.ts";
import { DONE, ItemQueue, type ItemResult, ItemWindow } from "../session/item_queue.ts";
import type { MaybeItems, StreamOptions } from "./call_options.ts";
import { badReply, type CallConnection, ClientCall, type ClientCallOwner, NO_ATTEMPTS } from "./client_call.ts";

/** The memory for unread items of all streams, and of one stream: as much as a server keeps for a connection. */
export const MAX_ITEM_BYTES = 256 * 1024 * 1024;
export const STREAM_ITEM_BYTES = 4 * 1024 * 1024;

/** A call that is answered with a stream. */
export class IncomingStream extends ClientCall implements AsyncGenerator<unknown, unknown, void> {
  readonly #window: ItemWindow;
  /** The credit in the request, in items. */
  #requestCredit: number;
  readonly #unread: ItemQueue;
  #reader: "not begun" | "reading" | "left" = "not begun";
  /** The id of the last received item, read or unread. */
  #lastId: number | string | undefined;

  /**
   * @param owner The client.
   * @param name The command's name.
   * @param params Its parameters.
   * @param options The caller's options.
   * @throws {RangeError} If the credit or the timeout is invalid.
   */
  constructor(owner: ClientCallOwner, name: string, params: unknown, options: MaybeItems<StreamOptions>) {
    const { credit = DEFAULT_CREDIT, timeoutMs = Infinity } = options;
    if (!Number.isSafeInteger(credit) || credit < 1) {
      throw new RangeError(`Cannot use ${credit} as credit: it must be an integer above 0`);
    }
    const given = { ...options, timeoutMs };
    const window = new ItemWindow(owner.itemBudget, credit, owner.settings.maxPayloadBytes);
    const requestCredit = window.size;
    super(owner, name, owner.encoder.encodeCall(owner, name, params, given, requestCredit), given);
    this.#window = window;
    this.#requestCredit = requestCredit;
    this.#unread = new ItemQueue(window, (items) => this.connection?.grant(this, items));
  }

  override get isStreaming(): boolean {
    return true;
  }

  next(): Promise<ItemResult> {
    if (this.#reader === "not begun") {
      this.owner.begin(this);
      this.owner.counts.begun++;
      this.#reader = "reading";
    }
    return this.#unread.next();
  }

  override send(connection: CallConnection, id: number, nowMs: number): void {
    super.send(connection, id, nowMs);
    if (this.#lastId !== undefined) this.#goOn(this.#lastId);
    this.#window.open(this.#requestCredit); // earlier grants were not sent, or went to a lost connection
  }

  /**
   * Only a stream whose items have ids can resume on another connection. A stream without an item may start again. A
   * call with a stream from its caller can do neither.
   */
  override outlives(error: RpcError): boolean {
    const canBegin = this.policy.idempotent && this.state === "sent";
    if (this.#lastId === undefined && !canBegin || this.items) return false;
    return error.code === (isReceived(error) ? "GOING_AWAY" : "CONNECTION_LOST");
  }

  async return(value?: unknown): Promise<ItemResult> {
    this.#leave();
    return { done: true, value: await value };
  }

  throw(error: unknown): Promise<ItemResult> {
    this.#leave();
    return Promise.reject(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  override takeItem({ res, [ID]: id }: Fields, weightBytes: number): void {
    const fault = res === undefined && "a reply without res" ||
      id !== undefined && !isId(id) && "an id must be text or a whole number" ||
      !this.#unread.push(res, weightBytes) && "items came without credit";
    if (fault) return this.giveUp(badReply(fault));
    this.#lastId = id as number | string | undefined ?? this.#lastId;
    this.attempts = NO_ATTEMPTS; // the stream makes progress, so earlier losses no longer count
    if (this.owner.itemBudget.isExceeded) {
      this.giveUp(new RpcError("OVERLOADED", "unread items are too large"));
    }
  }

  override end(error: Error): void {
    this.#unread.drop();
    super.end(error);
  }

  protected override succeed(fields: Fields, hasItems: boolean): void {
    const { res } = fields;
    if (hasItems || this.#lastId !== undefined || res === null || fields[ITEMS] === 0) {
      return this.#finish({ done: true, value: res });
    }
    this.#finish(badReply(`command ${this.name} returns a single reply: use client.call()`));
  }

  protected override fail(error: Error): void {
    this.#finish(this.#reader === "left" ? DONE : error);
  }

  /** Requests the items after the last one, as many as fit beside the unread items. */
  #goOn(after: number | string): void {
    this.#requestCredit = Math.max(1, this.#window.size - this.#unread.length);
    this.given = this.owner.encoder.encodeResumed(this, { after, credit: this.#requestCredit });
  }

  #finish(outcome: ItemResult | Error): void {
    if (outcome instanceof Error) this.owner.onRejected(this, outcome);
    else this.owner.onAnswered(this);
    this.#unread.end(outcome);
  }

  /** The reader has left. If the stream has not begun, there is only the caller's stream to end. */
  #leave(): void {
    if (this.#reader === "left") return;
    const hasBegun = this.#reader === "reading";
    this.#reader = "left";
    this.#unread.cut(DONE);
    if (!hasBegun) this.items?.end();
    else this.giveUp(new RpcError("CANCELLED", "the reader has left"));
  }
}

function isId(id: unknown): id is number | string {
  return typeof id === "string" || Number.isSafeInteger(id) && (id as number) >= 0;
}
