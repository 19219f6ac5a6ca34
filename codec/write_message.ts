/**
 * Writes messages as payloads (PROTOCOL.md, "Messages"). The values of a caller are written at once, so that the caller
 * may then change its objects and buffers.
 *
 * In: a writer and a message; a command, parameters, `meta` and credit; an item of the caller's stream. Out: the
 * payload; the payload without `seq` and `ttl`, which are added when it is sent; the item's value. Refused, by an
 * `EncodeError` with the path of the field: values that cannot be sent; reserved names; values that a server would
 * reject.
 */

import { DEFAULT_LIMITS } from "../limits.ts";
import { EncodeError, faultIn, isPlain, kindOf, PayloadTooLargeError, UnsendableError } from "./errors.ts";
import {
  FIELD_WEIGHT,
  type Fields,
  Going,
  ID,
  isReservedParameter,
  isReservedReplyField,
  ITEMS,
  type KnownControl,
  MAP_WEIGHT,
  type Notice,
  Reply,
  type RequestItem,
} from "./message.ts";
import type { Span } from "./frame.ts";
import { shortened } from "./text.ts";
import { Writer } from "./writer.ts";

/** Longer names are shortened in errors: they may come from a peer. */
const MAX_NAME_CHARS = 40;

/** The part of a request that comes from the caller. */
export interface GivenRequest {
  readonly cmd: number | string;
  readonly params: unknown;
  readonly meta: unknown;
  readonly credit: number | undefined;
  /** Whether a stream of items follows. */
  readonly hasItems?: boolean;
}

/** A request to write: the caller's part, and the fields that are known when it is sent. */
export interface OutgoingRequest extends GivenRequest {
  readonly seq: number | undefined;
  /** The remaining time, which decreases while a request waits. */
  readonly ttl: number | undefined;
}

/** A request whose caller's part was encoded by `encodeGiven()`. */
export interface EncodedRequest extends Pick<OutgoingRequest, "ttl"> {
  readonly given: Span;
}

/** An item of the caller's stream that was encoded by `encodeItem()`. */
export interface EncodedItem {
  readonly kind: "encoded item";
  readonly seq: number;
  readonly item: Span;
}

/** Writes a message of a server: a reply or a notice. */
export function writeServerMessage(writer: Writer, message: Reply | Notice): void {
  if (message instanceof Reply) writeReply(writer, message);
  else if (message instanceof Going) writer.writeValue({ going: message.ms });
  else writer.writeValue({ seq: message.seq, credit: message.items });
}

/** Encoded names: the byte for "text of three", then the letters. */
const CMD = 0xa3_63_6d_64;
const SEQ = 0xa3_73_65_71;
const TTL = 0xa3_74_74_6c;
const RES = 0xa3_72_65_73;
const ERR = 0xa3_65_72_72;

/**
 * Writes a reply: `seq`, then `res` or `err`, then the rest. This order gives the same bytes as the article's replies.
 * Fields that are `undefined` are omitted.
 */
export function writeReply(writer: Writer, { seq, more, outcome }: Reply): void {
  const failed = outcome instanceof Error;
  const fields: Fields = failed ? { ...outcome.toJSON() } : outcome;
  const first = failed ? "err" : "res";
  const planned = (seq === undefined ? 1 : 2) + (more ? 1 : 0);
  const start = writer.beginMap(planned);
  if (seq !== undefined) {
    writer.writeFour(SEQ);
    writer.writeNumber(seq);
  }
  let others = 0;
  try {
    writer.writeFour(failed ? ERR : RES);
    writer.writeValue(fields[first], 1);
    for (const name in fields) {
      if (name === first || !Object.hasOwn(fields, name)) continue;
      const value = fields[name];
      if (value === undefined) continue;
      if (!failed && name !== ITEMS && name !== ID && isReservedReplyField(name)) {
        throw new EncodeError(`the reply field "${shortened(name, MAX_NAME_CHARS)}" is reserved`);
      }
      writer.writeKey(name);
      writer.writeValue(value, 1);
      others++;
    }
  } catch (error) {
    throw located(error, fields, [first, ...Object.keys(fields)]);
  }
  if (more) {
    writer.writeKey("more");
    writer.writeBoolean(true);
  }
  writer.endMap(start, planned, planned + others);
}

