/**
 * What must hold for the codec whatever bytes it is given: it reads them or refuses them with a declared error, in time,
 * as std and the protocol do, however they are cut, and then reads the next ones.
 *
 * In: an input, and a codec: the shipped one, or a broken one that a test puts in its place. Out: what came of it, as a
 * text that can be compared, and what was wrong with that, if anything was.
 */

import { decode as std } from "jsr:@std/msgpack@^1.0.3";
import { DecodeStage, type ServerReading } from "../../codec/decode.ts";
import { BadFrame, type ClientMessage, type Decoded, InvalidMessage, Truncated } from "../../codec/message.ts";
import { LongPayload } from "../../codec/long_payload.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { decode, DecodeError, encode } from "../support/msgpack.ts";
import type { Payload } from "../../codec/read_message.ts";
import type { Reader } from "../../codec/reader.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { Random } from "../support/random.ts";
import { frame } from "../support/wire.ts";
import { contentsOf, repliesOf, requestsOf } from "./by_hand.ts";
import { describe, hash } from "./describe.ts";
import { GOOD } from "./samples.ts";
import type { Stopwatch } from "./stopwatch.ts";

/** What is checked. */
export interface Codec {
  decode(payload: Uint8Array): unknown;
  readRequests(chunks: Uint8Array[]): unknown[];
  /** The same, as long ones are read. */
  readRequestsInParts(chunks: Uint8Array[]): unknown[];
  readReplies(chunks: Uint8Array[]): unknown[];
}

/** What came of an input. */
export interface Verdict {
  /** All that could be seen: the same for the same input, always. */
  outcome: string;
  /** What is wrong with it. */
  complaint?: string;
  /** The kinds of thing in it, for the figures of a run. */
  met?: string[];
}

/** A server, whose connections read no long payload here: what is not read into the stage's space is read at once. */
export const SERVER: ServerReading = { readAhead: () => Promise.reject(new Error("a long payload was read in parts")) };

/** The codec as it is shipped. */
export const SHIPPED: Codec = {
  decode: (payload) => decode(payload),
  readRequests: (chunks) => readAll(readRequest, chunks, SERVER),
  readRequestsInParts: (chunks) => readAll(readInParts, chunks, SERVER),
  readReplies: (chunks) => readAll(readReply, chunks),
};

function readInParts(reader: Payload, frameBytes: number): ClientMessage | InvalidMessage {
  const payload = new LongPayload(reader as Reader);
  for (const parts = payload.readAhead(); !parts.next().done;);
  return readRequest(payload, frameBytes);
}

const TOO_HEAVY = `the message takes more than ${DEFAULT_LIMITS.maxMessageBytes} bytes of memory`;

/** The declared ways to refuse a payload: all a refusal may say, and so nothing that the peer has sent. */
const REFUSALS = [
  ...["the message ends too early", "bytes are left over", "0xc1 is not a value", "extension types are not accepted"],
  ...["text is not valid UTF-8", "a key must be text or an integer", "a message must be a map"],
  ...[`nested deeper than ${DEFAULT_LIMITS.maxDepth}`, TOO_HEAVY],
];

/** Those in which we are stricter than std, on purpose, and whether a payload that std reads is such a one. */
const STRICTER = new Map<string, (payload: Uint8Array) => boolean>([
  ["text is not valid UTF-8", (payload) => !contentsOf(payload).texts.every(isUtf8)],
  ["a key must be text or an integer", (payload) => payload.includes(0xca) || payload.includes(0xcb)],
  [`nested deeper than ${DEFAULT_LIMITS.maxDepth}`, (payload) => contentsOf(payload).depth > DEFAULT_LIMITS.maxDepth],
  [TOO_HEAVY, (payload) => contentsOf(payload).weight > DEFAULT_LIMITS.maxMessageBytes],
]);

