/**
 * Defines the messages of the protocol: a class for each kind, and a table of all kinds with their fields (PROTOCOL.md,
 * "Messages").
 *
 * In: nothing. Out: the classes, which `read_message.ts` creates and `write_message.ts` writes; the table and the
 * reserved names derived from it; the numbers of the built-in commands. Refused: nothing.
 */

import type { RpcError } from "../errors.ts";

/** A MessagePack map: the parameters of a request, or the fields of a reply. */
export type Fields = Record<string, unknown>;

// The classes -------------------------------------------------------------------------------------------------------
//
// `kind` is a getter: a field would cost every message eight bytes. What is done for each message of a flood asks
// `instanceof`, which is faster.

/** Calls a command (PROTOCOL.md, "Requests"). */
export class Request {
  /** The command's number or name; `undefined` if `cmd` is missing or of another type. */
  cmd: number | string | undefined = undefined;
  /** Identifies the call, and is repeated in the reply. Requests without it are handled one at a time. */
  seq: number | undefined = undefined;
  /** The caller's timeout, in milliseconds. */
  ttl: number | undefined = undefined;
  /** Metadata, such as a token or a trace. */
  meta: Record<string, string> | undefined = undefined;
  /** The initial credit of a stream; `undefined` if only TCP limits it. */
  credit: number | undefined = undefined;
  /** Every other field. */
  params: Fields = {};
  /** The memory that it takes, in bytes, as `weight.ts` counts it. */
  weightBytes = 0;

  get kind(): "request" {
    return "request";
  }
}

/** Sets what the client takes and promises on this connection; a later one replaces what it names. */
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

/** Grants more items of a stream (PROTOCOL.md, "Streams and credit"). */
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
  fields: Fields = {};
  /** The memory that it takes, in bytes, as `weight.ts` counts it. */
  weightBytes = 0;

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

/** An unknown message that answers no request, from a newer server. It is ignored. */
export class UnknownNotice {
  get kind(): "unknown notice" {
    return "unknown notice";
  }
}

/** A valid frame with an invalid message. It is answered, and the connection continues. */
export class InvalidMessage {
  /**
   * @param reason What is wrong, without bytes of the peer.
   * @param seq The request's `seq`, if it could be read, so that its caller can be told.
   */
  constructor(readonly reason: string, readonly seq?: number) {}

  get kind(): "invalid message" {
    return "invalid message";
  }
}

/** An invalid frame. Frame boundaries are lost, so nothing after it can be read. Always the last of its stream. */
export class BadFrame {
  /** @param damage What is wrong with it. */
  constructor(readonly damage: string) {}

  get kind(): "bad frame" {
    return "bad frame";
  }
}

/** The stream ended inside a frame. Always the last of its stream. */
export class Truncated {
  /** @param receivedBytes How much of the frame has come. */
  constructor(readonly receivedBytes: number) {}

  get kind(): "truncated" {
    return "truncated";
  }
}

/** A control message that a client can send. */
export type KnownControl = Settings | Cancel | Credit;

/** A control message that a server can receive. */
export type Control = KnownControl | UnknownControl;

/** A message that a server can receive. */
export type ClientMessage = Request | Control;

/** A message that a client can receive. */
export type ServerMessage = ReceivedReply | Going | UnknownNotice;

/** The output of the decode stage: messages, or what is received instead of one. */
export type Decoded<Message> = Message | InvalidMessage | BadFrame | Truncated;

// The table ---------------------------------------------------------------------------------------------------------

/** The direction of a message. */
export type MessageDirection = "to the server" | "to the client";

/** The kinds of messages, as named in the table, in Wireshark and by `--hex`. */
export type Kind = (ClientMessage | ServerMessage)["kind"];

/** One field of a message. */
export interface Field {
  /** Its type; `0` and `true` are literal values. */
  readonly type: string;
  readonly meaning: string;
  readonly optional?: true;
}

/** One kind of message. */
export interface MessageShape {
  readonly direction: MessageDirection;
  readonly meaning: string;
  /** Its fields, in display order. */
  readonly fields: Readonly<Record<string, Field>>;
  /** Which other fields it may have. */
  readonly others?: "parameters" | "fields" | "unknown fields";
  /** The first protocol version that has it. */
  readonly since: number;
}

const CONTROL: Field = { type: "0", meaning: "marks a control message" };
const CALL: Field = { type: "integer, 0 to 2^53 - 1", meaning: "the call" };
const RESULT: Field = { type: "any value", meaning: "the result" };

