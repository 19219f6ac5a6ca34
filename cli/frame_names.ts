/**
 * Explains the bytes of a frame, group by group: the header with the kind of the message, each key and value, the
 * newline.
 *
 * In: the bytes of one frame, valid or not, and their direction. Out: a line for each group, with its bytes in hex and
 * their meaning; the content of containers is indented. Long frames and long texts are cut. Refused: nothing; if the
 * bytes are invalid, the last line says so.
 */

import { FrameScanner } from "../codec/frame.ts";
import { DecodeError } from "../codec/errors.ts";
import { BUILT_IN_NUMBERS, type InvalidMessage } from "../codec/message.ts";
import { type Kind, MESSAGES } from "../codec/message_table.ts";
import { readReply, readRequest } from "../codec/read_message.ts";
import { Reader } from "../codec/reader.ts";
import { beginningOf } from "../codec/text.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import type { Direction } from "./frame_tap.ts";
import { toJson } from "./json.ts";

/** The largest number of groups shown for one frame. */
const MAX_GROUPS = 48;

/** The largest number of bytes shown for one group, and of characters for one text. */
const MAX_BYTES = 12;
const MAX_TEXT = 40;

/** The names of built-in commands by number. */
const COMMAND_NAMES: ReadonlyMap<unknown, string> = new Map(
  [...BUILT_IN_NUMBERS].map(([name, number]) => [number, name]),
);

/** The receiver's reader for each direction. */
const READERS = { sent: readRequest, received: readReply };

/** A group of bytes and its meaning. */
interface Group {
  readonly start: number;
  readonly end: number;
  readonly meaning: string;
}

/** Returns a line for each group. */
export function nameFrame(bytes: Uint8Array, direction: Direction): string[] {
  const lines: string[] = [];
  for (const { start, end, meaning } of groupsOf(bytes, direction)) {
    if (lines.length === MAX_GROUPS) return [...lines, `  and ${bytes.length - start} more bytes`];
    const hex = bytes.subarray(start, Math.min(end, start + MAX_BYTES)).toHex() + (end - start > MAX_BYTES ? ".." : "");
    lines.push(`  ${hex.padEnd(2 * MAX_BYTES + 2)}  ${meaning}`);
  }
  return lines;
}

function* groupsOf(bytes: Uint8Array, direction: Direction): Generator<Group, void> {
  const scanner = new FrameScanner(Infinity);
  const frameBytes = scanner.scan(bytes, 0, bytes.length);
  if (frameBytes <= 0) {
    const meaning = frameBytes === 0 ? "half a frame" : `invalid frame: ${scanner.reason}`;
    return yield { start: 0, end: bytes.length, meaning };
  }
  const { payloadStart, payloadEnd } = scanner;
  const kind = kindIn(bytes, payloadStart, payloadEnd, direction);
  const header = payloadStart === 2 ? "header" : "header of a long frame";
  yield {
    start: 0,
    end: payloadStart,
    meaning: `${header}: ${bytesOf(payloadEnd - payloadStart)} of payload, ${kind}`,
  };
  yield* valuesOf(bytes.subarray(0, payloadEnd), payloadStart, kind);
  yield { start: payloadEnd, end: frameBytes, meaning: "newline: the end of the frame" };
}

/** The kind of a message, as its receiver reads it. */
type MessageKind = Kind | InvalidMessage["kind"];

function kindIn(bytes: Uint8Array, start: number, end: number, direction: Direction): MessageKind {
  const reader = new Reader(DEFAULT_LIMITS);
  reader.begin(bytes, start, end);
  try {
    return READERS[direction](reader).kind;
  } catch (error) {
    if (error instanceof DecodeError) return "invalid message";
    throw error;
  }
}

/** The meaning of a value of `cmd`: a command, or a kind of control message. */
function commandOf(cmd: unknown, kind: MessageKind): string | undefined {
  if (kind === "request" || kind === "invalid message") return COMMAND_NAMES.get(cmd);
  return MESSAGES[kind].direction === "to the server" ? kind : undefined;
}

/** A container being read; `left` counts remaining keys and values. */
interface Container {
  readonly isMap: boolean;
  left: number;
  /** The key of the next value. */
  key: unknown;
}

