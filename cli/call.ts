/**
 * What to call, out of the words of a command line, and the frames that say so.
 *
 * In: words: a command's name, then `key=value` each. Out: the name and its parameters, or the frames. A value is JSON
 * where it parses as such (`json.ts` tells what else it may hold), else it is text: `times=2` is a number, `name=Ada`
 * and `id=007` are text, `id='"2"'` too.
 *
 * `DELAY 2` is short for `DELAY sleep=2`. What is no number is left out, as the article's client does it: the server
 * says what it thinks of that.
 *
 * Refused, by a `UsageError`: no command, a word without `=`, a parameter given twice, a name that the wire reserves,
 * and parameters that a message cannot hold.
 */

import { encodeFrame } from "../codec/encode.ts";
import { BUILT_IN_NUMBERS, Cancel, type Fields, isReservedParameter, Settings } from "../codec/message.ts";
import { EncodeError } from "../codec/msgpack.ts";
import { setField } from "../codec/reader.ts";
import { writeControl, writeRequest } from "../codec/write_message.ts";
import type { Writer } from "../codec/writer.ts";
import { MAX_SHORT_PAYLOAD_BYTES } from "../codec/frame.ts";
import { DEFAULT_LIMITS } from "../limits.ts";
import { UsageError } from "./arguments.ts";
import { fromJson } from "./json.ts";

/** A call to make. */
export interface CommandCall {
  readonly name: string;
  readonly params: Fields;
}

/** Reads the words. */
export function readCall(words: readonly string[]): CommandCall {
  const [name, ...rest] = words;
  if (name === undefined) throw new UsageError("say which command to call");
  const params: Fields = {};
  for (const [place, word] of rest.entries()) {
    const short = name === "DELAY" && place === 0 && !word.includes("=");
    const [key, ...texts] = short ? ["sleep", word] : word.split("=");
    if (texts.length === 0 || key === "") throw new UsageError(`"${word}" is no parameter: write key=value`);
    if (isReservedParameter(key)) throw new UsageError(`the name of the parameter "${key}" is reserved`);
    if (Object.hasOwn(params, key)) throw new UsageError(`the parameter "${key}" is given twice`);
    const text = texts.join("=");
    setField(params, key, short ? secondsOf(text) : valueOf(text));
  }
  return { name, params };
}

/** The number a text is; `undefined`, which does not travel, if it is none. */
function secondsOf(text: string): number | undefined {
  const seconds = text.trim() === "" ? NaN : Number(text);
  return Number.isNaN(seconds) ? undefined : seconds;
}

function valueOf(text: string): unknown {
  try {
    return fromJson(text);
  } catch (error) {
    if (error instanceof SyntaxError) return text;
    throw error;
  }
}

/** A call as it goes out. */
export interface Outgoing {
  readonly request: Uint8Array;
  /** Tells the server how long replies may be; goes once, before the first request of a connection that needs it. */
  readonly settings?: Uint8Array;
}

/** What differs from how the article's client calls. */
export interface OutgoingOptions {
  /** By which number the call can be cancelled. */
  readonly seq?: number;
  /** The largest payload, either way. */
  readonly maxPayloadBytes?: number;
}

/** What the article's server has: it knows no settings, and these replies are never long. */
const ARTICLE_COMMANDS: ReadonlySet<string> = new Set(["PING", "DELAY"]);

/**
 * The frames of a call. Built-in commands go by their number, as in the article, all others by their name. The article's
 * own go byte for byte as its client sends them.
 *
 * With settings a request has a `seq`: replies that lack it tell a server that knows neither.
 */
export function outgoing({ name, params }: CommandCall, { seq, maxPayloadBytes }: OutgoingOptions = {}): Outgoing {
  const cmd = BUILT_IN_NUMBERS.get(name) ?? name;
  const max = maxPayloadBytes ?? DEFAULT_LIMITS.maxPayloadBytes;
  const isPlain = ARTICLE_COMMANDS.has(name) || max === MAX_SHORT_PAYLOAD_BYTES;
  const fields = { ttl: undefined, meta: undefined, credit: undefined };
  const request = encode({ cmd, params, seq: seq ?? (isPlain ? undefined : 1), ...fields }, writeRequest, max);
  return isPlain ? { request } : { request, settings: encode(new Settings(max), writeControl, max) };
}

/** Says that nobody wants the call with this `seq` any more. */
export function cancelFrame(seq: number): Uint8Array {
  return encode(new Cancel(seq), writeControl, DEFAULT_LIMITS.maxPayloadBytes);
}

function encode<Message>(
  message: Message,
  writeMessage: (writer: Writer, message: Message) => void,
  maxPayloadBytes: number,
): Uint8Array {
  try {
    return encodeFrame(message, writeMessage, maxPayloadBytes);
  } catch (error) {
    if (error instanceof EncodeError) throw new UsageError(`the parameters cannot be sent: ${error.message}`);
    throw error;
  }
}
