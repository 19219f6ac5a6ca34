/** Payloads of messages, read and written without a connection. */

import { assert } from "@std/assert";
import { ReceivedReply, Reply, Request } from "../../codec/message.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { type OutgoingRequest, writeReply, writeRequest } from "../../codec/write_message.ts";
import { encode } from "./msgpack.ts";
import { Reader } from "../../codec/reader.ts";
import { Writer } from "../../codec/writer.ts";
import { takeBatch } from "./batch.ts";
import type { RpcError } from "../../errors.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";

/** Reads one payload. */
export function read<Message>(readMessage: (reader: Reader) => Message, payload: Uint8Array): Message {
  const reader = new Reader(DEFAULT_LIMITS);
  reader.begin(payload, 0, payload.length);
  return readMessage(reader);
}

/** The request that these fields are. */
export function requestOf(fields: Record<string, unknown>): Request {
  const message = read(readRequest, encode(fields));
  assert(message instanceof Request, `${Deno.inspect(fields)} gave ${Deno.inspect(message)}`);
  return message as Request;
}

/** The reply that these fields are. */
export function replyOf(fields: Record<string, unknown>): ReceivedReply {
  const message = read(readReply, encode(fields));
  assert(message instanceof ReceivedReply, `${Deno.inspect(fields)} gave ${Deno.inspect(message)}`);
  return message as ReceivedReply;
}

/** What was written. */
export function payloadOf(write: (writer: Writer) => void): Uint8Array {
  const writer = new Writer();
  write(writer);
  return takeBatch(writer);
}

/** The payload of a reply. */
export function replyPayload(
  seq: number | undefined,
  outcome: Record<string, unknown> | RpcError,
  more = false,
): Uint8Array {
  return payloadOf((writer) => writeReply(writer, new Reply(seq, outcome, more)));
}

/** The payload of a request. */
export function requestPayload(request: Partial<OutgoingRequest>): Uint8Array {
  const nothing = { cmd: 1, params: {}, seq: undefined, ttl: undefined, meta: undefined, credit: undefined };
  return payloadOf((writer) => writeRequest(writer, { ...nothing, ...request }));
}