function optional(field: Field): Field {
  return { ...field, optional: true };
}

/** All kinds of messages. */
export const MESSAGES: Readonly<Record<Kind, MessageShape>> = {
  "request": {
    direction: "to the server",
    meaning: "calls a command",
    fields: {
      cmd: { type: "integer or text", meaning: "the command" },
      seq: optional({ ...CALL, meaning: "the call's own number" }),
      ttl: optional({ type: "number > 0", meaning: "milliseconds for which the answer is wanted" }),
      meta: optional({ type: "map of text to text", meaning: "metadata of the call, not a parameter" }),
      credit: optional({
        type: "integer, 1 to 2^53 - 1",
        meaning: "items of a stream that the server may send at first",
      }),
    },
    others: "parameters",
    since: 1,
  },
  "settings": {
    direction: "to the server",
    meaning: "says what the client takes and promises on this connection",
    fields: {
      cmd: CONTROL,
      max: optional({ type: "integer, 0 to 2^53 - 1", meaning: "bytes of payload that the client takes" }),
      alive: optional({ type: "integer, 1000 to 3600000", meaning: "milliseconds between signs of life" }),
      notice: optional({ type: "true or false", meaning: "whether notices are wanted" }),
    },
    since: 1,
  },
  "cancel": {
    direction: "to the server",
    meaning: "ends a call whose answer is not wanted any more",
    fields: { cmd: CONTROL, seq: CALL, cancel: { type: "true", meaning: "marks a cancel" } },
    since: 1,
  },
  "credit": {
    direction: "to the server",
    meaning: "grants more items of a stream",
    fields: { cmd: CONTROL, seq: CALL, credit: { type: "integer, 1 to 2^53 - 1", meaning: "how many more" } },
    since: 1,
  },
  "unknown control": {
    direction: "to the server",
    meaning: "comes from a later client, and is ignored",
    fields: { cmd: CONTROL },
    others: "unknown fields",
    since: 1,
  },
  "item": {
    direction: "to the client",
    meaning: "is one item of a stream",
    fields: {
      seq: optional(CALL),
      res: { ...RESULT, meaning: "the item" },
      more: { type: "true", meaning: "marks an item" },
    },
    since: 1,
  },
  "reply": {
    direction: "to the client",
    meaning: "ends a call with its result",
    fields: {
      seq: optional(CALL),
      res: RESULT,
      $items: optional({ type: "0", meaning: "marks a stream without items" }),
    },
    others: "fields",
    since: 1,
  },
  "error": {
    direction: "to the client",
    meaning: "ends a call that failed",
    fields: {
      seq: optional(CALL),
      err: { type: "text", meaning: "the code" },
      msg: optional({ type: "text", meaning: "a sentence for people" }),
      data: optional({ type: "any value", meaning: "details for a program" }),
      $after: optional({ type: "number >= 0", meaning: "milliseconds to wait before the next try" }),
    },
    since: 1,
  },
  "going": {
    direction: "to the client",
    meaning: "asks for no more calls on this connection",
    fields: { going: { type: "number >= 0", meaning: "milliseconds for which it is still served" } },
    since: 1,
  },
  "unknown notice": {
    direction: "to the client",
    meaning: "comes from a later server, and is ignored",
    fields: { seq: optional(CALL) },
    others: "unknown fields",
    since: 1,
  },
};

// What follows from it ----------------------------------------------------------------------------------------------

/** The names of all fields of all messages. */
export const FIELD_NAMES: ReadonlySet<string> = namesOf(Object.keys(MESSAGES) as Kind[]);

const REQUEST_FIELDS = namesOf(["request"]);

/** The names of all fields of replies. */
export const REPLY_FIELDS: ReadonlySet<string> = namesOf(["item", "reply", "error"]);

function namesOf(kinds: readonly Kind[]): ReadonlySet<string> {
  return new Set(kinds.flatMap((kind) => Object.keys(MESSAGES[kind].fields)));
}

/** Whether a command's parameter must not have this name (PROTOCOL.md, "Requests"). */
export function isReservedParameter(name: string): boolean {
  return REQUEST_FIELDS.has(name) || name.startsWith("$");
}

/** Whether a command's own reply field must not have this name (PROTOCOL.md, "Replies"). */
export function isReservedReplyField(name: string): boolean {
  return REPLY_FIELDS.has(name) || name.startsWith("$");
}

/** Marks the last reply of a stream without items (PROTOCOL.md, "Streams and credit"). */
export const ITEMS = "$items";

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
