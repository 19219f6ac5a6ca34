/**
 * Defines the messages of the protocol: a class for each kind (PROTOCOL.md, "Messages"), their names and numbers, and
 * their weights. `message_table.ts` describes their fields.
 *
 * In: nothing. Out: the classes, which `read_message.ts` creates and `write_message.ts` writes. Refused: nothing.
 */

import type { RpcError } from "../errors.ts";
import type { OtherProtocol } from "./frame.ts";

/** A MessagePack map: the parameters of a request, or the fields of a reply. */
export type Fields = Record<string, unknown>;

// `kind` is a getter: a field would cost every message eight bytes. Code that runs for each message uses `instanceof`,
// which is faster.

/** Calls a command (PROTOCOL.md, "Requests"). */
export class Request {
  constructor(
    /** All other fields: the parameters. */
    readonly params: Fields = {},
    /** The command's number or name; `undefined` if `cmd` is missing or of another type. */
    readonly cmd: number | string | undefined = undefined,
    /** Identifies the call, and is repeated in the reply. Requests without it are handled one at a time. */
    readonly seq: number | undefined = undefined,
    /** The caller's timeout, in milliseconds. */
    readonly ttl: number | undefined = undefined,
    /** Metadata, such as a token or a trace. */
    readonly meta: Record<string, string> | undefined = undefined,
    /** The initial credit of a stream; `undefined` if only TCP limits it. */
    public credit: number | undefined = undefined,
    /** Whether a stream of items follows (PROTOCOL.md, "Streams from the caller"). */
    readonly hasItems: boolean = false,
    /** The memory that it takes, in bytes, by the weights below. */
    readonly weightBytes: number = 0,
    /** The size of its frame; 0 for a request to send. */
    readonly frameBytes: number = 0,
  ) {}

  get kind(): "request" {
    return "request";
  }
}

/** Sets what the client accepts and promises on this connection. A later message replaces the fields that it has. */
export class Settings {
  /** The largest reply payload, in bytes. */
  readonly max: number | undefined;
  /** While a call is open, the server hears from the client at least once in this time, in milliseconds. */
  readonly alive: number | undefined;
  /** Whether the server may send notices. */
  readonly notice: boolean | undefined;

  /** @param settings At least one of the fields. */
  constructor({ max, alive, notice }: { max?: number; alive?: number; notice?: boolean }) {
    this.max = max;
    this.alive = alive;
    this.notice = notice;
  }

  get kind(): "settings" {
    return "settings";
  }
}

/** Cancels a call (PROTOCOL.md, "Cancel"). */
export class Cancel {
  /** @param seq The call. */
  constructor(readonly seq: number) {}

  get kind(): "cancel" {
    return "cancel";
  }
}

/** Grants more items of a reply stream (PROTOCOL.md, "Streams and credit"). */
export class Credit {
  /**
   * @param seq The call.
   * @param items How many more.
   */
  constructor(readonly seq: number, readonly items: number) {}

  get kind(): "credit" {
    return "credit";
  }
}

/** One item of the caller's stream (PROTOCOL.md, "Streams from the caller"). */
export class RequestItem {
  /**
   * @param seq The call.
   * @param item The value.
   * @param weightBytes For a received item, the memory that it takes, in bytes, by the weights below.
   * @param frameBytes For a received item, the size of its frame.
   */
  constructor(
    readonly seq: number,
    readonly item: unknown,
    readonly weightBytes = 0,
    readonly frameBytes = 0,
  ) {}

  get kind(): "request item" {
    return "request item";
  }
}

/** The caller's stream is complete. */
export class RequestEnd {
  /** @param seq The call. */
  constructor(readonly seq: number) {}

  get kind(): "request end" {
    return "request end";
  }
}

/** An unknown control message, from a newer client. It is ignored. */
export class UnknownControl {
  get kind(): "unknown control" {
    return "unknown control";
  }
}