/** The declared ways to refuse a message whose payload could be read. */
const MISTAKES = [
  "seq must be an integer from 0 to 2^53-1",
  "ttl must be a finite number of milliseconds above 0, and at most 2^53-1 as an integer",
  "meta must be a map of text to text",
  "credit must be an integer from 1 to 2^53-1",
  "credit needs the seq of its call",
  "$items must be true",
  "$items needs the seq of its call",
  "cancel must be true, and needs the seq of its call",
  "item needs the seq of its call",
  "end must be true, and needs the seq of its call",
  "max must be an integer from 0 to 2^53-1",
  "a control message must have either settings, or seq with one of cancel, credit, item and end",
  "alive must be an integer from 1000 to 3600000",
  "notice must be true or false",
  "going must be a number of milliseconds from 0 up",
];

/** All refusals that some input must have met, for a run to have shown anything. */
export const ALL_REFUSALS: readonly string[] = [...REFUSALS, ...MISTAKES];

/** Whether a map of std's takes the key `__proto__` for its prototype. */
const UNSAFE_PROTO = Object.hasOwn(Object.prototype, "__proto__");

const strictDecoder = new TextDecoder("utf-8", { fatal: true });

const GOOD_TEXT = describe(std(GOOD));
const GOOD_MESSAGE = describe(requestsOf(frame(GOOD)));

/** A payload, read as one value. */
export function checkPayload(payload: Uint8Array, codec: Codec, stopwatch: Stopwatch): Verdict {
  const ours = stopwatch.measure("decode()", payload.length, () => attempt(() => codec.decode(payload)));
  if ("error" in ours) {
    const outcome = String(ours.error);
    const text = declaredText(ours.error);
    if (text === undefined) return { outcome, complaint: `decode() threw ${inspect(ours.error)}` };
    const next = attempt(() => codec.decode(GOOD));
    if ("error" in next || describe(next.value) !== GOOD_TEXT) {
      return { outcome, complaint: "the next payload was misread" };
    }
    const theirs = attempt(() => std(payload));
    if ("value" in theirs && !STRICTER.get(text)?.(payload)) {
      return { outcome, complaint: `decode() refused what std reads: ${text}` };
    }
    return { outcome, met: [text] };
  }
  const outcome = describe(ours.value);
  return {
    outcome,
    met: ["a value"],
    complaint: disagreement(payload, ours.value) ?? changeOnTheWay(ours.value, codec),
  };
}

/** How a value differs from what std reads. */
function disagreement(payload: Uint8Array, value: unknown): string | undefined {
  const theirs = attempt(() => std(payload));
  if ("error" in theirs) {
    // An integer of 64 bits is a key here, and not there.
    return String(theirs.error).includes("The type of key is invalid") ? undefined : `std refused it: ${theirs.error}`;
  }
  const { depth, weight } = contentsOf(payload);
  if (depth > DEFAULT_LIMITS.maxDepth || weight > DEFAULT_LIMITS.maxMessageBytes) {
    return `depth ${depth}, ${weight} bytes`;
  }
  const [mine, stds] = [describe(value, true), describe(theirs.value, true)];
  if (mine === stds) return;
  // std drops a byte order mark from any text, so that two keys may become one; see also `tests/codec/msgpack_test.ts`.
  if (mine.includes("\ufeff")) return;
  if (UNSAFE_PROTO && mine.includes('"__proto__"')) return;
  return `decode() read ${shown(mine)}, std ${shown(stds)}`;
}

/** How a value that was read differs after it was written and read again. */
function changeOnTheWay(value: unknown, codec: Codec): string | undefined {
  const back = attempt(() => codec.decode(encode(value)));
  if ("error" in back) return `what was read cannot be written: ${inspect(back.error)}`;
  const [before, after] = [describe(value, true), describe(back.value, true)];
  if (before !== after) return `${shown(before)} came back as ${shown(after)}`;
}

/** A stream, read as one side of a connection reads it. */
export function checkStream(
  bytes: Uint8Array,
  side: "requests" | "replies",
  codec: Codec,
  stopwatch: Stopwatch,
): Verdict {
  if (side === "replies") {
    return checkStage("DecodeStage(readReply)", codec.readReplies, repliesOf, bytes, stopwatch);
  }
  const atOnce = checkStage("DecodeStage(readRequest)", codec.readRequests, requestsOf, bytes, stopwatch);
  if (atOnce.complaint !== undefined) return atOnce;
  return checkStage("DecodeStage(LongPayload)", codec.readRequestsInParts, requestsOf, bytes, stopwatch);
}

