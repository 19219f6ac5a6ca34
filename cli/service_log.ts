/**
 * Logs the events of the program that runs a server: all events except those of connections and calls.
 *
 * In: an event. Out: one line on stderr, in the format of the server's own lines. Refused: nothing.
 */

import { EVENTS, isLogged, type LogEvent, logLine, type LogStyle } from "../handlers/log_line.ts";
import { note, red } from "./output.ts";

/** Logs an event, if its level is logged. Resolves when the line is written, or soon if nobody reads stderr. */
export async function logEvent(event: LogEvent, style: LogStyle): Promise<void> {
  if (!isLogged(event.event, style)) return;
  const line = logLine(event, style);
  const isPlain = style.logFormat === "json" || EVENTS[event.event] === "info" || !Deno.stderr.isTerminal();
  await note(isPlain ? line : red(line));
}
