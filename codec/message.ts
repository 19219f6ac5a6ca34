/**
 * The messages of the wire (PROTOCOL.md, "Requests" to "Meta"): what a payload means to a server and to a client, and how
 * each is written. Field order and reserved names live here and nowhere else.
 *
 * In: a reader at the start of a payload, or a message and a writer. Out: a message, or a payload.
 * Refused: fields of a wrong type, by a `InvalidMessage` or a `DecodeError`; reserved names, by an `EncodeError`.
 */

import type { RpcError } from "../errors.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { DecodeError, EncodeError } from "./errors.ts";
import type { Reader } from "./reader.ts";
import { faultIn, isPlain, kindOf } from "./sendable.ts";
import type { Span, Writer } from "./writer.ts";

/** A map of MessagePack: parameters of a request, fields of a reply. */
export type Fields = Record<string, unknown>;

/** Someone wants a command done (PROTOCOL.md, "Requests"). */
export class Request {
  /** The command's number or name; `undefined` where `cmd` is missing or of another type. */
  cmd: number | string | undefined = undefined;
  /** What the reply carries again; without it, requests are handled one at a time (section 5). */
  seq: number | undefined = undefined;
  /** Milliseconds for which the caller wants the answer (section 6). */
  ttl: number | undefined = undefined;
  /** What is not a parameter: a token, a trace (section 9). */
  meta: Record<string, string> | undefined = undefined;
  /** Items of a stream that the caller still takes; `undefined` where only TCP holds it back (section 8). */
  credit: number | undefined = undefined;
  /** Every other field. */
  params: Fields = {};
  /** What it takes in memory, in bytes, as `weight.ts` counts it. */
  weightBytes = 0;
}

/** A message that is no request: about the connection, or about a request in flight (sections 1, 7, 8). */
export class Control {
  max: number | undefined = undefined;
  seq: number | undefined = undefined;
  cancel = false;
  credit: number | undefined = undefined;
}

/** A sound frame without a sound message in it: it is answered, and the connection goes on. */
export class InvalidMessage {
  /**
   * @param reason What is wrong, without any byte of the peer's.
   * @param seq The request's `seq`, where the rest of it could be read: its caller can then be told.
   */
  constructor(readonly reason: string, readonly seq?: number) {}
}

/** The boundary between frames is lost: nothing behind this can be read. Always the last of its stream. */
export class BadFrame {
  /** @param damage What is wrong with it. */
  constructor(readonly damage: string) {}
}

/** The stream ended inside a frame. Always the last of its stream. */
export class Truncated {
  /** @param receivedBytes How much of the frame has come. */
  constructor(readonly receivedBytes: number) {}
}

/** What the decode stage hands on: messages, and what stood where a message should be. */
export type Decoded<Message> = Message | InvalidMessage | BadFrame | Truncated;

/** What a server sends: a success, with the handler's fields, or a failure. */
export class Reply<Call = unknown> {
  constructor(
    /** The `seq` of the request, if it had one. */
    readonly seq: number | undefined,
    /** `{ res, ... }`, or what went wrong. */
    readonly outcome: Fields | RpcError,
    /** Whether more items of the same stream follow. */
    readonly more: boolean,
    /**
     * What it answers, for its maker. Not a class of its own derived from this one: to construct such a class costs
     * as much as all the rest of a PING's dispatch.
     */
    readonly call: Call | undefined = undefined,
  ) {}
}

/** What a client receives: the fields as they came, without `seq` and `more`. */
export class ReceivedReply {
  seq: number | undefined = undefined;
  more = false;
  fields: Fields = {};
  /** What it takes in memory, in bytes, as `weight.ts` counts it. */
  weightBytes = 0;
}

/** What a caller gives for a call. */
export interface GivenRequest {
  readonly cmd: number | string;
  readonly params: unknown;
  readonly meta: unknown;
  readonly credit: number | undefined;
}

/** What is known of a request when it is written. */
export interface LateFields {
  readonly seq: number | undefined;
  /** A request may have waited for its connection, and less time is left. */
  readonly ttl: number | undefined;
}

/** What a client sends for a call. */
export interface OutgoingRequest extends GivenRequest, LateFields {}

/** The same, whose caller's part was encoded by `encodeGiven()` when it was given. */
export interface EncodedRequest extends LateFields {
  readonly given: Span;
}

/** What a client sends beside requests: fields of a message with `cmd: 0`. */
export class OutgoingControl {
  constructor(readonly fields: { max?: number; seq?: number; cancel?: true; credit?: number }) {}
}

/** Names as they stand on the wire, the byte for "text of three" before their letters. */
const CMD = 0xa3_63_6d_64;
const SEQ = 0xa3_73_65_71;
const TTL = 0xa3_74_74_6c;
const RES = 0xa3_72_65_73;
const ERR = 0xa3_65_72_72;