function checkStage(
  name: string,
  read: (chunks: Uint8Array[]) => unknown[],
  byHand: (bytes: Uint8Array) => unknown[],
  bytes: Uint8Array,
  stopwatch: Stopwatch,
): Verdict {
  const pieces = piecesOf(bytes);
  const ours = stopwatch.measure(name, bytes.length, () => attempt(() => read(pieces)));
  if ("error" in ours) return { outcome: String(ours.error), complaint: `${name} threw ${inspect(ours.error)}` };
  const messages = ours.value;
  const compared = messages.some(hasText) ? messages.map(withoutText) : messages;
  const outcome = describe(compared);
  const fail = (complaint: string) => ({ outcome, complaint: `${name}: ${complaint}` });

  const unknown = messages.find((message) =>
    message instanceof InvalidMessage && !ALL_REFUSALS.includes(message.reason)
  );
  if (unknown !== undefined) return fail(`refused a message with ${describe(unknown)}`);
  const right = byHand(bytes);
  if (outcome !== describe(right)) {
    // From the first that differs: a long stream would hide it behind what is read well.
    const at = right.findIndex((message, index) => describe(message) !== describe(compared[index]));
    const differing = (all: unknown[]) => shown(describe(all.slice(at < 0 ? right.length : at)));
    return fail(`read ${differing(compared)}, right is ${differing(right)}`);
  }
  if (messages.at(-1) instanceof BadFrame && describe(SHIPPED.readRequests([frame(GOOD)])) !== GOOD_MESSAGE) {
    return fail("the next stream was misread");
  }
  return { outcome, met: messages.map(kindOf) };
}

/** A stream in pieces, which are drawn from its own bytes: so the bytes alone are enough to see a failure again. */
export function piecesOf(bytes: Uint8Array): Uint8Array[] {
  const random = new Random(hash(bytes.subarray(0, 200), bytes.length));
  if (bytes.length < 2_000 && random.chance(0.02)) return random.pieces(bytes, 1);
  return random.pieces(bytes, Math.max(random.pick([12, 40, 200]), Math.ceil(bytes.length / 20)));
}

/** All messages of a stream that comes in chunks, each of which is written over once it was read, as a socket's are. */
export function readAll<Message>(
  readMessage: (payload: Payload, frameBytes: number) => Message | InvalidMessage,
  chunks: Uint8Array[],
  server?: ServerReading,
  limits = DEFAULT_LIMITS,
): Decoded<Message>[] {
  const stage = new DecodeStage(readMessage, limits, server);
  const messages: Decoded<Message>[] = [];
  const output = { enqueue: (batch: Decoded<Message>[]) => void messages.push(...batch), terminate() {} };
  for (const chunk of chunks) {
    const reused = chunk.slice();
    stage.transform(reused, output);
    reused.fill(0xee);
  }
  stage.flush(output);
  return messages;
}

function isUtf8(text: Uint8Array): boolean {
  return "value" in attempt(() => strictDecoder.decode(text));
}

function hasText(message: unknown): boolean {
  return message instanceof InvalidMessage || message instanceof BadFrame || message instanceof Truncated;
}

/** A message as `by_hand.ts` gives it, where what only people read is empty. */
function withoutText(message: unknown): unknown {
  if (message instanceof InvalidMessage) return new InvalidMessage("", message.seq);
  if (message instanceof BadFrame) return new BadFrame("");
  if (message instanceof Truncated) return new Truncated(0);
  return message;
}

/** The text of a refusal, if it is a declared one. */
function declaredText(error: unknown): string | undefined {
  return error instanceof DecodeError && REFUSALS.includes(error.message) ? error.message : undefined;
}

function kindOf(message: unknown): string {
  return message instanceof InvalidMessage ? message.reason : (message as object).constructor.name;
}

export function attempt<Value>(run: () => Value): { value: Value } | { error: unknown } {
  try {
    return { value: run() };
  } catch (error) {
    return { error };
  }
}

export function inspect(error: unknown): string {
  return error instanceof Error ? `${error.stack ?? error}` : Deno.inspect(error);
}

function shown(text: string): string {
  return text.length > 500 ? `${text.slice(0, 500)}... (${text.length} characters)` : text;
}
