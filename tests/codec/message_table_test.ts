/** The table of messages, held against what reads and writes them, and the reserved names and numbers. */

import { assert, assertEquals } from "@std/assert";
import {
  BUILT_IN_NUMBERS,
  FIELD_NAMES,
  isReservedParameter,
  isReservedReplyField,
  Reply,
  REPLY_FIELDS,
} from "../../codec/message.ts";
import { type Kind, MESSAGES } from "../../codec/message_table.ts";
import { readReply, readRequest } from "../../codec/read_message.ts";
import { writeReply } from "../../codec/write_message.ts";
import { encode } from "../support/msgpack.ts";
import { RpcError } from "../../errors.ts";
import type { Command } from "../../handlers/command.ts";
import type { Mistake } from "../../handlers/mistakes.ts";
import { demoCommands } from "../../cli/demo_commands.ts";
import { builtIns } from "../../handlers/registry.ts";
import { payloadOf, read } from "../support/payloads.ts";

/** A value for each type that the table has. */
const VALUES: Record<string, unknown> = {
  "0": 0,
  "true": true,
  "integer or text": "PING",
  "integer, 0 to 2^53 - 1": 5,
  "integer, 1 to 2^53 - 1": 5,
  "integer, 1000 to 3600000": 1_000,
  "number > 0": 0.5,
  "number >= 0": 0,
  "true or false": false,
  "map of text to text": { a: "b" },
  "text": "text",
  "any value": [null],
};

/** A message of a kind, as the table has it. */
function messageOf(kind: Kind, withOptional = true): Record<string, unknown> {
  const { fields, others } = MESSAGES[kind];
  // Settings have at least one of their fields.
  const isShown = (name: string) => kind === "settings" ? name !== "notice" : !fields[name].optional;
  const shown = Object.entries(fields).filter(([name]) => withOptional || isShown(name));
  const message = Object.fromEntries(shown.map(([name, { type }]) => {
    assert(type in VALUES, `${kind}: ${type}`);
    return [name, VALUES[type]];
  }));
  return others === undefined ? message : { ...message, later: 1 };
}

const KINDS = Object.keys(MESSAGES) as Kind[];

function kindOf(kind: Kind, message: Record<string, unknown>): string {
  const readMessage = MESSAGES[kind].direction === "to the server" ? readRequest : readReply;
  return read<{ kind: string }>(readMessage, encode(message)).kind;
}

Deno.test("MESSAGES has each message as it is read, with its optional fields and without", () => {
  for (const kind of KINDS) {
    for (const withOptional of [true, false]) {
      const message = messageOf(kind, withOptional);
      assertEquals(kindOf(kind, message), kind, Deno.inspect(message));
    }
  }
});

Deno.test("MESSAGES marks as optional what may be missing, and nothing else", () => {
  for (const kind of KINDS) {
    const message = messageOf(kind);
    for (const [name, { optional }] of Object.entries(MESSAGES[kind].fields)) {
      const { [name]: _, ...less } = message;
      if (name === "seq") { // which these need
        delete less.credit;
        if (kind === "request") delete less.$items;
      }
      // Who gets a request without cmd, or a reply without res, refuses it as such.
      if (optional) assertEquals(kindOf(kind, less), kind, `${kind} without ${name}`);
      else if (!(kind === "request" || name === "res")) assert(kindOf(kind, less) !== kind, `${kind} without ${name}`);
    }
  }
});

Deno.test("MESSAGES has the names of all fields, and those that a command may not use", () => {
  const names = "cmd seq ttl meta credit $items max alive notice cancel item end res more $id err msg data $after going"
    .split(" ");
  assertEquals([...FIELD_NAMES].sort(), names.toSorted());
  const inTable = (kinds: Kind[]) => new Set(kinds.flatMap((kind) => Object.keys(MESSAGES[kind].fields)));
  assertEquals(FIELD_NAMES, inTable(KINDS));
  assertEquals(REPLY_FIELDS, inTable(["item", "reply", "error"]));
  const reserved = (isReserved: (name: string) => boolean) => [...names, "$x", "res2", ""].filter(isReserved);
  assertEquals(reserved(isReservedParameter), ["cmd", "seq", "ttl", "meta", "credit", "$items", "$id", "$after", "$x"]);
  const ofReplies = ["seq", "$items", "res", "more", "$id", "err", "msg", "data", "$after", "$x"];
  assertEquals(reserved(isReservedReplyField), ofReplies);
});

Deno.test("a reply that is written has the kind of the reply that is read", () => {
  const replies: [kind: Kind, reply: Reply][] = [
    ["item", new Reply(1, { res: 1 }, true)],
    ["reply", new Reply(undefined, { res: null }, false)],
    ["error", new Reply(1, new RpcError("NO"), false)],
  ];
  for (const [kind, reply] of replies) {
    const payload = payloadOf((writer) => writeReply(writer, reply));
    assertEquals([reply.kind, read(readReply, payload).kind], [kind, kind]);
  }
});

Deno.test("a type refuses the reserved names of parameters", () => {
  type Refused<Name extends string> = Mistake<Record<Name, number>, null> extends string ? true : false;
  const refused: { cmd: Refused<"cmd">; seq: Refused<"seq">; ttl: Refused<"ttl"> } = {
    cmd: true,
    seq: true,
    ttl: true,
  };
  const more: { meta: Refused<"meta">; credit: Refused<"credit">; $items: Refused<"$items"> } = {
    meta: true,
    credit: true,
    $items: true,
  };
  assertEquals(Object.keys({ ...refused, ...more }), Object.keys(MESSAGES.request.fields));
});

Deno.test("BUILT_IN_NUMBERS are those that the article and PROTOCOL.md have, and below the first free one", () => {
  assertEquals(Object.fromEntries(BUILT_IN_NUMBERS), { PING: 1, DELAY: 2, INFO: 3, STATS: 4 });
  for (const [name, command] of Object.entries<Command>({ ...builtIns, ...demoCommands })) {
    assertEquals(command.number, BUILT_IN_NUMBERS.get(name), name);
  }
});
