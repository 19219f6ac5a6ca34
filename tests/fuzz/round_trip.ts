/**
 * There and back: generated messages, written by the encode stage of one side and read by the decode stage of the other,
 * must be what they were.
 *
 * In: random numbers. Out: what was wrong with a batch, if anything was.
 */

import { EncodeStage } from "../../codec/encode.ts";
import {
  Cancel,
  Credit,
  type Fields,
  Going,
  type KnownControl,
  type Notice,
  ReceivedReply,
  Reply,
  Request,
  RequestCredit,
  RequestEnd,
  RequestItem,
  Settings,
} from "../../codec/message.ts";
import {
  type EncodedItem,
  encodeItem,
  type OutgoingRequest,
  writeControl,
  writeRequest,
  writeServerMessage,
} from "../../codec/write_message.ts";
import type { Writer } from "../../codec/writer.ts";
import { RpcError } from "../../errors.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import type { Random } from "../support/random.ts";
import { concat } from "../support/wire.ts";
import { takeApart } from "./by_hand.ts";
import { attempt, type Codec, inspect, piecesOf, type Verdict } from "./codec_checks.ts";
import { describe } from "./describe.ts";

/** Whole numbers around every change of width. */
const WHOLE = [0, 0x1f, 0x20, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1];

const NUMBERS = [...WHOLE, ...WHOLE.map((number) => -number), 0.1, -1.5, 1e300, 5e-324, NaN, Infinity, -Infinity];

const BIGINTS = [2n ** 53n, -(2n ** 53n), 2n ** 63n, 2n ** 64n - 1n, -(2n ** 63n), 1n, -1n];

const TEXTS = ["", "a", "PONG", "\n", "\r\n\0", "é", "漢字", "🍺", "\ufffd", "\ufeff", "\ufeffa", "__proto__", "$"];

const KEYS = ["id", "name", "a", "", "0", "-1", "4294967295", "\n", "é", "\ufeffa", "__proto__", "toString", "then"];

/** Lengths around every change of form. */
const LENGTHS = [15, 16, 31, 32, 33, 40, 41, 255, 256];

/** Writes up to twenty requests, or replies, in one batch, and compares what is read with what was written. */
export function checkRoundTrip(random: Random, codec: Codec): Verdict {
  const count = random.between(1, random.pick([1, 3, 20]));
  if (random.chance(0.5)) {
    const batch = Array.from({ length: count }, () => random.chance(0.1) ? anyControl(random) : anyRequest(random));
    return compare("readRequest", writeAll(writeEither, batch), batch.map(arrived), codec.readRequests);
  }
  const batch = Array.from({ length: count }, () => random.chance(0.1) ? anyNotice(random) : anyReply(random));
  return compare("readReply", writeAll(writeServerMessage, batch), batch.map(received), codec.readReplies);
}

function compare(
  name: string,
  bytes: Uint8Array,
  expected: unknown[],
  read: (chunks: Uint8Array[]) => unknown[],
): Verdict {
  const messages = attempt(() => read(piecesOf(bytes)));
  if ("error" in messages) {
    return { outcome: String(messages.error), complaint: `DecodeStage(${name}) threw ${inspect(messages.error)}` };
  }
  for (const message of messages.value as { weightBytes?: number; frameBytes?: number }[]) {
    if (message.weightBytes !== undefined) message.weightBytes = 0; // of no matter here
    if (message.frameBytes !== undefined) message.frameBytes = 0;
  }
  const [wanted, got] = [describe(expected, true), describe(messages.value, true)];
  const { payloads, end } = takeApart(bytes);
  if (end !== "whole" || payloads.length !== expected.length) {
    return { outcome: got, complaint: `${expected.length} messages became ${payloads.length} frames, ${end}` };
  }
  return wanted === got ? { outcome: got } : { outcome: got, complaint: `written ${wanted}, read ${got}` };
}

function writeAll<Message>(writeMessage: (writer: Writer, message: Message) => void, batch: Message[]): Uint8Array {
  const chunks: Uint8Array[] = [];
  const stage = new EncodeStage<Message>({
    writeMessage,
    maxPayloadBytes: () => DEFAULT_LIMITS.maxPayloadBytes,
    onUnwritable: (_message, error) => {
      throw error;
    },
  });
  const output = { enqueue: (chunk: Uint8Array) => void chunks.push(chunk), terminate() {} };
  for (const message of batch) stage.transform(message, output);
  stage.flush(output);
  return concat(...chunks);
}

// Messages, and what they are at the other end ------------------------------------------------------------------------