/** An item to send. */
type SentItem = Pick<RequestItem, "kind" | "seq" | "item">;

/** A control message to send. */
export type SentControl = Exclude<KnownControl, RequestItem> | SentItem | EncodedItem;

/** Writes a control message. */
export function writeControl(writer: Writer, control: SentControl): void {
  switch (control.kind) {
    case "settings":
      return writer.writeValue({ cmd: 0, max: control.max, alive: control.alive, notice: control.notice });
    case "cancel":
      return writer.writeValue({ cmd: 0, seq: control.seq, cancel: true });
    case "credit":
      return writer.writeValue({ cmd: 0, seq: control.seq, credit: control.items });
    case "request item":
    case "encoded item":
      return writeItem(writer, control);
    case "request end":
      return writer.writeValue({ cmd: 0, seq: control.seq, end: true });
    default:
      control satisfies never; // a new kind needs a case
  }
}

function writeItem(writer: Writer, message: SentItem | EncodedItem): void {
  const start = writer.beginMap(3);
  writer.writeFour(CMD);
  writer.writeNumber(0);
  writer.writeFour(SEQ);
  writer.writeNumber(message.seq);
  writer.writeKey("item");
  if (message.kind === "encoded item") writer.writeEncoded(message.item);
  else writeItemValue(writer, message.item);
  writer.endMap(start, 3, 3);
}

/** Writes the value of an item. */
function writeItemValue(writer: Writer, item: unknown): void {
  try {
    writer.writeValue(item, 1);
  } catch (error) {
    throw located(error, { item });
  }
}

/** Writes a request: parameters before `cmd`, like the article's client. */
export function writeRequest(writer: Writer, request: OutgoingRequest): void {
  writeGiven(writer, request, (request.seq === undefined ? 0 : 1) + (request.ttl === undefined ? 0 : 1));
  writeLateFields(writer, request);
}

/** Writes a request whose caller's part is already encoded. */
export function writeEncodedRequest(writer: Writer, { given, ttl }: EncodedRequest, seq: number | undefined): void {
  writer.writeEncoded(given);
  writeLateFields(writer, { seq, ttl });
}

/** Writes the caller's part of a request. */
function writeGiven(writer: Writer, request: GivenRequest, lateFields: number): void {
  try {
    writeGivenFields(writer, request, lateFields);
  } catch (error) {
    throw located(error, { params: request.params, meta: request.meta });
  }
}

function writeGivenFields(
  writer: Writer,
  { cmd, params, meta, credit, hasItems }: GivenRequest,
  lateFields: number,
): void {
  checkMap("params", params);
  if (meta !== undefined) checkTexts(meta);
  const names = Object.keys(params);
  const others = 1 + (meta === undefined ? 0 : 1) + (credit === undefined ? 0 : 1) + (hasItems ? 1 : 0) + lateFields;
  const start = writer.beginMap(names.length + others);
  let parameters = 0;
  for (const name of names) {
    const value = params[name];
    if (value === undefined) continue;
    if (isReservedParameter(name)) throw new EncodeError(`the parameter name "${name}" is reserved`);
    writer.writeKey(name);
    writer.writeValue(value, 1);
    parameters++;
  }
  writer.writeFour(CMD);
  writer.writeValue(cmd);
  if (meta !== undefined) {
    writer.writeKey("meta");
    writer.writeValue(meta, 1);
  }
  if (credit !== undefined) {
    writer.writeKey("credit");
    writer.writeNumber(credit);
  }
  if (hasItems) {
    writer.writeKey(ITEMS);
    writer.writeBoolean(true);
  }
  writer.endMap(start, names.length + others, parameters + others);
}

