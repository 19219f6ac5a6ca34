/**
 * Encodes requests, and the messages that follow them, with the small codec for browsers.
 *
 * In: the caller's parameters, options and items. Out: the beginning of a request, without `seq` and `ttl`; the
 * payloads of messages. Refused: parameters, `meta` and items that cannot be sent.
 */

import { decodeCompact, encodeCompact } from "../codec/compact.ts";
import { EncodeError, isPlain, kindOf } from "../codec/errors.ts";
import type { Fields } from "../codec/message.ts";
import type { Span } from "../codec/frame.ts";
import type { CallEncoder } from "./call_options.ts";
import { type ItemMessage, unsendable } from "./outgoing_items.ts";

/** Names that no parameter may have (PROTOCOL.md, "Requests"). Names that begin with `$` are reserved too. */
export const RESERVED: readonly string[] = ["cmd", "seq", "ttl", "meta", "credit"];

/** The encoder of a client in a browser. */
export const compactEncoder: CallEncoder = {
  encodeCall(owner, name, params = {}, { meta, items }, credit) {
    const rest = { cmd: owner.cmdOf(name), meta, credit, $items: items && true };
    return encodeGiven(name, params, rest, owner.settings.maxPayloadBytes);
  },

  encodeResumed({ given }, fields) {
    return spanOf(extended(given, fields)); // its size is checked when it is sent
  },

  encodeItem(item, maxPayloadBytes) {
    return spanOf(encodeCompact(item, "item", maxPayloadBytes));
  },

  copyParams(name, params = {}, maxPayloadBytes) {
    return decodeCompact(bytesOf(encodeGiven(name, params, {}, maxPayloadBytes))) as Fields;
  },
};

function encodeGiven(name: string, params: unknown, rest: Fields, maxPayloadBytes: number): Span {
  try {
    checkMap("params", params);
    const { meta = {} } = rest;
    checkMap("meta", meta);
    for (const [key, text] of Object.entries(meta)) {
      if (typeof text !== "string") {
        throw new EncodeError(`meta.${key}: ${kindOf(text)} cannot be sent here, only text`);
      }
    }
    for (const [key, value] of Object.entries(params)) {
      if (value !== undefined && (RESERVED.includes(key) || key[0] === "$")) {
        throw new EncodeError(`the parameter name "${key}" is reserved`);
      }
    }
    return spanOf(encodeCompact({ ...params, ...rest }, "params", maxPayloadBytes));
  } catch (error) {
    throw unsendable(name, error);
  }
}

function checkMap(name: string, map: unknown): asserts map is object {
  if (map && isPlain(map)) return;
  throw new EncodeError(`${name}: ${kindOf(map)} cannot be sent here, only a plain object`);
}

/**
 * The payload of a request with more fields.
 *
 * @throws {EncodeError} If it is larger than `maxPayloadBytes`.
 */
export function extended(given: Span, fields: Fields, maxPayloadBytes?: number): Uint8Array {
  return encodeCompact({ ...decodeCompact(bytesOf(given)) as Fields, ...fields }, "", maxPayloadBytes);
}

/**
 * The payload of an item, or of the end of a stream.
 *
 * @throws {EncodeError} If it cannot be sent.
 */
export function itemMessage(message: ItemMessage, maxPayloadBytes: number): Uint8Array {
  const { seq, kind } = message;
  if (kind === "request end") return encodeCompact({ cmd: 0, seq, end: true });
  const item = kind === "encoded item" ? decodeCompact(bytesOf(message.item)) : message.item;
  return encodeCompact({ cmd: 0, seq, item }, "", maxPayloadBytes);
}

function spanOf(bytes: Uint8Array): Span {
  return { bytes, start: 0, end: bytes.length };
}

function bytesOf({ bytes, start, end }: Span): Uint8Array {
  return bytes.subarray(start, end);
}
