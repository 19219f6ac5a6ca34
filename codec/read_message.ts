/**
 * Reads messages from payloads (PROTOCOL.md, "Messages").
 *
 * In: a reader at the start of a payload. Out: the message, for a server or for a client. Refused: fields of a wrong
 * type, by an `InvalidMessage` or a `DecodeError`. Unknown messages are accepted, because a newer peer may send them.
 */

import { DecodeError } from "./errors.ts";
import {
  Cancel,
  type ClientMessage,
  type Control,
  Credit,
  type Fields,
  Going,
  InvalidMessage,
  ITEMS,
  MAX_ALIVE_MS,
  MIN_ALIVE_MS,
  ReceivedReply,
  REPLY_FIELDS,
  Request,
  RequestCredit,
  RequestEnd,
  RequestItem,
  type ServerMessage,
  Settings,
  UnknownControl,
  UnknownNotice,
} from "./message.ts";

/** One payload, as the functions that read messages see it. */
export interface Payload {
  /** The memory used by the values read so far, in bytes. */
  readonly weightBytes: number;
  /** The object for the fields that are not the message's own. */
  otherFields(): Record<string, unknown>;
  /** How many keys follow, each before its value. */
  readMapSize(): number;
  readKey(): string;
  readValue(): unknown;
  /** Reads a value that is likely to repeat, such as the name of a command. */
  readName(): unknown;
  /** Reads the next value into a field of a map. */
  readField(map: Record<string, unknown>, key: string): void;
  /** Rejects bytes after the last value. Returns why the message is refused, although it could be read to its end. */
  finish(): string | undefined;
}

const WRONG_SEQ = "seq must be an integer from 0 to 2^53-1";
const WRONG_CONTROL = "a control message must have either settings, or seq with one of cancel, credit, item and end";

/**
 * Reads a payload at the server.
 *
 * @param frameBytes The size of its frame, to count the bytes of each call.
 */
export function readRequest(payload: Payload, frameBytes = 0): ClientMessage | InvalidMessage {
  const params = payload.otherFields();
  let cmd: number | string | undefined;
  let seq: number | undefined;
  let ttl: number | undefined;
  let meta: Record<string, string> | undefined;
  let credit: number | undefined;
  let hasItems = false;
  let wrong = "";
  let wrongSeq = false;
  for (let left = payload.readMapSize(); left > 0; left--) {
    const key = payload.readKey();
    switch (key) {
      case "cmd": {
        const value = payload.readName();
        cmd = typeof value === "string" || isCount(value) ? value : undefined;
        break;
      }
      case "seq": {
        const value = payload.readValue();
        if (isCount(value)) seq = value;
        else wrongSeq = true;
        break;
      }
      case "ttl": {
        const value = payload.readValue();
        if (typeof value === "number" && value > 0 && value < Infinity) ttl = value;
        else wrong = "ttl must be a finite number of milliseconds above 0, and at most 2^53-1 as an integer";
        break;
      }
      case "meta": {
        const value = payload.readValue();
        if (isTextMap(value)) meta = value;
        else if (isEmptyArray(value)) meta = {}; // Lua writes an empty map like this
        else wrong = "meta must be a map of text to text";
        break;
      }
      case "credit": {
        const value = payload.readValue();
        if (isCount(value) && value > 0) credit = value;
        else wrong = "credit must be an integer from 1 to 2^53-1";
        break;
      }
      case ITEMS: {
        if (payload.readValue() === true) hasItems = true;
        else wrong = "$items must be true";
        break;
      }
      default:
        // Names with $ are reserved for later versions: unknown ones are skipped, and are not parameters.
        if (key.startsWith("$")) payload.readValue();
        else payload.readField(params, key);
    }
  }
  wrong = payload.finish() ?? wrong;
  if (wrongSeq) return new InvalidMessage(WRONG_SEQ);
  if (seq === undefined) {
    if (credit !== undefined) wrong ||= "credit needs the seq of its call";
    if (hasItems) wrong ||= "$items needs the seq of its call";
  }
  if (wrong) return new InvalidMessage(wrong, cmd === 0 ? undefined : seq);
  const request = new Request(params, cmd, seq, ttl, meta, credit, hasItems, payload.weightBytes, frameBytes);
  return cmd === 0 ? toControl(request) : request;
}

