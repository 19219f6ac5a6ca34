/**
 * Describes all kinds of messages and their fields (PROTOCOL.md, "Messages"). Readers, `--hex`, Wireshark and the tests
 * are checked against this table.
 *
 * In: nothing. Out: the table. Refused: nothing. Code that reads and writes messages uses `message.ts`, and does not
 * load these texts.
 */

import type { ClientMessage, ServerMessage } from "./message.ts";

/** The direction of a message. */
type MessageDirection = "to the server" | "to the client";

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
interface MessageShape {
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

function meant(field: Field, meaning: string): Field {
  return { ...field, meaning };
}

/** All kinds of messages. */
export const MESSAGES: Readonly<Record<Kind, MessageShape>> = {
  "request": {
    direction: "to the server",
    meaning: "calls a command",
    fields: {
      cmd: { type: "integer or text", meaning: "the command" },
      seq: optional(meant(CALL, "the call's own number")),
      ttl: optional({ type: "number > 0", meaning: "milliseconds for which the answer is wanted" }),
      meta: optional({ type: "map of text to text", meaning: "metadata of the call, not a parameter" }),
      credit: optional({
        type: "integer, 1 to 2^53 - 1",
        meaning: "items of a stream that the server may send at first",
      }),
      $items: optional({ type: "true", meaning: "a stream of items follows" }),
    },
    others: "parameters",
    since: 1,
  },
  "settings": {
    direction: "to the server",
    meaning: "sets what the client accepts and promises",
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
    meaning: "ends a call whose reply is no longer needed",
    fields: { cmd: CONTROL, seq: CALL, cancel: { type: "true", meaning: "marks a cancel" } },
    since: 1,
  },
  "credit": {
    direction: "to the server",
    meaning: "grants more items of a stream",
    fields: { cmd: CONTROL, seq: CALL, credit: { type: "integer, 1 to 2^53 - 1", meaning: "how many more" } },
    since: 1,
  },
  "request item": {
    direction: "to the server",
    meaning: "is one item of the caller's stream",
    fields: { cmd: CONTROL, seq: CALL, item: { type: "any value", meaning: "the item" } },
    since: 1,
  },
  "request end": {
    direction: "to the server",
    meaning: "completes the caller's stream",
    fields: { cmd: CONTROL, seq: CALL, end: { type: "true", meaning: "marks an end" } },
    since: 1,
  },
  "unknown control": {
    direction: "to the server",
    meaning: "comes from a newer client; ignored",
    fields: { cmd: CONTROL },
    others: "unknown fields",
    since: 1,
  },
  "item": {
    direction: "to the client",
    meaning: "is one item of a stream",
    fields: {
      seq: optional(CALL),
      res: meant(RESULT, "the item"),
      more: { type: "true", meaning: "marks an item" },
      $id: optional({ type: "integer or text", meaning: "where the stream goes on after a loss" }),
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
  "request credit": {
    direction: "to the client",
    meaning: "grants more items of the caller's stream",
    fields: { seq: CALL, credit: { type: "integer, 1 to 2^53 - 1", meaning: "how many more" } },
    since: 1,
  },
  "unknown notice": {
    direction: "to the client",
    meaning: "comes from a newer server; ignored",
    fields: { seq: optional(CALL) },
    others: "unknown fields",
    since: 1,
  },
};
