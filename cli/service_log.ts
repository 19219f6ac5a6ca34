/**
 * The log of a program around a server: what happens to it beyond connections and calls.
 *
 * In: an event. Out: one line on stderr, as the server's own lines look. Refused: nothing.
 */

import { EVENTS, isLogged, type LogEvent, logLine, type LogStyle } from "../handlers/log_line.ts";
import { note, red } from "./output.ts";

/** Logs an event, if its level is logged. Resolves when it is written, or soon after if nobody reads. */
export async function logEvent(event: LogEvent, style: LogStyle): Promise<void> {
  if (!isLogged(event.event, style)) return;
  const line = logLine(event, style);
  const isPlain = style.logFormat === "json" || EVENTS[event.event] === "info" || !Deno.stderr.isTerminal();
  await note(isPlain ? line : red(line));
}