function anyRequest(random: Random): OutgoingRequest {
  const seq = random.chance(0.6) ? random.pick(WHOLE) : undefined;
  return {
    cmd: random.pick([random.pick(WHOLE) || 1, random.pick(TEXTS)]),
    params: anyFields(random, (name) => name !== "$"),
    seq,
    ttl: random.chance(0.2) ? random.pick([0.5, 1, 30_000, 1e300]) : undefined,
    meta: random.chance(0.2) ? mapOf(random, 3, () => anyText(random)) as Record<string, string> : undefined,
    credit: seq !== undefined && random.chance(0.2) ? random.pick(WHOLE) || 1 : undefined,
    hasItems: seq !== undefined && random.chance(0.2),
  };
}

function anyControl(random: Random): KnownControl | WrittenItem {
  const seq = random.pick(WHOLE);
  return random.pick([
    anySettings(random),
    new Cancel(seq),
    new Credit(seq, random.pick(WHOLE) || 1),
    new RequestItem(seq, anyValue(random, 1)),
    encodedItem(seq, anyValue(random, 1)),
    new RequestEnd(seq),
  ]);
}

/** An item that was encoded before it is sent, and what it should be at the other end. */
type WrittenItem = EncodedItem & { readonly arrived: RequestItem };

function encodedItem(seq: number, value: unknown): WrittenItem {
  const item = encodeItem(value, DEFAULT_LIMITS.maxPayloadBytes);
  return { kind: "encoded item", seq, item, arrived: new RequestItem(seq, value) };
}

function anyNotice(random: Random): Notice {
  return random.pick([new Going(random.pick(WHOLE)), new RequestCredit(random.pick(WHOLE), random.pick(WHOLE) || 1)]);
}

function anySettings(random: Random): Settings {
  const max = random.chance(0.6) ? random.pick(WHOLE) : undefined;
  const alive = random.chance(0.6) ? random.pick([1_000, 30_000, 3_600_000]) : undefined;
  return new Settings({ max, alive, notice: max === alive ? true : random.pick([true, false, undefined]) });
}

function anyReply(random: Random): Reply {
  const seq = random.chance(0.6) ? random.pick(WHOLE) : undefined;
  if (random.chance(0.3)) {
    const data = random.chance(0.3) ? anyValue(random, 1) : undefined;
    const retryAfterMs = random.chance(0.2) ? random.pick(WHOLE) : undefined;
    const text = random.chance(0.5) ? anyText(random) : undefined;
    return new Reply(seq, new RpcError(anyText(random), text, { data, retryAfterMs }), false);
  }
  const id = random.chance(0.1) ? { $id: random.pick([...WHOLE, ...TEXTS]) } : {};
  const fields = { res: anyValue(random, 1), ...anyFields(random, () => true), ...id };
  return new Reply(seq, fields, random.chance(0.2));
}

function writeEither(writer: Writer, message: OutgoingRequest | KnownControl | WrittenItem): void {
  if ("kind" in message) writeControl(writer, message);
  else writeRequest(writer, message);
}

function arrived(message: OutgoingRequest | KnownControl | WrittenItem): Request | KnownControl {
  if (!("kind" in message)) return Object.assign(new Request(), message);
  return message.kind === "encoded item" ? message.arrived : message;
}

function received(message: Reply | Notice): ReceivedReply | Notice {
  if (!(message instanceof Reply)) return message;
  const { seq, outcome, more } = message;
  const fields = outcome instanceof RpcError ? outcome.toJSON() as unknown as Fields : outcome;
  return Object.assign(new ReceivedReply(), { seq, more, fields });
}

// Values --------------------------------------------------------------------------------------------------------------

function anyFields(random: Random, isAllowed: (name: string) => boolean): Fields {
  const fields = mapOf(random, 4, () => anyValue(random, 1));
  return Object.fromEntries(Object.entries(fields).filter(([name]) => isAllowed(name)));
}

function anyValue(random: Random, depth: number): unknown {
  const kind = random.below(depth < 5 ? 10 : 8);
  if (kind < 2) return random.pick(NUMBERS);
  if (kind < 5) return anyText(random);
  if (kind < 6) return random.pick([null, true, false]);
  if (kind < 7) return random.pick(BIGINTS);
  if (kind < 8) return random.bytes(random.chance(0.8) ? random.below(8) : random.pick(LENGTHS));
  const size = random.chance(0.95) ? 3 : 17;
  if (kind < 9) return Array.from({ length: random.between(0, size) }, () => anyValue(random, depth + 1));
  return mapOf(random, size, () => anyValue(random, depth + 1));
}

function anyText(random: Random): string {
  if (random.chance(0.5)) return random.pick(TEXTS);
  const length = random.chance(0.001) ? random.pick([57_300, 66_000]) : random.pick(LENGTHS);
  return random.pick(["x", "é", "🍺"]).repeat(length) + random.pick(TEXTS);
}

function mapOf(random: Random, most: number, value: () => unknown): Record<string, unknown> {
  const size = random.between(0, most);
  return Object.fromEntries(Array.from({ length: size }, (_, index) => {
    return [random.chance(0.7) ? random.pick(KEYS) : `key ${index}`.padEnd(random.pick(LENGTHS)), value()];
  }));
}
