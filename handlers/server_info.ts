/**
 * What a server tells about itself: the shapes of what INFO and STATS answer with (PROTOCOL.md, "Commands").
 */

import type { LogStyle } from "./log_line.ts";
import type { JsonSchema } from "./standard_schema.ts";

/** What a server can tell about itself. */
export interface ServerReport {
  /** How its log looks, for a middleware that writes one of its own. */
  readonly logStyle: LogStyle;
  /**
   * What INFO answers with.
   *
   * @param withShapes Whether the shapes of the commands are wanted.
   */
  info(withShapes?: boolean): ServerInfo;
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
  /** The shapes, if they were asked for. */
  shapes?: CommandShapes;
}

/** The shapes of a command, as JSON Schema (draft 2020-12): of what crosses the wire. What is not known is not there. */
export interface CommandShapes {
  /** Of its parameters, together. */
  params?: JsonSchema;
  /** Of its result; of a command that answers with a stream, of each item. */
  result?: JsonSchema;
  /** Of each item of the caller's stream. */
  items?: JsonSchema;
  /** The codes with which it fails, each with the shape of its data, or `null` if it has none. */
  errors?: Record<string, JsonSchema | null>;
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

/** The shape of an object, with fields that are always there and others. */
function objectOf(properties: Record<string, JsonSchema>, others: Record<string, JsonSchema> = {}): JsonSchema {
  return { type: "object", properties: { ...properties, ...others }, required: Object.keys(properties) };
}

/** The shape of what INFO answers with. */
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

/** The shape of what STATS answers with. */
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
    draining: { type: "boolean" },
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
