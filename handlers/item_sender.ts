/**
 * Sends the items of a handler's stream to the caller, in turn with other work.
 *
 * In: a handler's stream: an async generator, another iterable, a `ReadableStream`. Out: items; a promise of the final
 * reply. If the call is aborted, the stream is ended at once. Refused: nothing.
 */

import { RpcError } from "../errors.ts";
import { endItems, type ItemReceiver, iteratorOf, sendEach } from "../session/item_sender.ts";
import { type ReplyFields, replyOf } from "./command.ts";

/** How much unsent output a stream may produce. Otherwise a handler that never pauses would block all others. */
export const STREAM_AHEAD_BYTES = 64 * 1024;

/** For a stream whose middleware has given its own answer. */
const ANSWERED = new RpcError("CANCELLED", "the call was answered before its stream had ended");

/** The call that a stream answers. */
export interface StreamedCall extends ItemReceiver {
  /** Why the call was aborted, if it was. */
  readonly abortReason: RpcError | undefined;
  /** Sets a callback for the end of the call, which may come before the end of the stream. */
  onOver(endStream: () => void): void;
}

/** Whether a handler has returned a stream. */
export function isStream(answer: unknown): answer is AsyncIterable<unknown> {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer;
}

/** Whether a value is a promise, of any library. */
export function isThenable<Value>(value: Value | PromiseLike<Value>): value is PromiseLike<Value> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** Whether an answer comes later: it is a promise or a stream. */
export function isPending(answer: unknown): boolean {
  return isThenable(answer) || isStream(answer);
}

/**
 * Sends all items.
 *
 * @returns The final reply. Rejects with what the handler throws. If the call was aborted, rejects with the reason,
 * after the handler has ended.
 */
export function sendItems(call: StreamedCall, stream: AsyncIterable<unknown>): Promise<ReplyFields> {
  const items = iteratorOf(stream);
  // Not an async function with a race: each waiting stream would keep a dozen more objects.
  return new Promise((resolve, reject) => {
    const over = () => reject(call.abortReason ?? ANSWERED);
    let hasLeft = false;
    const leave = () => {
      if (hasLeft) return;
      hasLeft = true;
      void endItems(items).then(over, reject);
    };
    if (items.return !== undefined) {
      call.onOver(leave);
      if (call.isSettled) leave();
    }
    sendEach(call, items).then((sent) => {
      hasLeft ||= sent !== undefined;
      if (sent !== undefined) resolve(replyOf(sent.value));
      else if (items.return === undefined) over();
      else leave();
    }).catch(reject);
  });
}
