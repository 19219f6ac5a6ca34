/**
 * Reads a call from the words of a command line, and encodes its frames.
 *
 * In: words: a command's name, then `key=value` pairs, and at most one stream of items (see `given_items.ts`). Out: the
 * name, parameters and stream, or the frames. A value that parses as JSON (see `json.ts`) is JSON, otherwise it is
 * text: `times=2` is a number, `name=Ada`, `id=007` and `id='"2"'` are text; `name=@FILE` and `name=-` read a file and
 * standard input (see `values.ts`). Refused, by a `UsageError`: no command, a word without `=`, a parameter or a stream
 * given twice, a reserved name, parameters that cannot be sent.
 *
 * `DELAY 2` is short for `DELAY sleep=2`. A value that is not a number is omitted, as by the article's client, and the
 * server replies with an error.
 */

import { encodeFrame } from "../codec/encode.ts";
import {
  BUILT_IN_NUMBERS,
  Cancel,
  type Fields,
  isReservedParameter,
  RequestEnd,
  RequestItem,
  Settings,
} from "../codec/message.ts";
import { EncodeError, PayloadTooLargeError } from "../codec/errors.ts";
import { setField } from "../codec/text.ts";
import { writeControl, writeRequest } from "../codec/write_message.ts";
import type { Writer } from "../codec/writer.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { DEFAULT_ALIVE_MS, DEFAULT_LIMITS } from "../limits.ts";
import { UsageError } from "./arguments.ts";
import { type GivenItems, namesItems, readGivenItems } from "./given_items.ts";
import { readValue, type StandardInput } from "./values.ts";

/** A call to make. */
export interface CommandCall {
  readonly name: string;
  readonly params: Fields;
  /** The caller's stream of items. */
  readonly items?: GivenItems;
}

/** Parses the words. With an empty `input`, standard input cannot be used for a value or for items. */
export function readCall(words: readonly string[], input: StandardInput = {}): CommandCall {
  const [name, ...rest] = words;
  if (name === undefined || namesItems(name)) throw new UsageError("specify a command to call");
  const params: Fields = {};
  let source: string | undefined;
  for (const [place, word] of rest.entries()) {
    if (namesItems(word)) {
      if (source !== undefined) throw new UsageError(`a call has one stream of items: "${source}" or "${word}"`);
      source = word;
      continue;
    }
    const short = name === "DELAY" && place === 0 && !word.includes("=");
    const [key, ...texts] = short ? ["sleep", word] : word.split("=");
    if (texts.length === 0 || key === "") throw new UsageError(`"${word}" is not a parameter: write key=value`);
    if (isReservedParameter(key)) throw new UsageError(`the parameter name "${key}" is reserved`);
    if (Object.hasOwn(params, key)) throw new UsageError(`the parameter "${key}" is given twice`);
    const text = texts.join("=");
    setField(params, key, short ? secondsOf(text) : readValue(key, text, input));
  }
  return source === undefined ? { name, params } : { name, params, items: readGivenItems(source, input) };
}

/**
 * The command in `describe COMMAND`. A server's own command `describe` can still be called: a single word without `=`
 * is not a parameter and not a stream.
 */
export function describedBy([verb, name, ...more]: readonly string[]): string | undefined {
  if (verb !== "describe" || name === undefined || more.length > 0) return undefined;
  return name.includes("=") || namesItems(name) ? undefined : name;
}

/** The text as a number; `undefined`, which is not sent, if it is not one. */
function secondsOf(text: string): number | undefined {
  const seconds = text.trim() === "" ? NaN : Number(text);
  return Number.isNaN(seconds) ? undefined : seconds;
}

/** An encoded call. */
export interface Outgoing {
  readonly request: Uint8Array;
  /** The `seq` of the request. */
  readonly seq?: number;
  /**
   * Tells the server the largest reply, and promises signs of life; sent once, before the first request with settings.
   */
  readonly settings?: Uint8Array;
  /** The stream that follows the request. */
  readonly items?: CallItems;
}