/** The field by which the last reply of a stream says that there were no items (PROTOCOL.md, "Streams and credit"). */
export const ITEMS = "$items";

const WRONG_SEQ = "seq must be an integer from 0 to 2^53-1";
const WRONG_CONTROL = "a control message says one thing: max, or seq with cancel, or seq with credit";

const RESERVED_IN_REQUEST: ReadonlySet<string> = new Set(["cmd", "seq", "ttl", "meta", "credit"]);
const RESERVED_IN_REPLY: ReadonlySet<string> = new Set(["seq", "res", "err", "msg", "data", "more"]);

/** Whether a parameter may not have this name (PROTOCOL.md, "Requests"). */
export function isReservedParameter(name: string): boolean {
  return RESERVED_IN_REQUEST.has(name) || name.startsWith("$");
}

/** One payload, as a server reads it. */
export function readRequest(reader: Reader): Request | Control | InvalidMessage {
  const request = new Request();
  let wrong = "";
  let wrongSeq = false;
  for (let left = reader.readMapSize(); left > 0; left--) {
    const key = reader.readKey();
    switch (key) {
      case "cmd": {
        const value = reader.readValue();
        request.cmd = isCommand(value) ? value : undefined;
        break;
      }
      case "seq": {
        const value = reader.readValue();
        if (isCount(value)) request.seq = value;
        else wrongSeq = true;
        break;
      }
      case "ttl": {
        const value = reader.readValue();
        if (typeof value === "number" && value > 0 && value < Infinity) request.ttl = value;
        else wrong = "ttl must be a number of milliseconds above 0";
        break;
      }
      case "meta": {
        const value = reader.readValue();
        if (isTextMap(value)) request.meta = value;
        else if (isEmptyArray(value)) request.meta = {}; // which is how Lua writes an empty map
        else wrong = "meta must be a map of texts";
        break;
      }
      case "credit": {
        const value = reader.readValue();
        if (isCount(value) && value > 0) request.credit = value;
        else wrong = "credit must be an integer above 0";
        break;
      }
      default:
        // Names with $ are kept for what the wire may learn: unknown ones are passed over, and are no parameters.
        if (key.startsWith("$")) reader.readValue();
        else reader.readField(request.params, key);
    }
  }
  reader.finish();
  request.weightBytes = reader.weightBytes;
  if (wrongSeq) return new InvalidMessage(WRONG_SEQ);
  if (request.credit !== undefined && request.seq === undefined) wrong ||= "credit needs the seq of its call";
  if (request.cmd === 0) return wrong ? new InvalidMessage(wrong) : toControl(request);
  return wrong ? new InvalidMessage(wrong, request.seq) : request;
}

/** What says nothing that this version knows is passed over: a later client may tell an earlier server something new. */
function toControl({ seq, credit, params }: Request): Control | InvalidMessage {
  const control = new Control();
  const { max, cancel }: Fields = { __proto__: null, ...params };
  if (max !== undefined) {
    if (seq !== undefined || cancel !== undefined) return new InvalidMessage(WRONG_CONTROL);
    if (!isCount(max)) return new InvalidMessage("max must be an integer from 0 to 2^53-1");
    control.max = max;
  } else if (cancel !== undefined) {
    if (credit !== undefined) return new InvalidMessage(WRONG_CONTROL);
    if (cancel !== true || seq === undefined) {
      return new InvalidMessage("cancel must be true, and needs the seq of its call");
    }
    control.seq = seq;
    control.cancel = true;
  } else if (credit !== undefined) {
    control.seq = seq;
    control.credit = credit;
  }
  return control;
}

/** One payload, as a client reads it. */
export function readReply(reader: Reader): ReceivedReply {
  const reply = new ReceivedReply();
  for (let left = reader.readMapSize(); left > 0; left--) {
    const key = reader.readKey();
    if (key === "seq") {
      const value = reader.readValue();
      if (!isCount(value)) throw new DecodeError(WRONG_SEQ);
      reply.seq = value;
    } else if (key === "more") {
      reply.more = reader.readValue() === true;
    } else {
      reader.readField(reply.fields, key);
    }
  }
  reader.finish();
  reply.weightBytes = reader.weightBytes;
  return reply;
}

/**
 * One reply as a payload: `seq`, then `res` or `err`, then the rest, so that the article's replies come out byte
 * for byte. Fields that are `undefined` are left out.
 */
export function writeReply(writer: Writer, reply: Reply): void {
  const failed = reply.outcome instanceof Error;
  const fields: Fields = failed ? { ...(reply.outcome as RpcError).toJSON() } : reply.outcome as Fields;
  try {
    writeReplyFields(writer, reply, fields, failed);
  } catch (error) {
    throw located(error, fields);
  }
}