/** A server's answer to a request: a stream item, a result or an error (PROTOCOL.md, "Replies"). */
export class Reply<Call = unknown> {
  constructor(
    /** The `seq` of the request, if it had one. */
    readonly seq: number | undefined,
    /** `{ res, ... }`, or the error. */
    readonly outcome: Fields | RpcError,
    /** Whether more items of the same stream follow. */
    readonly more: boolean,
    /**
     * The call that it answers, for the server. A subclass for this would cost as much to create as the rest of a
     * PING's dispatch.
     */
    readonly call: Call | undefined = undefined,
  ) {}

  get kind(): "item" | "reply" | "error" {
    return this.outcome instanceof Error ? "error" : this.more ? "item" : "reply";
  }
}

/** A reply as a client reads it: the received fields without `seq` and `more`. */
export class ReceivedReply {
  seq: number | undefined = undefined;
  more = false;
  /** The memory that it takes, in bytes, by the weights below. */
  weightBytes = 0;

  /** @param fields Every other field. */
  constructor(public fields: Fields = {}) {}

  get kind(): "item" | "reply" | "error" {
    return this.fields.err !== undefined ? "error" : this.more ? "item" : "reply";
  }
}

/** A notice: no more calls should begin on this connection (PROTOCOL.md, "control (0)"). */
export class Going {
  /** @param ms For how many milliseconds the server still serves it. */
  constructor(readonly ms: number) {}

  get kind(): "going" {
    return "going";
  }
}

/** A notice: the server accepts more items of the caller's stream (PROTOCOL.md, "Streams from the caller"). */
export class RequestCredit {
  /**
   * @param seq The call.
   * @param items How many more.
   */
  constructor(readonly seq: number, readonly items: number) {}

  get kind(): "request credit" {
    return "request credit";
  }
}

/** An unknown message that answers no request, from a newer server. It is ignored. */
export class UnknownNotice {
  get kind(): "unknown notice" {
    return "unknown notice";
  }
}

/** A valid frame with an invalid message. It is answered, and the connection continues. */
export class InvalidMessage {
  /** The size of its frame. */
  frameBytes = 0;

  /**
   * @param reason What is wrong, without bytes of the peer.
   * @param seq The request's `seq`, if it could be read, so that its caller gets the error.
   */
  constructor(readonly reason: string, readonly seq?: number) {}

  get kind(): "invalid message" {
    return "invalid message";
  }
}

/** An invalid frame. Frame boundaries are lost, so nothing after it can be read. Always the last of its stream. */
export class BadFrame {
  /**
   * @param damage What is wrong with it.
   * @param protocol The protocol of its sender, if it is at the beginning of a connection and known.
   */
  constructor(readonly damage: string, readonly protocol?: OtherProtocol) {}

  get kind(): "bad frame" {
    return "bad frame";
  }
}

/** The stream ended inside a frame. Always the last of its stream. */
export class Truncated {
  /**
   * @param receivedBytes How much of the frame was received.
   * @param protocol The protocol of its sender, if it is at the beginning of a connection and known.
   */
  constructor(readonly receivedBytes: number, readonly protocol?: OtherProtocol) {}

  get kind(): "truncated" {
    return "truncated";
  }
}

/** A control message that a client can send. */
export type KnownControl = Settings | Cancel | Credit | RequestItem | RequestEnd;

/** A control message that a server can receive. */
export type Control = KnownControl | UnknownControl;

/** A notice that a server can send. */
export type Notice = Going | RequestCredit;

/** A message that a server can receive. */
export type ClientMessage = Request | Control;

/** A message that a client can receive. */
export type ServerMessage = ReceivedReply | Notice | UnknownNotice;

/** The output of the decode stage: messages, or what is received instead of one. */
export type Decoded<Message> = Message | InvalidMessage | BadFrame | Truncated;

// The field names are the same as in `message_table.ts`. A test checks this.
const REQUEST_FIELDS = setOf(["cmd", "seq", "ttl", "meta", "credit", "$items"]);

/** The names of all fields of replies. */
export const REPLY_FIELDS: ReadonlySet<string> = setOf(
  ["seq", "res", "more", "err", "msg", "data", "$id", "$items", "$after"],
);

