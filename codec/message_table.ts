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
  /** Its type; `0` and `true` are literal values. PROTOCOL.md says what it means. */
  readonly type: string;
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

const ZERO: Field = { type: "0" };
const TRUE: Field = { type: "true" };
const CALL: Field = { type: "integer, 0 to 2^53 - 1" };
const COUNT: Field = { type: "integer, 1 to 2^53 - 1" };
const TEXT: Field = { type: "text" };
const ANY: Field = { type: "any value" };

function optional(field: Field): Field {
  return { ...field, optional: true };
}

/** All kinds of messages. */
export const MESSAGES: Readonly<Record<Kind, MessageShape>> = {
  "request": {
    direction: "to the server",
    meaning: "calls a command",
    fields: {
      cmd: { type: "integer or text" },
      seq: optional(CALL),
      ttl: optional({ type: "number > 0" }),
      meta: optional({ type: "map of text to text" }),
      credit: optional(COUNT),
      $items: optional(TRUE),
    },
    others: "parameters",
    since: 1,
  },
  "settings": {
    direction: "to the server",
    meaning: "sets what the client accepts and promises",
    fields: {
      cmd: ZERO,
      max: optional({ type: "integer, 0 to 2^53 - 1" }),
      alive: optional({ type: "integer, 1000 to 3600000" }),
      notice: optional({ type: "true or false" }),
    },
    since: 1,
  },
  "cancel": {
    direction: "to the server",
    meaning: "ends a call whose reply is no longer needed",
    fields: { cmd: ZERO, seq: CALL, cancel: TRUE },
    since: 1,
  },
  "credit": {
    direction: "to the server",
    meaning: "grants more items of a stream",
    fields: { cmd: ZERO, seq: CALL, credit: COUNT },
    since: 1,
  },
  "request item": {
    direction: "to the server",
    meaning: "is one item of the caller's stream",
    fields: { cmd: ZERO, seq: CALL, item: ANY },
    since: 1,
  },
  "request end": {
    direction: "to the server",
    meaning: "completes the caller's stream",
    fields: { cmd: ZERO, seq: CALL, end: TRUE },
    since: 1,
  },
  "unknown control": {
    direction: "to the server",
    meaning: "comes from a newer client; ignored",
    fields: { cmd: ZERO },
    others: "unknown fields",
    since: 1,
  },
  "item": {
    direction: "to the client",
    meaning: "is one item of a stream",
    fields: {
      seq: optional(CALL),
      res: ANY,
      more: TRUE,
      $id: optional({ type: "integer or text" }),
    },
    since: 1,
  },
  "reply": {
    direction: "to the client",
    meaning: "ends a call with its result",
    fields: {
      seq: optional(CALL),
      res: ANY,
      $items: optional(ZERO),
    },
    others: "fields",
    since: 1,
  },
  "error": {
    direction: "to the client",
    meaning: "ends a call that failed",
    fields: {
      seq: optional(CALL),
      err: TEXT,
      msg: optional(TEXT),
      data: optional(ANY),
      $after: optional({ type: "number >= 0" }),
    },
    since: 1,
  },
  "going": {
    direction: "to the client",
    meaning: "asks for no more calls on this connection",
    fields: { going: { type: "number >= 0" } },
    since: 1,
  },
  "request credit": {
    direction: "to the client",
    meaning: "grants more items of the caller's stream",
    fields: { seq: CALL, credit: COUNT },
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
