/**
 * A log of calls.
 *
 * In: calls. Out: a line for each, at its end.
 */

import { printable } from "../codec/printable.ts";
import { RpcError } from "../errors.ts";
import type { Middleware } from "./command.ts";
import { writerOf } from "./event_log.ts";
import { logLine } from "./log_line.ts";

/**
 * Makes a middleware that writes a line at the end of each call: the time, the caller, the command, `ok` or the error
 * code, and the milliseconds it took. The end of a stream is its last item. Data from a caller cannot start a new line.
 * With `logFormat: "json"` it is a line of JSON, the event `call` (docs/production.md, "Logs").
 *
 * @param write Takes a line, without a line break. By default it goes to the log, which is stderr: no call waits for it,
 * and if nobody reads it, lines are dropped and counted.
 * @returns The middleware. Put it first, so that it also sees the calls that other middleware refuses.
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
  return async ({ clock, command, peer, server: { logStyle } }, next) => {
    const startMs = clock.now();
    let code: string | undefined;
    try {
      return await next();
    } catch (error) {
      code = error instanceof RpcError ? error.code : "INTERNAL";
      throw error;
    } finally {
      const ms = (clock.now() - startMs).toFixed(1);
      const message = `${command} ${code ?? "ok"} ${ms} ms`;
      const line = logStyle.logFormat === "json"
        ? logLine({ event: "call", peer, command, code, durationMs: Number(ms), message }, logStyle)
        : printable(`${new Date().toISOString()} ${peer} ${message}`);
      (write ?? writerOf(logStyle))(line);
    }
  };
}
