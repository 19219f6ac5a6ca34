/**
 * The protocol, read by hand and once more: what a stream of bytes means, without any of the shipped code for frames and
 * messages. Slow and plain, so that a mistake there shows as a difference to here.
 *
 * In: bytes. Out: payloads and how they end, or messages.
 */

import {
  ARRAY_WEIGHT,
  BadFrame,
  BINARY_WEIGHT,
  Cancel,
  type ClientMessage,
  Credit,
  type Decoded,
  ELEMENT_WEIGHT,
  FIELD_WEIGHT,
  Going,
  INDEXED_FIELD_WEIGHT,
  INTEGER64_WEIGHT,
  InvalidMessage,
  MAP_WEIGHT,
  MESSAGE_WEIGHT,
  ReceivedReply,
  Request,
  RequestCredit,
  RequestEnd,
  RequestItem,
  type ServerMessage,
  Settings,
  SHORT_KEY_BYTES,
  TEXT_BYTE_WEIGHT,
  TEXT_WEIGHT,
  Truncated,
  UnknownControl,
  UnknownNotice,
} from "../../codec/message.ts";
import { DecodeError } from "../../codec/errors.ts";
import { Reader } from "../../codec/reader.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";

/** Takes a stream apart (PROTOCOL.md, "The frame"): its payloads, and whether it ends well, broken, or inside a frame. */
export function takeApart(
  bytes: Uint8Array,
  limitBytes: number = DEFAULT_LIMITS.maxPayloadBytes,
): { payloads: Uint8Array[]; end: "whole" | "broken" | "cut" } {
  const payloads: Uint8Array[] = [];
  let at = 0;
  while (at < bytes.length) {
    const left = bytes.length - at;
    if (left < 2) return { payloads, end: "cut" };
    let size = (bytes[at] + 224) % 256 * 256 + (bytes[at + 1] + 224) % 256;
    let header = 2;
    if (size === 0xffff) {
      if (left < 6) return { payloads, end: "cut" };
      header = 6;
      size = new DataView(bytes.buffer, bytes.byteOffset + at + 2).getUint32(0);
      if (size < 57_311) return { payloads, end: "broken" };
    } else if (size >= 57_311) {
      return { payloads, end: "broken" };
    }
    if (size > limitBytes) return { payloads, end: "broken" };
    if (left < header + size + 1) return { payloads, end: "cut" };
    if (bytes[at + header + size] !== 0x0a) return { payloads, end: "broken" };
    payloads.push(bytes.subarray(at + header, at + header + size));
    at += header + size + 1;
  }
  return { payloads, end: "whole" };
}

/** What is in the one value of a sound payload: how deep it goes, what it weighs, and its texts. */
export function contentsOf(payload: Uint8Array): { depth: number; weight: number; texts: Uint8Array[] } {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  let [at, depth, weight] = [0, 0, MESSAGE_WEIGHT];
  const texts: Uint8Array[] = [];
  const open = [{ left: 1, isMap: false }]; // what is still to come in each container, the outermost first
  while (open.length > 0) {
    const container = open[open.length - 1];
    if (container.left-- === 0) {
      open.pop();
      continue;
    }
    const isKey = container.isMap && container.left % 2 === 1;
    const type = payload[at++];
    const size = (width: number) => {
      at += width;
      return width === 1 ? view.getUint8(at - 1) : width === 2 ? view.getUint16(at - 2) : view.getUint32(at - 4);
    };
    let [skipped, inside] = [0, -1];
    if (type >= 0x80 && type < 0x90) inside = 2 * (type & 15);
    else if (type >= 0x90 && type < 0xa0) inside = type & 15;
    else if (type >= 0xa0 && type < 0xc0) skipped = type & 31;
    else if (type >= 0xc4 && type <= 0xc6) skipped = size(1 << type - 0xc4);
    else if (type >= 0xca && type <= 0xcb) skipped = 4 << type - 0xca;
    else if (type >= 0xcc && type <= 0xd3) skipped = 1 << (type & 3);
    else if (type >= 0xd9 && type <= 0xdb) skipped = size(1 << type - 0xd9);
    else if (type >= 0xdc && type <= 0xdd) inside = size(2 << type - 0xdc);
    else if (type >= 0xde && type <= 0xdf) inside = 2 * size(2 << type - 0xde);
    const isMap = type < 0x90 || type >= 0xde;
    if (type >= 0xa0 && type < 0xc0 || type >= 0xd9 && type <= 0xdb) {
      texts.push(payload.subarray(at, at + skipped));
      if (!isKey || skipped > SHORT_KEY_BYTES) weight += TEXT_WEIGHT + TEXT_BYTE_WEIGHT * skipped;
      if (isKey && skipped > 0 && payload[at] >= 0x30 && payload[at] <= 0x39) weight += INDEXED_FIELD_WEIGHT;
    } else if (isKey && isAtLeast0(payload, at - 1)) {
      weight += INDEXED_FIELD_WEIGHT;
    }
    if (type >= 0xc4 && type <= 0xc6) weight += BINARY_WEIGHT + skipped;
    if (type === 0xcf || type === 0xd3) weight += INTEGER64_WEIGHT;
    at += skipped;
    if (inside < 0) continue;
    weight += isMap ? MAP_WEIGHT + inside / 2 * FIELD_WEIGHT : ARRAY_WEIGHT + inside * ELEMENT_WEIGHT;
    depth = Math.max(depth, open.push({ left: inside, isMap }) - 1);
  }
  return { depth, weight, texts };
}