/** The names of all fields of all messages. */
export const FIELD_NAMES: ReadonlySet<string> = setOf(
  ["max", "alive", "notice", "cancel", "item", "end", "going"],
  REQUEST_FIELDS,
  REPLY_FIELDS,
);

// The annotation lets a bundler leave out the sets that a page does not use.
/* @__NO_SIDE_EFFECTS__ */ function setOf(names: string[], ...more: ReadonlySet<string>[]): ReadonlySet<string> {
  return new Set([...names, ...more.flatMap((others) => [...others])]);
}

/** Whether a command's parameter must not have this name (PROTOCOL.md, "Requests"). */
export function isReservedParameter(name: string): boolean {
  return REQUEST_FIELDS.has(name) || name.startsWith("$");
}

/** Whether a command's own reply field must not have this name (PROTOCOL.md, "Replies"). */
export function isReservedReplyField(name: string): boolean {
  return REPLY_FIELDS.has(name) || name.startsWith("$");
}

/**
 * Marks the last reply of a stream without items (PROTOCOL.md, "Streams and credit"), and a request with a stream of
 * its own (PROTOCOL.md, "Streams from the caller").
 */
export const ITEMS = "$items";

/** The id of an item, after which its stream can resume on another connection (PROTOCOL.md, "Resuming"). */
export const ID = "$id";

/** How long to wait before the next try, in an error (PROTOCOL.md, "Replies"). */
export const AFTER = "$after";

/** The range of `alive`, in milliseconds. */
export const MIN_ALIVE_MS = 1_000;
export const MAX_ALIVE_MS = 3_600_000;

/** The numbers of the built-in commands (PROTOCOL.md, "Commands"). */
export const BUILT_IN_NUMBERS: ReadonlyMap<string, number> = new Map([
  ["PING", 1],
  ["DELAY", 2],
  ["INFO", 3],
  ["STATS", 4],
]);

/** The lowest number that a user's command may have (PROTOCOL.md, "Requests"); those below are the protocol's. */
export const FIRST_OWN_NUMBER = 16;

// The weight of a message: the memory that its decoded values take, in bytes, whatever their size on the wire. The
// reader and the writer both count it, so that no message is sent that the peer would reject. The figures are heap
// growth in Deno 2.9.6 for 20,000 values of each kind, rounded up; `tests/codec/weight_test.ts` repeats the
// measurement.

/** An empty message: its object, its map of parameters, its place in the server. */
export const MESSAGE_WEIGHT = 256;

/** An array: the object, and the 17 slots that V8 makes for its first element. */
export const ARRAY_WEIGHT = 160;

/** An element of an array: its slot, the spare slots of a growing array, and a number that needs an object. */
export const ELEMENT_WEIGHT = 32;

/** A map: the object with its first four slots, and its shape, if it has a key that no other map has. */
export const MAP_WEIGHT = 128;

/** A field of a map: its slot, its number, and its share of the shape or of the table of keys. */
export const FIELD_WEIGHT = 64;

/** A field with a key like `"7"`: its map becomes a sparse table of elements, which takes more memory. */
export const INDEXED_FIELD_WEIGHT = 256;

/** A text without its characters, or a key of more than {@linkcode SHORT_KEY_BYTES}. */
export const TEXT_WEIGHT = 32;

/** A byte of a text: one character above Latin-1 makes V8 use two bytes for each character. */
export const TEXT_BYTE_WEIGHT = 2;

/** Up to this length, the weight of the field includes the key. */
export const SHORT_KEY_BYTES = 32;

/** Binary data without its bytes: 210 bytes in V8 for an array, a buffer and a store, which are also slow to make. */
export const BINARY_WEIGHT = 512;

/** A 64-bit integer, as a bigint. */
export const INTEGER64_WEIGHT = 32;

/** Whether V8 may store a key, such as `"7"`, among the elements of an object and not among its names. */
export function isIndexed(key: string): boolean {
  const first = key.charCodeAt(0);
  return first >= 0x30 && first <= 0x39;
}