function writeLateFields(writer: Writer, { seq, ttl }: Pick<OutgoingRequest, "seq" | "ttl">): void {
  if (seq !== undefined) {
    writer.writeFour(SEQ);
    writer.writeNumber(seq);
  }
  if (ttl !== undefined) {
    writer.writeFour(TTL);
    writer.writeNumber(ttl);
  }
}

/** Rejects objects of other classes: a Map, for example, has no properties that would be sent. */
function checkMap(path: string, value: unknown): asserts value is Fields {
  if (typeof value === "object" && value !== null && isPlain(value)) return;
  throw new EncodeError(`${path}: ${kindOf(value)} cannot be sent here, only a plain object`);
}

/** Checks `meta` as a server does. */
function checkTexts(meta: unknown): asserts meta is Record<string, string> {
  checkMap("meta", meta);
  for (const name of Object.keys(meta)) {
    if (typeof meta[name] !== "string") {
      throw new EncodeError(
        `meta.${shortened(name, MAX_NAME_CHARS)}: ${kindOf(meta[name])} cannot be sent here, only text`,
      );
    }
  }
}

/**
 * Adds the path of the value that cannot be sent to a writer's error. Nothing is searched for another error: in a cycle
 * or a sparse array, only the writer's limits end a search, and here the first such value does.
 *
 * @param names The fields in the order in which they were written.
 */
function located(error: unknown, fields: Fields, names = Object.keys(fields)): unknown {
  if (!(error instanceof UnsendableError)) return error;
  for (const name of names) {
    const fault = faultIn(fields[name], name, DEFAULT_LIMITS.maxDepth);
    if (fault !== undefined) return new EncodeError(fault, { cause: error });
  }
  return error;
}

/** Slabs are small, because a waiting call keeps its slab in memory. */
const SLAB_BYTES = 4_096;

// All clients of the process share one writer. It is taken while it writes: a getter that makes a call gets a new one.
let idleWriter: Writer | undefined = new Writer({ slabBytes: SLAB_BYTES });

/**
 * Encodes the arguments of a call.
 *
 * @param request The arguments.
 * @param laterFields The number of fields that will be added.
 * @param maxPayloadBytes The largest payload.
 * @returns The beginning of the payload.
 * @throws {EncodeError} If they cannot be sent; errors of the caller's getters pass through.
 */
export function encodeGiven(request: GivenRequest, laterFields: number, maxPayloadBytes: number): Span {
  return encoded((writer) => writeGiven(writer, request, laterFields), maxPayloadBytes);
}

/**
 * Encodes the value of an item that may have to be sent again.
 *
 * @param item The value.
 * @param maxPayloadBytes The largest payload.
 * @returns The value's bytes.
 * @throws {EncodeError} If it cannot be sent; errors of the caller's getters pass through.
 */
export function encodeItem(item: unknown, maxPayloadBytes: number): Span {
  return encoded((writer) => writeItemValue(writer, item), maxPayloadBytes, MAP_WEIGHT + 3 * FIELD_WEIGHT);
}

/** @param laterWeight What is added to the message later weighs, in bytes. */
function encoded(write: (writer: Writer) => void, maxPayloadBytes: number, laterWeight = 0): Span {
  const writer = idleWriter ?? new Writer({ slabBytes: SLAB_BYTES });
  idleWriter = undefined;
  try {
    writer.begin(maxPayloadBytes, laterWeight);
    write(writer);
    const { bytes, start, position: end } = writer;
    if (end - start > maxPayloadBytes) throw new PayloadTooLargeError(end - start, maxPayloadBytes);
    writer.finish();
    return { bytes, start, end };
  } finally {
    writer.rewind(0); // remove the bytes of a failed request
    idleWriter = writer;
  }
}