/** All messages of a stream, as a server reads it. The texts of refusals are left empty. */
export function requestsOf(bytes: Uint8Array): Decoded<ClientMessage>[] {
  return firstIsMap(bytes) ? messagesOf(bytes, requestOf) : [new BadFrame("")];
}

/** Whether the first payload begins as a map, or an empty array, as far as it has come. */
function firstIsMap(bytes: Uint8Array): boolean {
  const long = bytes[0] === 0x1f && bytes[1] === 0x1f;
  if (takeApart(bytes.subarray(0, long ? 6 : 2)).end === "broken") return true; // which is another fault
  if (bytes[0] === 0x20 && bytes[1] === 0x20) return false;
  const { payloads } = takeApart(bytes);
  const begun = payloads[0] ?? bytes.subarray(long ? 6 : 2);
  const [type, ...size] = begun.subarray(0, begun[0] === 0xdc ? 3 : 5);
  if (type === 0xdc || type === 0xdd) return !size.some((byte) => byte > 0);
  return type === undefined || type >= 0x80 && type <= 0x90 || type === 0xde || type === 0xdf;
}

/** All messages of a stream, as a client reads it. The texts of refusals are left empty. */
export function repliesOf(bytes: Uint8Array): Decoded<ServerMessage>[] {
  return messagesOf(bytes, replyOf);
}

function messagesOf<Message>(
  bytes: Uint8Array,
  messageOf: (entries: RegisteredCommand[]) => Message | InvalidMessage,
): Decoded<Message>[] {
  const { payloads, end } = takeApart(bytes);
  const messages: Decoded<Message>[] = payloads.map((payload) => {
    const entries = entriesOf(payload);
    if (entries === undefined) return new InvalidMessage("");
    const message = messageOf(entries);
    if (message instanceof RequestItem) {
      return new RequestItem(message.seq, message.item, contentsOf(payload).weight, frameOf(payload)) as Message;
    }
    const weightBytes = contentsOf(payload).weight;
    if (message instanceof Request) return Object.assign(message, { weightBytes, frameBytes: frameOf(payload) });
    return message instanceof ReceivedReply ? Object.assign(message, { weightBytes }) : message;
  });
  if (end === "broken") messages.push(new BadFrame(""));
  if (end === "cut") messages.push(new Truncated(0));
  return messages;
}

/** PROTOCOL.md, "The frame": how long the frame of a payload is. */
function frameOf({ length }: Uint8Array): number {
  return length + (length < 57_311 ? 3 : 7);
}

/** Whether an integer is one from 0 up, in whatever form. */
function isAtLeast0(payload: Uint8Array, at: number): boolean {
  const type = payload[at];
  return type < 0x80 || type >= 0xcc && type <= 0xcf || type >= 0xd0 && type <= 0xd3 && payload[at + 1] < 0x80;
}

type RegisteredCommand = [key: string, value: unknown];

/** A payload's keys and values, in their order; a key may come twice. The values are checked elsewhere, against std. */
function entriesOf(payload: Uint8Array): RegisteredCommand[] | undefined {
  const reader = new Reader(DEFAULT_LIMITS);
  reader.begin(payload, 0, payload.length);
  try {
    const entries: RegisteredCommand[] = [];
    for (let left = reader.readMapSize(); left > 0; left--) entries.push([reader.readKey(), reader.readValue()]);
    reader.finish();
    return entries;
  } catch (error) {
    if (error instanceof DecodeError) return undefined;
    throw error;
  }
}

