/**
 * What a server reports about itself: the types and shapes of the results of INFO and STATS (PROTOCOL.md, "Commands").
 */

import type { LogStyle } from "./log_line.ts";
import type { JsonSchema } from "./standard_schema.ts";

/** The description and the statistics of a server. */
export interface ServerReport {
  /** The format of its log, for a middleware that writes its own lines. */
  readonly logStyle: LogStyle;
  /**
   * The result of INFO.
   *
   * @param withShapes Whether to include the shapes of the commands.
   */
  info(withShapes?: boolean): ServerInfo;
  /** The result of STATS. */
  statistics(): ServerStatistics;
  /** The result of STATS with `all`: the sum over all workers, if there are several. */
  statisticsOfAll(): Promise<ServerStatistics>;
}

/** One command, as INFO describes it. */
export interface CommandInfo {
  /** Its name. */
  name: string;
  /** Its number, or `null` if it has none. */
  number: number | null;
  /** A description in one line. */
  summary: string;
  /** The names of its parameters. */
  params: readonly string[];
  /** Whether it answers with a stream. */
  stream: boolean;
  /** `true` if it needs a stream of items; otherwise absent. */
  items?: true;
  /** The shapes, if they were asked for. */
  shapes?: CommandShapes;
}

/** The shapes of a command's values on the wire, as JSON Schema (draft 2020-12). Unknown shapes are absent. */
export interface CommandShapes {
  /** The shape of its parameters, together. */
  params?: JsonSchema;
  /** The shape of its result, or of each item if it answers with a stream. */
  result?: JsonSchema;
  /** The shape of each item of the caller's stream. */
  items?: JsonSchema;
  /** Its error codes, each with the shape of its data, or `null` if it has none. */
  errors?: Record<string, JsonSchema | null>;
}

/** The result of INFO. */
export interface ServerInfo {
  /** Always `packline`. */
  name: string;
  /** The version of packline. */
  version: string;
  /** The version of the protocol. */
  protocol: number;
  /** Seconds since the server started. */
  uptime: number;
  /** The limits in effect, by name. Infinite limits are absent. */
  limits: Record<string, number>;
  /** All commands, in the order of their numbers. */
  commands: CommandInfo[];
  /** The number of this worker, from 1. Absent if there is only one. */
  worker?: number;
}

/** The counts of one command in STATS. */
export interface CommandStatistics {
  /** Calls that got their final reply. */
  calls: number;
  /** Failed calls, by code. After 64 codes, all others count as `OTHER`. */
  errors: Record<string, number>;
  /** Calls without a final reply yet. */
  inFlight: number;
  /** Milliseconds from arrival to reply, the sum of all calls. */
  totalMs: number;
  /** The slowest call, in milliseconds. */
  maxMs: number;
  /**
   * Counts of calls by duration: up to 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1,000, 2,500, 5,000 and
   * 10,000 milliseconds, each without the shorter ones, and all longer calls.
   */
  durations: number[];
}

/** The result of STATS. */
export interface ServerStatistics {
  /** Seconds since the server started. */
  uptime: number;
  /** Connections that are open, were accepted since the start, and were refused. */
  connections: { open: number; accepted: number; refused: number };
  /** Requests whose handler runs. */
  inFlight: number;
  /** Bytes read and written. */
  bytes: { received: number; sent: number };
  /**
   * Invalid frames and messages; connections that ended inside a frame; requests of unknown commands; requests refused
   * with `OVERLOADED`.
   */
  refused: { badFrame: number; invalidMessage: number; truncated: number; unknownCommand: number; overloaded: number };
  /** Results of handlers whose call was already over. */
  lateReplies: number;
  /**
   * Whether a shutdown has begun: the server accepts no connection, and answers the calls in flight. With several
   * workers, whether at least one shuts down.
   */
  draining: boolean;
  /** The maximum of `connections.open` and of `inFlight`. With several workers, their sums. */
  limits: { maxConnections: number; maxInFlightTotal: number };
  /** Counts by command name. */
  commands: Record<string, CommandStatistics>;
  /** The number of the worker that has answered, from 1. Absent if there is only one. */
  worker?: number;
  /** With `all`: the workers in the sum, and the workers that did not answer in time. */
  workers?: { counted: number[]; silent: number[] };
}

const TEXT = { type: "string" };
const NUMBER = { type: "number" };
const COUNT = { type: "integer", minimum: 0 };
const BOOLEAN = { type: "boolean" };

function listOf(items: JsonSchema): JsonSchema {
  return { type: "array", items };
}

function mapOf(values: JsonSchema): JsonSchema {
  return { type: "object", additionalProperties: values };
}

/** The shape of an object with required fields and other fields. */
function objectOf(properties: Record<string, JsonSchema>, others: Record<string, JsonSchema> = {}): JsonSchema {
  return { type: "object", properties: { ...properties, ...others }, required: Object.keys(properties) };
}

/** The shape of the result of INFO. */
export const INFO_SHAPE: JsonSchema = objectOf(
  {
    name: TEXT,
    version: TEXT,
    protocol: COUNT,
    uptime: NUMBER,
    limits: mapOf(NUMBER),
    commands: listOf(objectOf(
      { name: TEXT, number: { type: ["integer", "null"] }, summary: TEXT, params: listOf(TEXT), stream: BOOLEAN },
      { items: { const: true }, shapes: { type: "object" } },
    )),
  },
  { worker: COUNT },
);

/** The shape of the result of STATS. */
export const STATISTICS_SHAPE: JsonSchema = objectOf(
  {
    uptime: NUMBER,
    connections: objectOf({ open: COUNT, accepted: COUNT, refused: COUNT }),
    inFlight: COUNT,
    bytes: objectOf({ received: COUNT, sent: COUNT }),
    refused: objectOf({
      badFrame: COUNT,
      invalidMessage: COUNT,
      truncated: COUNT,
      unknownCommand: COUNT,
      overloaded: COUNT,
    }),
    lateReplies: COUNT,
    draining: BOOLEAN,
    limits: objectOf({ maxConnections: COUNT, maxInFlightTotal: COUNT }),
    commands: mapOf(objectOf({
      calls: COUNT,
      errors: mapOf(COUNT),
      inFlight: COUNT,
      totalMs: NUMBER,
      maxMs: NUMBER,
      durations: listOf(COUNT),
    })),
  },
  { worker: COUNT, workers: objectOf({ counted: listOf(COUNT), silent: listOf(COUNT) }) },
);
