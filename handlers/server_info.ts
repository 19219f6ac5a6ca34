/**
 * What a server tells about itself: the shapes of what INFO and STATS answer with (PROTOCOL.md, "Commands").
 */

import type { LogStyle } from "./log_line.ts";

/** What a server can tell about itself. */
export interface ServerReport {
  /** How its log looks, for a middleware that writes one of its own. */
  readonly logStyle: LogStyle;
  /** What INFO answers with. */
  info(): ServerInfo;
  /** What STATS answers with. */
  statistics(): ServerStatistics;
  /** What STATS answers with if it is asked for all: the sum over the workers, where the server is one of several. */
  statisticsOfAll(): Promise<ServerStatistics>;
}

/** One command, as INFO tells it. */
export interface CommandInfo {
  /** By which name it goes. */
  name: string;
  /** By which number it goes, if it has one. */
  number: number | null;
  /** One line for people. */
  summary: string;
  /** The names of its parameters. */
  params: readonly string[];
  /** Whether it answers with a stream. */
  stream: boolean;
  /** `true` if it takes a stream of items; not there if it does not need one. */
  items?: true;
}

/** What INFO answers with. */
export interface ServerInfo {
  /** Always `packline`. */
  name: string;
  /** The version of this code. */
  version: string;
  /** The version of the wire. */
  protocol: number;
  /** Seconds since the server started. */
  uptime: number;
  /** The limits in force, by name: one that is without end is not there. */
  limits: Record<string, number>;
  /** All commands, in the order of their numbers. */
  commands: CommandInfo[];
  /** Which of several workers this is, from 1; not there if there is but one. */
  worker?: number;
}

/** Counts of one command, as STATS tells them. */
export interface CommandStatistics {
  /** Calls that got their final reply. */
  calls: number;
  /** Failures among them, by code; of more than 64 codes, the rest as `OTHER`. */
  errors: Record<string, number>;
  /** Calls without a final reply yet. */
  inFlight: number;
  /** Milliseconds from arrival to reply, over all calls. */
  totalMs: number;
  /** The slowest call, in milliseconds. */
  maxMs: number;
  /**
   * Calls by how long they took: up to 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1,000, 2,500, 5,000 and
   * 10,000 milliseconds, each without those before it, and longer.
   */
  durations: number[];
}

/** What STATS answers with. */
export interface ServerStatistics {
  /** Seconds since the server started. */
  uptime: number;
  /** Connections now, in all, and refused. */
  connections: { open: number; accepted: number; refused: number };
  /** Requests whose handler runs. */
  inFlight: number;
  /** Bytes read and written. */
  bytes: { received: number; sent: number };
  /** What was wrong with frames and messages, by code; streams that ended inside a frame; requests refused as `OVERLOADED`. */
  refused: { badFrame: number; invalidMessage: number; truncated: number; unknownCommand: number; overloaded: number };
  /** Replies that came too late for anyone to want them. */
  lateReplies: number;
  /** Whether a shutdown has begun: no connection is accepted, and what is in flight is answered. Of several workers, of one at the least. */
  draining: boolean;
  /** What `connections.open` and `inFlight` may be at the most; of several workers, together. */
  limits: { maxConnections: number; maxInFlightTotal: number };
  /** Counts by command name. */
  commands: Record<string, CommandStatistics>;
  /** Which of several workers has answered, from 1; not there if there is but one. */
  worker?: number;
  /** Where these are the counts of all: whose are in them, and whose are not, because they did not answer in time. */
  workers?: { counted: number[]; silent: number[] };
}
