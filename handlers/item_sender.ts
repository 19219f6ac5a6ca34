/**
 * A stream on its way to its caller: one item after the other, as long as the caller and the output take them, in turn with
 * all other work.
 *
 * In: what a handler has given: an async generator, another iterable, a `ReadableStream`. Out: items, each handed on
 * before the next one is asked for, and a promise of the final reply. A stream whose call is aborted is ended at once: by
 * its own `return()`, without waiting for its next item.
 */

import { ITEMS } from "../codec/message.ts";
import type { OutputBuffer } from "../session/output_buffer.ts";
import type { RpcError } from "../errors.ts";
import type { CreditWindow } from "../session/credit.ts";
import type { YieldBudget } from "../session/yield_budget.ts";
import { reply, type ReplyFields, replyOf } from "./command.ts";

/** How far a stream may run ahead of its reader: a handler that never pauses would else keep all others waiting. */
const STREAM_AHEAD_BYTES = 64 * 1024;

/** What holds back the items of all streams of a connection. */
export interface ItemTurns {
  readonly output: OutputBuffer;
  readonly yieldBudget: YieldBudget;
}

/** The call that a stream answers. */
export interface ItemReceiver {
  /** Whether the call has ended. */
  readonly isSettled: boolean;
  /** Why, if its handler did not end it. */
  readonly abortReason: RpcError | undefined;
  /** Items that the caller takes; `undefined` if only the output holds them back. */
  readonly credit: CreditWindow | undefined;
  /** Resolves when the caller takes another item, or the call has ended. */
  untilCredit(): Promise<void>;
  /** Takes an item; it is encoded when this returns. */
  sendItem(item: unknown): void;
  /** Calls back when the call is aborted. */
  onAborted(listener: () => void): void;
}

/** Whether a handler has answered with a stream. */
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
    // Its `finally` runs. In an async function, because one that is written by hand may throw at once.
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

/** Without an item, a result would look as the reply of a command that answers once: its caller, who grants credit, is told. */
function lastReply(result: unknown, isEmpty: boolean): ReplyFields {
  return isEmpty && result !== null ? reply(result, { [ITEMS]: 0 }) : replyOf(result);
}

/** The iterator of a stream. A `ReadableStream`'s own cannot be ended while it waits for an item; its reader can. */
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
