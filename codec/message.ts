/**
 * What a message is: one class for each kind, and one table of all kinds with their fields (PROTOCOL.md, "Messages").
 *
 * In: nothing. Out: the classes, which `read_message.ts` makes and `write_message.ts` writes; the table; what follows from
 * it, such as reserved names; the numbers of the built-in commands. Refused: nothing.
 */

import type { RpcError } from "../errors.ts";

/** A map of MessagePack: parameters of a request, fields of a reply. */
export type Fields = Record<string, unknown>;

// The classes -------------------------------------------------------------------------------------------------------
//
// `kind` is a getter: a field would cost every message eight bytes. What is done for each message of a flood asks
// `instanceof`, which is faster.

/** The caller wants a command done (PROTOCOL.md, "Requests"). */
export class Request {
  /** The command's number or name; `undefined` if `cmd` is missing or of another type. */
  cmd: number | string | undefined = undefined;
  /** The reply carries it again; requests without it are handled one at a time. */
  seq: number | undefined = undefined;
  /** Milliseconds for which the caller wants the answer. */
  ttl: number | undefined = undefined;
  /** What is not a parameter: a token, a trace. */
  meta: Record<string, string> | undefined = undefined;
  /** Items of a stream that the caller still takes; `undefined` if only TCP holds it back. */
  credit: number | undefined = undefined;
  /** Every other field. */
  params: Fields = {};
  /** The memory that it takes, in bytes, as `weight.ts` counts it. */
  weightBytes = 0;

  get kind(): "request" {
    return "request";
  }
}

/** Says what the client takes on this connection (PROTOCOL.md, "control (0)"). */
export class Settings {
  /** @param max The largest reply payload, in bytes. */
  constructor(readonly max: number) {}

  get kind(): "settings" {
    return "settings";
  }
}

/** The caller does not want the answer any more (PROTOCOL.md, "Cancel"). */
export class Cancel {
  /** @param seq The call. */
  constructor(readonly seq: number) {}

  get kind(): "cancel" {
    return "cancel";
  }
}

/** The caller takes more items of a stream (PROTOCOL.md, "Streams and credit"). */
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

/** A control message that says nothing known here: of a later client. It is ignored. */
export class UnknownControl {
  get kind(): "unknown control" {
    return "unknown control";
  }
}

/** What a server sends for a request: an item of a stream, a result or an error (PROTOCOL.md, "Replies"). */
export class Reply<Call = unknown> {
  constructor(
    /** The `seq` of the request, if it had one. */
    readonly seq: number | undefined,
    /** `{ res, ... }`, or what went wrong. */
    readonly outcome: Fields | RpcError,
    /** Whether more items of the same stream follow. */
    readonly more: boolean,
    /**
     * The call that it answers, for the server. One class, because a second one derived from it would cost as much to
     * make as the rest of a PING's dispatch.
     */
    readonly call: Call | undefined = undefined,
  ) {}

  get kind(): "item" | "reply" | "error" {
    return this.outcome instanceof Error ? "error" : this.more ? "item" : "reply";
  }
}

/** The same as a client reads it: the fields as they came, without `seq` and `more`. */
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

/** A message that answers nothing and says nothing known here: of a later server. It is ignored. */
export class UnknownNotice {
  get kind(): "unknown notice" {
    return "unknown notice";
  }
}

/** A valid frame without a valid message in it: it is answered, and the connection goes on. */
export class InvalidMessage {
  /**
   * @param reason What is wrong, without any byte of the peer's.
   * @param seq The request's `seq`, if the rest of the message could be read: its caller can then be told.
   */
  constructor(readonly reason: string, readonly seq?: number) {}

  get kind(): "invalid message" {
    return "invalid message";
  }
}

/** The boundary between frames is lost: nothing after this can be read. Always the last of its stream. */
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

/** What a client says about its connection or about a call, beside requests. */
export type KnownControl = Settings | Cancel | Credit;

/** What a server reads with `cmd: 0`. */
export type Control = KnownControl | UnknownControl;

/** What a server reads. */
export type ClientMessage = Request | Control;

/** What a client reads. */
export type ServerMessage = ReceivedReply | UnknownNotice;

/** What the decode stage hands on: messages, and what came in the place of one. */
export type Decoded<Message> = Message | InvalidMessage | BadFrame | Truncated;

// The table ---------------------------------------------------------------------------------------------------------

/** Which way a message goes. */
export type MessageDirection = "to the server" | "to the client";

/** The kinds of messages, as the table, Wireshark and `--hex` name them. */
export type Kind = (ClientMessage | ServerMessage)["kind"];

/** One field of a message. */
export interface Field {
  /** What it may hold; `0` and `true` stand for themselves. */
  readonly type: string;
  readonly meaning: string;
  readonly optional?: true;
}

/** One kind of message. */
export interface MessageShape {
  readonly direction: MessageDirection;
  readonly meaning: string;
  /** Its fields, in the order in which they are shown. */
  readonly fields: Readonly<Record<string, Field>>;
  /** What else may be in it. */
  readonly others?: "parameters" | "fields" | "unknown fields";
  /** The first version of the protocol that has it. */
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
      meta: optional({ type: "map of text to text", meaning: "what goes with a call and is no parameter" }),
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
    meaning: "sets the largest reply payload of the connection",
    fields: {
      cmd: CONTROL,
      max: { type: "integer, 0 to 2^53 - 1", meaning: "bytes of payload that the client takes" },
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
    },
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

/** The protocol's own names in what answers a request. */
export const REPLY_FIELDS: ReadonlySet<string> = namesOf(["item", "reply", "error"]);

function namesOf(kinds: readonly Kind[]): ReadonlySet<string> {
  return new Set(kinds.flatMap((kind) => Object.keys(MESSAGES[kind].fields)));
}

/** Whether a command's parameter may not have this name (PROTOCOL.md, "Requests"). */
export function isReservedParameter(name: string): boolean {
  return REQUEST_FIELDS.has(name) || name.startsWith("$");
}

/** Whether a command's own field of a reply may not have this name (PROTOCOL.md, "Replies"). */
export function isReservedReplyField(name: string): boolean {
  return REPLY_FIELDS.has(name) || name.startsWith("$");
}

/** The field by which the last reply of a stream says that there were no items (PROTOCOL.md, "Streams and credit"). */
export const ITEMS = "$items";

/** The numbers of the protocol's own commands (PROTOCOL.md, "Commands"). */
export const BUILT_IN_NUMBERS: ReadonlyMap<string, number> = new Map([
  ["PING", 1],
  ["DELAY", 2],
  ["INFO", 3],
  ["STATS", 4],
]);
