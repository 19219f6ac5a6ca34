/**
 * The events of the log, and the format of their lines: text for people, or JSON for programs.
 *
 * In: an event. Out: one line. Data from a peer cannot start a line, move the cursor, or end a field of JSON.
 * Refused: nothing.
 */

import { printable } from "../codec/printable.ts";
import { shortened } from "../codec/text.ts";
import type { OptionKind } from "../limits.ts";

/** How much is logged. Each level includes the levels before it. */
export type LogLevel = "error" | "warn" | "info" | "debug";

/** The format of a line. */
export type LogFormat = "text" | "json";

/** The levels, the most severe first. */
export const LOG_LEVELS: readonly LogLevel[] = ["error", "warn", "info", "debug"];

/** The formats. */
export const LOG_FORMATS: readonly LogFormat[] = ["text", "json"];

/** Every event, with its level (docs/production.md, "Logs"). */
export const EVENTS = {
  handler_error: "error",
  server_error: "error",
  accept_failed: "error",
  start_failed: "error",
  wrong_protocol: "warn",
  proxy_header: "warn",
  upgrade_refused: "warn",
  slow_frame: "warn",
  connection_refused: "warn",
  certificate: "warn",
  renewal_failed: "warn",
  worker_ended: "warn",
  lines_dropped: "warn",
  worker_listening: "info",
  renewed: "info",
  stopping: "info",
  stopped: "info",
  call: "info",
  connection_opened: "debug",
  connection_closed: "debug",
  bad_frame: "debug",
  tls_failed: "debug",
} as const satisfies Record<string, LogLevel>;

/** The name of an event. */
export type EventName = keyof typeof EVENTS;

/** An event, as it is logged. */
export interface LogEvent {
  readonly event: EventName;
  /** What happened. If there is a peer and no error, the peer is the subject of the sentence. */
  readonly message: string;
  /** The number of the worker that the event is about. The message contains it too. */
  readonly worker?: number;
  readonly peer?: string;
  readonly command?: string;
  /** The code of an error, or the protocol that the peer speaks. */
  readonly code?: string;
  /** How long a call took, in milliseconds. */
  readonly durationMs?: number;
  /** Set for an error: its text and where it was thrown. */
  readonly stack?: string;
  /** How many similar events were left out before it. */
  readonly more?: number;
}

/** How a process logs. */
export interface LogStyle {
  /** Text by default. */
  readonly logFormat?: LogFormat;
  /** `info` by default. */
  readonly logLevel?: LogLevel;
  /** The number of this process among the workers. */
  readonly worker?: number;
}

/** The check of `logLevel`. */
export const LOG_LEVEL: OptionKind = oneOf(LOG_LEVELS);

/** The check of `logFormat`. */
export const LOG_FORMAT: OptionKind = oneOf(LOG_FORMATS);

/** Longer texts are cut: a message may contain a peer's whole input. */
const MAX_CHARS = 4_000;

/** Whether an event is logged at a level. The default level leaves out the events of single connections. */
export function isLogged(event: EventName, { logLevel = "info" }: LogStyle): boolean {
  return LOG_LEVELS.indexOf(EVENTS[event]) <= LOG_LEVELS.indexOf(logLevel);
}

/** An event as a line, without a line break. */
export function logLine(event: LogEvent, { logFormat = "text", worker }: LogStyle): string {
  // Cut first: a text may be megabytes long.
  const fields = Object.entries(event).map(([name, value]) => [name, typeof value === "string" ? cut(value) : value]);
  const short: LogEvent = Object.fromEntries(fields);
  return printable(logFormat === "json" ? jsonOf(short, worker ?? event.worker) : textOf(short, worker));
}

/** Cuts a text that is too long for a line. */
export function cut(text: string): string {
  return shortened(text, MAX_CHARS);
}

/** The field names are stable. Escaping does not change the text: JSON reads `\uXXXX` as the character. */
function jsonOf(
  { event, message, peer, command, code, durationMs, stack, more }: LogEvent,
  worker: number | undefined,
): string {
  return JSON.stringify({
    ...{ time: new Date().toISOString(), level: EVENTS[event], event, worker, peer, command, code, durationMs },
    ...{ message, stack, more },
  });
}

function textOf(
  { peer, command, message, stack, more = 0 }: LogEvent,
  worker: number | undefined,
): string {
  const number = worker === undefined ? "" : `worker ${worker}: `;
  const where = [command && `in ${command}`, peer && `for ${peer}`].filter(Boolean).join(" ");
  const subject = stack === undefined ? peer && `${peer} ` : `error${where && ` ${where}`}: `;
  const count = more > 0 ? ` (and ${more.toLocaleString("en-US")} more like this)` : "";
  return `packline: ${number}${subject ?? ""}${(stack ?? message).replaceAll(/\s*\n\s*/g, " | ")}${count}`;
}

function oneOf(values: readonly string[]): OptionKind {
  return {
    is: (value) => values.includes(value as string),
    must: `be one of ${values.map((value) => `"${value}"`).join(", ")}`,
  };
}
