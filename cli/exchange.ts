/**
 * Makes one call, and prints each reply as it arrives.
 *
 * In: a session, a call, a format. Out: lines on stdout; how the call ended. Refused, by an `RpcError`: what the
 * session refuses, and a server that takes too long (`TIMEOUT`).
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { NEEDS_ITEMS } from "../handlers/refusals.ts";
import type { Outgoing } from "./call.ts";
import { RAISE_LIMIT } from "./error_text.ts";
import { complain, print } from "./output.ts";
import type { Session } from "./session.ts";
import { roundSize } from "./units.ts";
import { WaitingSign } from "./waiting_sign.ts";

/** How a call ended. */
interface Ending {
  /** Whether its last reply has `err`. */
  readonly failed: boolean;
  /** That `err`. */
  readonly code: unknown;
  /** Whether the output still has a reader. Without one, the call ends early, and no other should follow. */
  readonly isRead: boolean;
}

/** The parameters of an exchange. */
export interface Exchange {
  readonly session: Session;
  readonly call: Outgoing;
  /** The text to print for a reply, which has `more` unless it is the last one; `undefined` for none. */
  readonly show: (fields: Fields, more: boolean) => string | undefined;
  /** The time limit in seconds; no limit if `undefined` or `Infinity`. */
  readonly timeout: number | undefined;
  /** Whether output is bare JSON, in which failures are not red. */
  readonly json: boolean | undefined;
  /** Ends the call and its connection. */
  readonly signal?: AbortSignal;
}

/** Makes the call and prints its replies. */
export async function exchange({ session, call, show, timeout, json, signal }: Exchange): Promise<Ending> {
  const endMs = performance.now() + (timeout ?? Infinity) * 1000;
  const deadline = deadlineIn(timeout);
  const end = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const { sentBytes } = session;
  const hint = () => {
    const sent = call.items === undefined ? "" : `${roundSize(session.sentBytes - sentBytes)} sent; `;
    return `${sent}Ctrl-C cancels`;
  };
  // The status would hide what the user types.
  const sign = call.items?.source.isStandardInput ? undefined : new WaitingSign(hint);
  let failed = false;
  let code: unknown;
  sign?.start();
  try {
    for await (const { fields, more } of session.ask(call, end)) {
      sign?.stop();
      // The server has the same limit, and may be the first to say so.
      if (fields.err === "DEADLINE_EXCEEDED" && performance.now() >= endMs) throw late(timeout);
      failed = "err" in fields;
      code = fields.err;
      const text = show(more ? { ...fields, more } : fields, more);
      if (text !== undefined && !await print(text, { failed: failed && !json })) return { failed, code, isRead: false };
      if (call.items === undefined && lacksItems(fields)) await complain(LACKS_ITEMS);
      if (fields.err === "REPLY_TOO_LARGE") await complain(RAISE_LIMIT);
      if (more) sign?.start();
    }
    return { failed, code, isRead: true };
  } catch (error) {
    if (deadline.aborted) throw late(timeout);
    throw error;
  } finally {
    sign?.stop();
  }
}

function late(timeout: number | undefined): RpcError {
  return new RpcError("TIMEOUT", `no reply within ${timeout} s`);
}

/** The server's error text, in terms of the command line. */
const LACKS_ITEMS = "add the stream: @PATH, a file in chunks, or -, the lines of standard input; see --help";

/** Whether a call failed because its command takes a stream and the call had none. */
function lacksItems({ err, data }: Fields): boolean {
  return err === "INVALID_PARAMS" && Array.isArray(data) && data.some((issue) => issue?.message === NEEDS_ITEMS);
}

/** A signal that aborts after this many seconds; never for `Infinity`. */
export function deadlineIn(seconds: number = Infinity): AbortSignal {
  return seconds === Infinity ? new AbortController().signal : AbortSignal.timeout(seconds * 1000);
}