/** All keys and values of a payload that begins at `start`. */
function* valuesOf(bytes: Uint8Array, start: number, message: MessageKind): Generator<Group, void> {
  const containers: Container[] = [{ isMap: false, left: 1, key: undefined }];
  let position = start;
  while (containers.length > 0) {
    const container = containers[containers.length - 1];
    if (container.left === 0) {
      containers.pop();
      continue;
    }
    const isKey = container.isMap && container.left % 2 === 0;
    container.left--;
    const item = itemAt(bytes, position);
    if (item === undefined) {
      const meaning = position < bytes.length ? "invalid MessagePack" : "a value is missing here";
      return yield { start: position, end: bytes.length, meaning };
    }
    const { end, kind, size } = item;
    let meaning = `${"  ".repeat(containers.length - 1)}${isKey ? "key " : ""}`;
    if (kind === "map" || kind === "array") {
      meaning += `${kind} of ${size}`;
    } else {
      const value = scalarOf(bytes.subarray(position, end));
      meaning += describe(kind, value, end - position, isKey);
      if (isKey) {
        container.key = value;
      } else if (containers.length === 2 && container.key === "cmd") {
        const command = commandOf(value, message);
        if (command !== undefined) meaning += `: ${command}`;
      }
    }
    yield { start: position, end, meaning };
    if (kind === "map") containers.push({ isMap: true, left: 2 * size, key: undefined });
    if (kind === "array") containers.push({ isMap: false, left: size, key: undefined });
    position = end;
  }
  if (position < bytes.length) yield { start: position, end: bytes.length, meaning: "left over" };
}

/** The value of a scalar; `undefined` if it is invalid. */
function scalarOf(bytes: Uint8Array): unknown {
  const reader = new Reader(DEFAULT_LIMITS);
  reader.begin(bytes, 0, bytes.length);
  try {
    const value = reader.readValue();
    reader.finish();
    return value;
  } catch {
    return undefined;
  }
}

function describe(kind: string, value: unknown, bytes: number, isKey: boolean): string {
  if (value === undefined) return kind === "text" ? "text that is not UTF-8" : `${kind} of ${bytesOf(bytes)}`;
  if (value === null || typeof value === "boolean") return value === null ? "nil" : String(value);
  if (value instanceof Uint8Array) return `binary of ${bytesOf(value.length)}`;
  if (typeof value !== "string") return `${kind} ${Object.is(value, -0) ? "-0" : value}`;
  const text = value.length <= MAX_TEXT
    ? toJson(value)
    : `of ${value.length} characters, ${toJson(beginningOf(value, MAX_TEXT))} ..`;
  return isKey ? text : `text ${text}`;
}

function bytesOf(count: number): string {
  return count === 1 ? "1 byte" : `${count} bytes`;
}

type ValueKind = "int" | "float" | "text" | "binary" | "map" | "array" | "extension" | "nil" | "boolean";

/** The end of an item; for a container, the end of its header, and `size` counts its content. */
interface Item {
  readonly end: number;
  readonly kind: ValueKind;
  readonly size: number;
}

/** Types from 0xc0 on: the kind, the size of the length field, and the number of bytes that always follow. */
const TYPES: Readonly<Record<number, [kind: ValueKind, lengthBytes: number, ownBytes: number]>> = {
  ...{ 0xc0: ["nil", 0, 0], 0xc2: ["boolean", 0, 0], 0xc3: ["boolean", 0, 0] },
  ...{ 0xc4: ["binary", 1, 0], 0xc5: ["binary", 2, 0], 0xc6: ["binary", 4, 0] },
  ...{ 0xc7: ["extension", 1, 1], 0xc8: ["extension", 2, 1], 0xc9: ["extension", 4, 1] },
  ...{ 0xca: ["float", 0, 4], 0xcb: ["float", 0, 8] },
  ...{ 0xcc: ["int", 0, 1], 0xcd: ["int", 0, 2], 0xce: ["int", 0, 4], 0xcf: ["int", 0, 8] },
  ...{ 0xd0: ["int", 0, 1], 0xd1: ["int", 0, 2], 0xd2: ["int", 0, 4], 0xd3: ["int", 0, 8] },
  ...{ 0xd4: ["extension", 0, 2], 0xd5: ["extension", 0, 3], 0xd6: ["extension", 0, 5] },
  ...{ 0xd7: ["extension", 0, 9], 0xd8: ["extension", 0, 17] },
  ...{ 0xd9: ["text", 1, 0], 0xda: ["text", 2, 0], 0xdb: ["text", 4, 0] },
  ...{ 0xdc: ["array", 2, 0], 0xdd: ["array", 4, 0], 0xde: ["map", 2, 0], 0xdf: ["map", 4, 0] },
};

/** The item that begins here; `undefined` if it is invalid or incomplete. */
function itemAt(bytes: Uint8Array, start: number): Item | undefined {
  if (start >= bytes.length) return undefined;
  const type = bytes[start];
  if (type < 0x80 || type >= 0xe0) return { end: start + 1, kind: "int", size: 0 };
  if (type < 0x90) return { end: start + 1, kind: "map", size: type & 15 };
  if (type < 0xa0) return { end: start + 1, kind: "array", size: type & 15 };
  const [kind, lengthBytes, ownBytes] = type < 0xc0 ? ["text", 0, type & 31] as const : TYPES[type] ?? [];
  if (kind === undefined || start + 1 + lengthBytes > bytes.length) return undefined;
  let size = 0;
  for (let place = 1; place <= lengthBytes; place++) size = size * 256 + bytes[start + place];
  const isContainer = kind === "map" || kind === "array";
  const end = start + 1 + lengthBytes + ownBytes + (isContainer ? 0 : size);
  return end > bytes.length ? undefined : { end, kind, size };
}