function writeReplyFields(writer: Writer, { seq, more }: Reply, fields: Fields, failed: boolean): void {
  const first = failed ? "err" : "res";
  const planned = (seq === undefined ? 1 : 2) + (more ? 1 : 0);
  const start = writer.beginMap(planned);
  if (seq !== undefined) {
    writer.writeFour(SEQ);
    writer.writeNumber(seq);
  }
  writer.writeFour(failed ? ERR : RES);
  writer.writeValue(fields[first], 1);
  let others = 0;
  for (const name in fields) {
    if (name === first || !Object.hasOwn(fields, name)) continue;
    const value = fields[name];
    if (value === undefined) continue;
    if (!failed && (RESERVED_IN_REPLY.has(name) || name.startsWith("$") && name !== ITEMS)) {
      throw new EncodeError(`the reply field "${shortened(name)}" is reserved`);
    }
    writer.writeKey(name);
    writer.writeValue(value, 1);
    others++;
  }
  if (more) {
    writer.writeKey("more");
    writer.writeBoolean(true);
  }
  writer.endMap(start, planned, planned + others);
}

/** One request or control message as a payload: parameters before `cmd`, as the article's client writes them. */
export function writeRequest(writer: Writer, message: OutgoingRequest | OutgoingControl): void {
  if (message instanceof OutgoingControl) return writer.writeValue({ cmd: 0, ...message.fields });
  writeGiven(writer, message, (message.seq === undefined ? 0 : 1) + (message.ttl === undefined ? 0 : 1));
  writeLateFields(writer, message);
}

/** The same, for a request whose first part is encoded already. */
export function writeEncodedRequest(writer: Writer, message: EncodedRequest | OutgoingControl): void {
  if (message instanceof OutgoingControl) return writer.writeValue({ cmd: 0, ...message.fields });
  writer.writeEncoded(message.given);
  writeLateFields(writer, message);
}

/** A request up to the fields that are known late. */
export function writeGiven(writer: Writer, request: GivenRequest, lateFields: number): void {
  try {
    writeGivenFields(writer, request, lateFields);
  } catch (error) {
    throw located(error, { params: request.params, meta: request.meta });
  }
}

function writeGivenFields(writer: Writer, { cmd, params, meta, credit }: GivenRequest, lateFields: number): void {
  checkMap("params", params);
  if (meta !== undefined) checkTexts(meta);
  const names = Object.keys(params);
  const others = 1 + (meta === undefined ? 0 : 1) + (credit === undefined ? 0 : 1) + lateFields;
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
  writer.endMap(start, names.length + others, parameters + others);
}

function writeLateFields(writer: Writer, { seq, ttl }: LateFields): void {
  if (seq !== undefined) {
    writer.writeFour(SEQ);
    writer.writeNumber(seq);
  }
  if (ttl !== undefined) {
    writer.writeFour(TTL);
    writer.writeNumber(ttl);
  }
}

/** An object of another class, such as a Map, has nothing that would be sent: its entries are no properties. */
function checkMap(path: string, value: unknown): asserts value is Fields {
  if (typeof value === "object" && value !== null && isPlain(value)) return;
  throw new EncodeError(`${path}: ${kindOf(value)} cannot be sent here, only a plain object`);
}

/** A server refuses any other `meta`. */
function checkTexts(meta: unknown): asserts meta is Record<string, string> {
  checkMap("meta", meta);
  for (const name of Object.keys(meta)) {
    if (typeof meta[name] !== "string") {
      throw new EncodeError(`meta.${shortened(name)}: ${kindOf(meta[name])} cannot be sent here, only text`);
    }
  }
}

/** An error of the writer's, with the path of the field that cannot be sent, if it is for one. */
function located(error: unknown, fields: Fields): unknown {
  if (!(error instanceof EncodeError)) return error;
  for (const name of Object.keys(fields)) {
    const fault = faultIn(fields[name], name, DEFAULT_LIMITS.maxDepth);
    if (fault !== undefined) return new EncodeError(fault, { cause: error });
  }
  return error;
}

/** A name may be a peer's, and of any length; a reply that quotes it is short, whatever the peer takes. */
function shortened(name: string): string {
  return name.length > 40 ? `${name.slice(0, 40)}…` : name;
}

function isCommand(value: unknown): value is number | string {
  return typeof value === "string" || isCount(value);
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isTextMap(value: unknown): value is Record<string, string> {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array || Array.isArray(value)) return false;
  return Object.values(value).every((text) => typeof text === "string");
}

function isEmptyArray(value: unknown): boolean {
  return Array.isArray(value) && value.length === 0;
}
