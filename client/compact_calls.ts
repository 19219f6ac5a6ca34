/**
 * Encodes the requests of calls, and what follows them, with the small codec of browsers.
 *
 * In: what the caller gives. Out: the beginning of a request, without `seq` and `ttl`; the payloads of messages. Refused: parameters,
 * `meta` and items that cannot be sent.
 */

import { decodeCompact, encodeCompact } from "../codec/compact.ts";
import { EncodeError, isPlain, kindOf, PayloadTooLargeError } from "../codec/errors.ts";
import type { Fields } from "../codec/message.ts";
import type { Span } from "../codec/writer.ts";
import type { CallEncoder } from "./call_options.ts";
import { type ItemMessage, unsendable } from "./outgoing_items.ts";

/** Names that no parameter has (PROTOCOL.md, "Requests"); one that begins with `$` is none either. */
export const RESERVED: readonly string[] = ["cmd", "seq", "ttl", "meta", "credit"];

/** The encoder of a client in a browser. */
export const compactEncoder: CallEncoder = {
  encodeCall(owner, name, params = {}, { meta, timeoutMs = owner.settings.policy.timeoutMs, items }, credit) {
    const rest = { cmd: owner.cmdOf(name), meta, credit, $items: items && true };
    const lateFields = timeoutMs === Infinity ? 1 : 2;
    return encodeGiven(name, params, rest, lateFields, owner.settings.maxPayloadBytes);
  },

  encodeResumed(given, lateFields, { after, credit }) {
    // `seq` and `ttl` are not there yet: with as many of anything in their place, it is one value.
    const nothing = encodeCompact({ a: 0, b: 0 }).subarray(1, 1 + 3 * lateFields);
    const { a: _a, b: _b, ...fields } = decodeCompact(joined([bytesOf(given), nothing])) as Fields;
    return spanOf(encodeCompact({ ...fields, after, credit }, "params", lateFields));
  },

  encodeItem(item, maxPayloadBytes) {
    return spanOf(encodeChecked(item, "item", maxPayloadBytes));
  },

  copyParams(name, params = {}, maxPayloadBytes) {
    return decodeCompact(bytesOf(encodeGiven(name, params, {}, 0, maxPayloadBytes))) as Fields;
  },
};

function encodeGiven(name: string, params: unknown, rest: Fields, lateFields: number, maxPayloadBytes: number): Span {
  try {
    checkMap("params", params);
    const { meta } = rest;
    if (meta !== undefined) {
      checkMap("meta", meta);
      for (const [key, text] of Object.entries(meta)) {
        if (typeof text !== "string") {
          throw new EncodeError(`meta.${key}: ${kindOf(text)} cannot be sent here, only text`);
        }
      }
    }
    for (const [key, value] of Object.entries(params)) {
      if (value !== undefined && (RESERVED.includes(key) || key.startsWith("$"))) {
        throw new EncodeError(`the parameter name "${key}" is reserved`);
      }
    }
    return spanOf(encodeChecked({ ...params, ...rest }, "params", maxPayloadBytes, lateFields));
  } catch (error) {
    throw unsendable(name, error);
  }
}

function checkMap(name: string, map: unknown): asserts map is object {
  if (typeof map === "object" && map !== null && isPlain(map)) return;
  throw new EncodeError(`${name}: ${kindOf(map)} cannot be sent here, only a plain object`);
}

function encodeChecked(value: unknown, path: string, maxPayloadBytes: number, laterFields = 0): Uint8Array {
  const bytes = encodeCompact(value, path, laterFields);
  if (bytes.length > maxPayloadBytes) throw new PayloadTooLargeError(bytes.length, maxPayloadBytes);
  return bytes;
}

/** The payload of a request. */
export function requestOf(given: Span, seq: number, ttl: number | undefined): Uint8Array {
  return joined([bytesOf(given), encodeCompact({ seq, ttl }).subarray(1)]);
}

/**
 * The payload of an item, or of the end of a stream.
 *
 * @throws {EncodeError} If it cannot be sent.
 */
export function itemMessage(message: ItemMessage, maxPayloadBytes: number): Uint8Array {
  const { seq, kind } = message;
  if (kind === "request end") return encodeCompact({ cmd: 0, seq, end: true });
  const item = kind === "encoded item" ? bytesOf(message.item) : encodeChecked(message.item, "item", maxPayloadBytes);
  const head = encodeCompact({ cmd: 0, seq, item: null }); // nil is the last byte
  return joined([head.subarray(0, -1), item]);
}

/** Pieces in one. */
export function joined(pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((bytes, { length }) => bytes + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

function spanOf(bytes: Uint8Array): Span {
  return { bytes, start: 0, end: bytes.length };
}

function bytesOf({ bytes, start, end }: Span): Uint8Array {
  return bytes.subarray(start, end);
}