/** What a control message means, by the name of a field. `credit` is also a field of requests, and is read earlier. */
const MEANINGS: ReadonlyMap<string, "settings" | "cancel" | "item" | "end"> = new Map([
  ["max", "settings"],
  ["alive", "settings"],
  ["notice", "settings"],
  ["cancel", "cancel"],
  ["item", "item"],
  ["end", "end"],
]);

/**
 * A message with `cmd: 0`. Unknown fields are ignored. Only a message's own names are looked up, because a program may
 * have changed `Object.prototype`.
 */
function toControl({ seq, credit, params, weightBytes, frameBytes }: Request): Control | InvalidMessage {
  let meaning = credit === undefined ? undefined : "credit";
  for (const name of Object.keys(params)) {
    const another = MEANINGS.get(name);
    if (another === undefined || another === meaning) continue;
    if (meaning !== undefined) return new InvalidMessage(WRONG_CONTROL);
    meaning = another;
  }
  if (meaning === undefined) return new UnknownControl();
  if (meaning === "settings") return seq === undefined ? toSettings(params) : new InvalidMessage(WRONG_CONTROL);
  if (meaning === "item") {
    return seq === undefined
      ? new InvalidMessage("item needs the seq of its call")
      : new RequestItem(seq, params.item, weightBytes, frameBytes);
  }
  if (meaning === "credit") return new Credit(seq as number, credit as number);
  if (seq === undefined || params[meaning] !== true) {
    return new InvalidMessage(`${meaning} must be true, and needs the seq of its call`);
  }
  return meaning === "cancel" ? new Cancel(seq) : new RequestEnd(seq);
}

function toSettings(params: Fields): Settings | InvalidMessage {
  const { max, alive, notice }: Fields = { __proto__: null, ...params };
  if (max !== undefined && !isCount(max)) return new InvalidMessage("max must be an integer from 0 to 2^53-1");
  if (alive !== undefined && !(isCount(alive) && alive >= MIN_ALIVE_MS && alive <= MAX_ALIVE_MS)) {
    return new InvalidMessage(`alive must be an integer from ${MIN_ALIVE_MS} to ${MAX_ALIVE_MS}`);
  }
  if (notice !== undefined && typeof notice !== "boolean") return new InvalidMessage("notice must be true or false");
  return new Settings({ max, alive, notice });
}

/** Reads a payload at the client. */
export function readReply(payload: Payload): ServerMessage {
  const reply = new ReceivedReply(payload.otherFields());
  for (let left = payload.readMapSize(); left > 0; left--) {
    const key = payload.readKey();
    if (key === "seq") {
      const value = payload.readValue();
      if (!isCount(value)) throw new DecodeError(WRONG_SEQ);
      reply.seq = value;
    } else if (key === "more") {
      reply.more = payload.readValue() === true;
    } else {
      payload.readField(reply.fields, key);
    }
  }
  payload.finish();
  const { fields } = reply;
  if (fields.err !== undefined) reply.more = false; // an error is the end of its call, or nobody would be told
  if (fields.res === undefined && fields.err === undefined && hasUnknown(fields)) return toNotice(reply);
  reply.weightBytes = payload.weightBytes;
  return reply;
}

/** Makes a notice: a message that answers no request. */
function toNotice({ seq, fields: { going, credit } }: ReceivedReply): ServerMessage {
  if (seq !== undefined && credit !== undefined) {
    if (!isCount(credit) || credit === 0) throw new DecodeError("credit must be an integer from 1 to 2^53-1");
    return new RequestCredit(seq, credit);
  }
  if (going === undefined || seq !== undefined) return new UnknownNotice();
  if (typeof going !== "number" || !(going >= 0)) {
    throw new DecodeError("going must be a number of milliseconds from 0 up");
  }
  return new Going(going);
}

function hasUnknown(fields: Fields): boolean {
  return Object.keys(fields).some((name) => !REPLY_FIELDS.has(name));
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
