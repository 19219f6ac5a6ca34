/**
 * A log of calls.
 *
 * In: calls. Out: a line for each, at its end. Refused: a receiver of lines that is no function.
 */

import { kindOf } from "../codec/errors.ts";
import { word } from "../codec/printable.ts";
import type { Middleware } from "./command.ts";
import { type CallContext, ON_END } from "./context.ts";
import { writerOf } from "./event_log.ts";
import { cut, logLine } from "./log_line.ts";

/**
 * Makes a middleware that writes a line at the end of each call: the time, the caller, the command, `ok` or the error
 * code that the caller got, and the milliseconds it took. If the caller is gone, the code is `CONNECTION_LOST`. The end
 * of a stream is its last item. Each of them is one word: a code or a name with other characters, such as spaces, is
 * quoted as in JSON. So is a code `ok`. With `logFormat: "json"` it is a line of
 * JSON, the event `call` (docs/production.md, "Logs"). A call that does not reach it has no line: one of an unknown
 * command, one that the server refuses, or one that ends before its turn.
 *
 * @param write Takes a line, without a line break. No call waits for it, and its error, also a later one, only goes to
 * `onError`. By default the line goes to the log, which is stderr. If nobody reads that, lines are dropped and counted.
 * @returns The middleware. Put it first, so that it also sees the calls that other middleware refuses.
 * @throws {TypeError} If `write` is no function.
 *
 * @example Two lines
 * ```ts
 * import { accessLog, connect, serve } from "../mod.ts";
 * import { assertMatch } from "@std/assert";
 *
 * const lines: string[] = [];
 * await using server = await serve({ port: 0, middleware: [accessLog((line) => lines.push(line))] });
 * await using client = await connect({ port: server.port });
 * await client.call.PING();
 * assertMatch(lines[0], /^\d{4}-\S+Z 127.0.0.1:\d+ PING ok \d+\.\d ms$/);
 * ```
 */
export function accessLog(write?: (line: string) => unknown): Middleware {
  if (write !== undefined && typeof write !== "function") {
    throw new TypeError(`Cannot use ${kindOf(write)} as the argument of accessLog(): it must be a function`);
  }
  return (call, next) => {
    const { clock, command, peer, server: { logStyle } } = call;
    const startMs = clock.now();
    // The result of next() is not what the caller gets if it cannot be encoded, comes too late or is replaced.
    (call as CallContext)[ON_END]((code) => {
      const ms = (clock.now() - startMs).toFixed(1);
      const message = `${word(command)} ${word(code ?? null, "ok")} ${ms} ms`;
      const line = logStyle.logFormat === "json"
        ? logLine({ event: "call", peer, command, code, durationMs: Number(ms), message }, logStyle)
        : `${new Date().toISOString()} ${word(peer)} ${cut(message)}`;
      return (write ?? writerOf(logStyle))(line);
    });
    return next();
  };
}
