/**
 * Encodes the requests of calls, before they are sent.
 *
 * In: what the caller gives. Out: the beginning of a request. Refused: parameters and `meta` that cannot be sent.
 */

import { encodeGiven, encodeItem } from "../codec/given.ts";
import type { Fields } from "../codec/message.ts";
import { decode } from "../codec/msgpack.ts";
import { Reader } from "../codec/reader.ts";
import type { EncodedRequest, GivenRequest } from "../codec/write_message.ts";
import type { Span } from "../codec/writer.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import type { CallOptions, CallPolicy, MaybeItems } from "./call_options.ts";
import { unsendable } from "./unsendable.ts";

const NO_PARAMETERS: Fields = Object.freeze({});

/** The client, as its requests see it. */
export interface GivenOwner {
  readonly settings: { readonly sequenced: boolean; readonly maxPayloadBytes: number; readonly policy: CallPolicy };
  /** The number of a command, or its name if it has no number. */
  cmdOf(name: string): number | string;
}

/** Encodes what callers give. */
export interface CallEncoder {
  /** See {@linkcode encodeCall}. */
  encodeCall(owner: GivenOwner, name: string, params: unknown, options: MaybeItems<CallOptions>, credit?: number): Span;
  /** See {@linkcode encodeResumed}. */
  encodeResumed(request: EncodedRequest, place: { after: number | string; credit: number }): Span;
  /** See {@linkcode encodeItem}. */
  encodeItem(item: unknown, maxPayloadBytes: number): Span;
  /** See {@linkcode copyParams}. */
  copyParams(name: string, params: unknown, maxPayloadBytes: number): Fields;
}

/**
 * Encodes the request of a call.
 *
 * @param credit The initial credit of a stream.
 * @throws {RangeError} If the request is too large.
 * @throws {TypeError} If the parameters or `meta` cannot be sent.
 */
export function encodeCall(
  owner: GivenOwner,
  name: string,
  params: unknown,
  options: MaybeItems<CallOptions>,
  credit?: number,
): Span {
  const { sequenced, maxPayloadBytes } = owner.settings;
  const { meta, timeoutMs = owner.settings.policy.timeoutMs, items } = options;
  const lateFields = (sequenced ? 1 : 0) + (timeoutMs === Infinity ? 0 : 1);
  const given: GivenRequest = {
    cmd: owner.cmdOf(name),
    params: params === undefined ? NO_PARAMETERS : params,
    meta,
    credit,
    hasItems: items !== undefined,
  };
  try {
    return encodeGiven(given, lateFields, maxPayloadBytes);
  } catch (error) {
    throw unsendable(name, error);
  }
}

/**
 * Encodes the request of a stream once more, to go on behind its last item.
 *
 * @param request The request as it was sent.
 */
export function encodeResumed(
  { given, ttl }: EncodedRequest,
  { after, credit }: { after: number | string; credit: number },
): Span {
  const lateFields = ttl === undefined ? 1 : 2;
  const reader = new Reader({ maxDepth: DEFAULT_LIMITS.maxDepth, maxMessageBytes: Infinity });
  reader.begin(given.bytes, given.start, given.end);
  const fields: Fields = {};
  for (let left = reader.readMapSize() - lateFields; left > 0; left--) {
    reader.readField(fields, reader.readKey());
  }
  const { cmd, meta, credit: _, ...params } = fields;
  // Its size is checked when it is sent.
  return encodeGiven({ cmd, params: { ...params, after }, meta, credit } as GivenRequest, lateFields, Infinity);
}

/**
 * The parameters as they are now, whatever the caller does with its objects.
 *
 * @throws {RangeError} If they are too large.
 * @throws {TypeError} If they cannot be sent.
 */
export function copyParams(name: string, params: unknown, maxPayloadBytes: number): Fields {
  try {
    const given = { cmd: name, params: params ?? {}, meta: undefined, credit: undefined };
    const { bytes, start, end } = encodeGiven(given, 0, maxPayloadBytes);
    const { cmd: _, ...copy } = decode(bytes.subarray(start, end)) as Fields;
    return copy;
  } catch (error) {
    throw unsendable(name, error);
  }
}

/** The encoder of a client that carries the whole codec. */
export const callEncoder: CallEncoder = { encodeCall, encodeResumed, encodeItem, copyParams };