/** PROTOCOL.md, "Requests" to "Meta", "Streams from the caller". Of a key that comes twice the last value counts, but no value may be wrong. */
function requestOf(entries: RegisteredCommand[]): ClientMessage | InvalidMessage {
  const last = new Map(entries);
  const holds = (name: string, isRight: (value: unknown) => boolean) =>
    entries.every(([key, value]) => key !== name || isRight(value));
  const cmd = isCount(last.get("cmd")) || typeof last.get("cmd") === "string" ? last.get("cmd") : undefined;

  if (!holds("seq", isCount)) return new InvalidMessage("");
  const seq = last.get("seq") as number | undefined;
  const sound = holds("ttl", (ttl) => typeof ttl === "number" && ttl > 0 && ttl !== Infinity) &&
    holds("meta", isTextMap) && holds("credit", (credit) => isCount(credit) && credit !== 0) &&
    holds("$items", (items) => items === true);
  const credit = last.get("credit") as number | undefined;

  const needsSeq = credit !== undefined || last.has("$items");
  if (!sound || needsSeq && seq === undefined) return new InvalidMessage("", cmd === 0 ? undefined : seq);
  if (cmd === 0) {
    const max = last.get("max");
    const alive = last.get("alive");
    const notice = last.get("notice");
    const cancel = last.get("cancel");
    const isSettings = [max, alive, notice].some((field) => field !== undefined);
    const ofCall = ["cancel", "credit", "item", "end"].filter((name) => last.has(name));
    const meanings = ofCall.length + (isSettings ? 1 : 0);
    if (meanings > 1 || isSettings && seq !== undefined) return new InvalidMessage("");
    if (isSettings) {
      const isRight = (max === undefined || isCount(max)) && (notice === undefined || typeof notice === "boolean") &&
        (alive === undefined || isCount(alive) && alive as number >= 1_000 && alive as number <= 3_600_000);
      const settings = { max, alive, notice } as { max?: number; alive?: number; notice?: boolean };
      return isRight ? new Settings(settings) : new InvalidMessage("");
    }
    if (meanings === 0) return new UnknownControl();
    if (seq === undefined || ["cancel", "end"].some((name) => last.has(name) && last.get(name) !== true)) {
      return new InvalidMessage("");
    }
    if (ofCall[0] === "item") return new RequestItem(seq, last.get("item"));
    if (ofCall[0] === "credit") return new Credit(seq, credit as number);
    return cancel === true ? new Cancel(seq) : new RequestEnd(seq);
  }
  const reserved = ["cmd", "seq", "ttl", "meta", "credit"];
  const params = Object.fromEntries(entries.filter(([key]) => !reserved.includes(key) && key[0] !== "$"));
  const meta = Array.isArray(last.get("meta")) ? {} : last.get("meta");
  const hasItems = last.has("$items");
  return Object.assign(new Request(), { cmd, seq, ttl: last.get("ttl"), meta, credit, hasItems, params });
}

/** PROTOCOL.md, "Replies", "Order", "Streams and credit". */
function replyOf(entries: RegisteredCommand[]): ServerMessage | InvalidMessage {
  const last = new Map(entries);
  if (!entries.every(([key, value]) => key !== "seq" || isCount(value))) return new InvalidMessage("");
  if (!last.has("res") && !last.has("err")) {
    const known = ["seq", "more", "msg", "data", "$items", "$after", "$id"];
    const credit = last.get("credit");
    if (last.has("seq") && last.has("credit")) {
      const isRight = isCount(credit) && credit !== 0;
      return isRight ? new RequestCredit(last.get("seq") as number, credit as number) : new InvalidMessage("");
    }
    const going = last.get("going");
    if (going !== undefined && !last.has("seq")) {
      return typeof going === "number" && going >= 0 ? new Going(going) : new InvalidMessage("");
    }
    if (entries.some(([key]) => !known.includes(key))) return new UnknownNotice();
  }
  const fields = Object.fromEntries(entries.filter(([key]) => key !== "seq" && key !== "more"));
  return Object.assign(new ReceivedReply(), {
    seq: last.get("seq"),
    more: last.get("more") === true && !last.has("err"),
    fields,
  });
}

function isCount(value: unknown): boolean {
  return typeof value === "number" && value >= 0 && value <= 2 ** 53 - 1 && value % 1 === 0;
}

function isTextMap(value: unknown): boolean {
  if (Array.isArray(value)) return value.length === 0;
  return typeof value === "object" && value !== null && !(value instanceof Uint8Array) &&
    Object.values(value).every((text) => typeof text === "string");
}
