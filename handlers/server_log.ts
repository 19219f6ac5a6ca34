/**
 * The log of one server: passes errors that are not sent to a peer to the user's hook, and everything else to stderr.
 *
 * In: errors with their origin, and other events. Out: a line for each event; for an error, a call of the hook if there
 * is one. The hook is not awaited. If it fails, a line is written. Refused: nothing.
 */

import type { OtherProtocol } from "../codec/frame.ts";
import type { BadFrame } from "../codec/message.ts";
import type { Clock } from "../transport/clock.ts";
import { type ErrorOrigin, EventLog, writerOf } from "./event_log.ts";
import type { EventName, LogStyle } from "./log_line.ts";

/** What to say about a peer that speaks another protocol. */
const INSTEAD: Record<OtherProtocol, string> = {
  HTTP: "this port takes packline, and WebSockets if --web-origin is given",
  SSH: "this port takes packline",
  TLS: "this port takes packline without TLS; --cert and --key turn it on",
  PROXY: "this port takes that only from the proxies that --proxy-protocol-from names",
};

/** The log of one server. */
export class ServerLog extends EventLog {
  readonly #hook: ((error: unknown, origin: ErrorOrigin) => void) | undefined;

  /**
   * @param clock The clock for the interval between similar lines.
   * @param style The format of the lines, and which events are logged.
   * @param hook Receives each error in place of stderr.
   */
  constructor(clock: Clock, style: LogStyle, hook?: (error: unknown, origin: ErrorOrigin) => void) {
    super(clock, writerOf(style), style);
    this.#hook = hook;
  }

  /** Logs a broken frame. Never throws. */
  noteBadFrame({ damage, protocol }: BadFrame, peer: string): void {
    this.note(
      protocol === undefined
        ? { event: "bad_frame", peer, code: "BAD_FRAME", message: `has sent a broken frame: ${damage}` }
        : { event: "wrong_protocol", peer, code: protocol, message: `speaks ${protocol}: ${INSTEAD[protocol]}` },
    );
  }

  /** Reports an error. Never throws. */
  report(error: unknown, origin: ErrorOrigin, event?: EventName): void {
    const hook = this.#hook;
    if (hook === undefined) return this.add(error, origin, event);
    const failed = (hookError: unknown) => {
      this.add(error, origin, event);
      this.add(hookError, { command: "onError" });
    };
    try {
      // An async function is also of this type, so handle a promise.
      const done: unknown = hook(error, origin);
      if (done !== undefined) Promise.resolve(done).catch(failed);
    } catch (hookError) {
      failed(hookError);
    }
  }
}
