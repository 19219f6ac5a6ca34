/**
 * One call: its frames out, each reply printed as it comes, and how it ended.
 *
 * In: a session, a call, and how a reply looks. Out: lines on stdout; an ending. Refused, by an `RpcError`: what the
 * session refuses, and a server that takes longer than it may (`TIMEOUT`).
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { Outgoing } from "./call.ts";
import { print } from "./output.ts";
import type { Session } from "./prompt_connection.ts";
import { WaitingSign } from "./waiting_sign.ts";

/** How a call ended: with `res`, with `err`, or because nobody reads any more what is printed. */
export type Ending = "res" | "err" | "unread";

/** What a call needs. */
export interface Exchange {
  readonly session: Session;
  readonly call: Outgoing;
  /** What to print for a reply; `undefined` for nothing. */
  readonly show: (fields: Fields, more: boolean) => string | undefined;
  /** How long it may take, in seconds; for ever if it is `undefined` or `Infinity`. */
  readonly timeout: number | undefined;
  /** Whether a failure may be red: bare JSON is for programs. */
  readonly json: boolean | undefined;
  /** Ends the call, and its connection. */
  readonly signal?: AbortSignal;
}

/** Makes the call, and prints what comes. */
export async function exchange({ session, call, show, timeout, json, signal }: Exchange): Promise<Ending> {
  const deadline = deadlineIn(timeout);
  const end = signal === undefined ? deadline : AbortSignal.any([signal, deadline]);
  const sign = new WaitingSign("Ctrl-C ends it");
  let ending: Ending = "res";
  sign.start();
  try {
    for await (const { fields, more } of session.ask(call, end)) {
      sign.stop();
      ending = "err" in fields ? "err" : "res";
      const text = show(fields, more);
      if (text !== undefined && !await print(text, { failed: ending === "err" && !json })) return "unread";
      if (more) sign.start();
    }
    return ending;
  } catch (error) {
    if (deadline.aborted) throw new RpcError("TIMEOUT", `no reply within ${timeout} s`);
    throw error;
  } finally {
    sign.stop();
  }
}

/** A signal that is aborted after so many seconds; never, if they have no end. */
export function deadlineIn(seconds: number = Infinity): AbortSignal {
  return seconds === Infinity ? new AbortController().signal : AbortSignal.timeout(seconds * 1000);
}
