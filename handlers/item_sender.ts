/**
 * Sends the items of a stream, as fast as the caller and the output accept them, in turn with other work.
 *
 * In: a handler's stream: an async generator, another iterable, a `ReadableStream`. Out: items, each sent before the
 * next is requested; a promise of the final reply. If the call is aborted, the stream is ended at once by its
 * `return()`, without waiting for its next item. Refused: nothing.
 */

import { ITEMS } from "../codec/message.ts";
import type { OutputBuffer } from "../session/output_buffer.ts";
import type { RpcError } from "../errors.ts";
import type { CreditWindow } from "../session/credit.ts";
import type { YieldBudget } from "../session/yield_budget.ts";
import { type ReplyFields, replyOf } from "./command.ts";

/** How much unsent output a stream may produce. Otherwise a handler that never pauses would block all others. */
const STREAM_AHEAD_BYTES = 64 * 1024;

/** Shared limits on the streams of a connection. */
export interface ItemTurns {
  readonly output: OutputBuffer;
  readonly yieldBudget: YieldBudget;
}

/** The call that a stream answers. */
export interface ItemReceiver {
  /** Whether the call has ended. */
  readonly isSettled: boolean;
  /** The reason, if it was not ended by its handler. */
  readonly abortReason: RpcError | undefined;
  /** The caller's credit; `undefined` if only the output limits the stream. */
  readonly credit: CreditWindow | undefined;
  /** Resolves when the caller accepts another item or the call has ended. */
  untilCredit(): Promise<void>;
  /** Sends an item, and encodes it before returning. */
  sendItem(item: unknown): void;
  /** Sets a callback for an abort of the call. */
  onAborted(listener: () => void): void;
}

/** Whether a handler has returned a stream. */
export function isStream(answer: unknown): answer is AsyncIterable<unknown> {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer;
}

/**
 * Sends all items.
 *
 * @returns The final reply. Rejects with what the handler throws, or with the reason for which the call was aborted, once
 * the handler has ended.
 */
export function sendItems(
  call: ItemReceiver,
  stream: AsyncIterable<unknown>,
  turns: ItemTurns,
): Promise<ReplyFields> {
  const items = iteratorOf(stream);
  if (items.return === undefined) return sendEach(call, items, turns, undefined);
  const { promise: left, reject } = Promise.withResolvers<never>();
  const leave = () => {
    // Runs its `finally`. In an async function, because a hand-written `return()` may throw synchronously.
    (async () => await items.return?.())().then(() => reject(call.abortReason), reject);
  };
  call.onAborted(leave);
  if (call.isSettled) leave();
  return Promise.race([left, sendEach(call, items, turns, left)]);
}

async function sendEach(
  call: ItemReceiver,
  items: AsyncIterator<unknown, unknown, void>,
  { output, yieldBudget }: ItemTurns,
  left: Promise<never> | undefined,
): Promise<ReplyFields> {
  const { credit } = call;
  let isEmpty = true;
  while (!call.isSettled) {
    if (credit?.left === 0) {
      await call.untilCredit();
    } else if (output.queuedBytes >= STREAM_AHEAD_BYTES || output.full) {
      await output.drained(STREAM_AHEAD_BYTES);
    } else if (yieldBudget.isExhausted) {
      await yieldBudget.refilled();
    } else {
      const { value, done } = await items.next();
      if (call.isSettled) break;
      if (done) return lastReply(value ?? null, isEmpty && credit !== undefined);
      isEmpty = false;
      credit?.use();
      call.sendItem(value ?? null);
    }
  }
  if (left !== undefined) await left;
  throw call.abortReason;
}

/** The last reply. Without items, a mark tells a caller that grants credit that this was a stream. */
function lastReply(result: unknown, isEmpty: boolean): ReplyFields {
  const whole = replyOf(result);
  return isEmpty && result !== null ? { ...whole, [ITEMS]: 0 } : whole;
}

/** The iterator of a stream; for a `ReadableStream` its reader, which can be cancelled while it waits for an item. */
function iteratorOf(stream: AsyncIterable<unknown>): AsyncIterator<unknown, unknown, void> {
  if (!(stream instanceof ReadableStream)) return stream[Symbol.asyncIterator]();
  const reader = stream.getReader();
  return {
    next: () => reader.read() as Promise<IteratorResult<unknown>>,
    return: async () => {
      await reader.cancel();
      return { done: true, value: undefined };
    },
  };
}