/** A stream of items to send. */
export interface CallItems {
  readonly source: GivenItems;
  /** The `seq` of the call. */
  readonly seq: number;
  /** The largest payload of an item. */
  readonly maxPayloadBytes: number;
}

/** Differences from the calls of the article's client. */
export interface OutgoingOptions {
  /** The number by which the call can be cancelled. */
  readonly seq?: number;
  /** Metadata of the call, such as a token. */
  readonly meta?: Record<string, string>;
  /** The largest payload, in both directions. */
  readonly maxPayloadBytes?: number;
  /** The time limit in seconds, which the handler gets too. */
  readonly timeout?: number;
}

/** The commands of the article's server, which knows no settings. Their replies are never long. */
const ARTICLE_COMMANDS: ReadonlySet<string> = new Set(["PING", "DELAY"]);

/**
 * Encodes a call. Built-in commands are sent by number, as in the article, others by name. The article's own commands
 * are encoded to exactly the bytes that its client sends.
 *
 * A request with settings has a `seq`, because a reply without one shows that the server knows neither. A request with
 * items has a `seq` too, because each item names its call by it.
 */
export function outgoing({ name, params, items: source }: CommandCall, options: OutgoingOptions = {}): Outgoing {
  const { seq, meta, maxPayloadBytes, timeout = Infinity } = options;
  const cmd = BUILT_IN_NUMBERS.get(name) ?? name;
  const max = maxPayloadBytes ?? DEFAULT_LIMITS.maxPayloadBytes;
  const isPlain = source === undefined && (ARTICLE_COMMANDS.has(name) || max === MAX_SHORT_PAYLOAD_BYTES);
  const number = seq ?? (isPlain ? undefined : 1);
  const ttl = isPlain || timeout === Infinity ? undefined : timeout * 1000;
  const fields = { ttl, meta, credit: undefined, hasItems: source !== undefined };
  const request = encode({ cmd, params, seq: number, ...fields }, writeRequest, max, "parameters");
  if (isPlain) return { request, seq: number };
  const settings = encode(new Settings({ max, alive: DEFAULT_ALIVE_MS }), writeControl, max);
  return { request, seq: number, settings, items: source && { source, seq: number as number, maxPayloadBytes: max } };
}

/** A frame with one item of the stream. */
export function itemFrame({ seq, maxPayloadBytes }: CallItems, item: unknown): Uint8Array {
  return encode(new RequestItem(seq, item), writeControl, maxPayloadBytes, "item");
}

/** A frame that says that the stream is complete. */
export function endFrame(seq: number): Uint8Array {
  return encode(new RequestEnd(seq), writeControl, DEFAULT_LIMITS.maxPayloadBytes);
}

/** A frame that cancels the call with this `seq`. */
export function cancelFrame(seq: number): Uint8Array {
  return encode(new Cancel(seq), writeControl, DEFAULT_LIMITS.maxPayloadBytes);
}

/** A frame that promises signs of life again. The server does not answer it. */
export function promiseFrame(): Uint8Array {
  return encode(new Settings({ alive: DEFAULT_ALIVE_MS }), writeControl, DEFAULT_LIMITS.maxPayloadBytes);
}

function encode<Message>(
  message: Message,
  writeMessage: (writer: Writer, message: Message) => void,
  maxPayloadBytes: number,
  what = "message",
): Uint8Array {
  try {
    return encodeFrame(message, writeMessage, maxPayloadBytes);
  } catch (error) {
    if (error instanceof PayloadTooLargeError) {
      const advice = "raise it at both ends, here with --max-payload-bytes";
      throw new UsageError(`the ${what} cannot be sent: ${error.message}; ${advice}`);
    }
    if (error instanceof EncodeError) throw new UsageError(`the ${what} cannot be sent: ${error.message}`);
    throw error;
  }
}
