/** Schemas of parameters: what a handler gets, and what a caller is told. */

import { assertEquals } from "@std/assert";
import { command } from "../../handlers/command.ts";
import type { SchemaIssue } from "../../handlers/standard_schema.ts";
import { schemaOf } from "../support/schema.ts";
import { settle } from "../support/peers.ts";
import { withMemory } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const PONG = { res: "PONG" };

const later = <Value>(value: Value) => settle(1).then(() => value);

Deno.test("a schema gives the handler what it made of the parameters, at once or later", async () => {
  const made = (params: Message) => ({ value: { double: 2 * (params.a as number) } });
  const commands = {
    SYNC: command({ schema: schemaOf(made), handler: ({ double }) => double }),
    ASYNC: command({ schema: schemaOf((params) => later(made(params))), handler: ({ double }) => double }),
  };
  await using served = withMemory({ commands });
  for (const cmd of ["SYNC", "ASYNC"]) assertEquals(await served.peer.ask({ cmd, a: 21 }), { res: 42 });
});

Deno.test("a schema that does not hold is INVALID_PARAMS with every path in data, and no handler runs", async () => {
  const issues: SchemaIssue[] = [
    { message: "must be text", path: ["user", "name"] },
    { message: "must be positive", path: ["list", 3, { key: "price" }] },
    { message: "must not be there", path: [Symbol("hidden")] },
    { message: "must be told", path: undefined },
  ];
  let ran = 0;
  const handler = () => ++ran;
  const commands = {
    SYNC: command({ schema: schemaOf(() => ({ issues })), handler }),
    ASYNC: command({ schema: schemaOf(() => later({ issues })), handler }),
  };
  await using served = withMemory({ commands });
  for (const cmd of ["SYNC", "ASYNC"]) {
    assertEquals(await served.peer.ask({ cmd, seq: 1 }), {
      seq: 1,
      err: "INVALID_PARAMS",
      msg: "user.name: must be text; list.3.price: must be positive; Symbol(hidden): must not be there; must be told",
      data: [
        { path: ["user", "name"], message: "must be text" },
        { path: ["list", 3, "price"], message: "must be positive" },
        { path: ["Symbol(hidden)"], message: "must not be there" },
        { path: [], message: "must be told" },
      ],
    });
    assertEquals(await served.peer.ask({ cmd: 1 }), PONG);
  }
  assertEquals(ran, 0);
});

Deno.test("a schema that throws is INTERNAL, and the hook gets what it threw", async () => {
  const wrong = new Error("a mistake in the validator");
  const commands = {
    SYNC: command({
      schema: schemaOf(() => {
        throw wrong;
      }),
      handler: () => 1,
    }),
    ASYNC: command({ schema: schemaOf(() => Promise.reject(wrong)), handler: () => 1 }),
  };
  await using served = withMemory({ commands });
  for (const cmd of ["SYNC", "ASYNC"]) assertEquals(await served.peer.ask({ cmd }), { err: "INTERNAL" });
  assertEquals(served.errors.take(), [wrong, wrong]);
});

Deno.test("a schema sees the parameters alone, without what else a request holds", async () => {
  let seen: unknown;
  const schema = schemaOf((params) => {
    seen = params;
    return { value: params };
  });
  await using served = withMemory({ commands: { MINE: command({ schema, handler: () => 1 }) } });
  await served.peer.ask({ cmd: "MINE", a: 1, seq: 2, ttl: 3_000, meta: { b: "c" }, credit: 4, max: 5 });
  assertEquals(seen, { a: 1, max: 5 });
});

Deno.test("a call that ends while its schema checks it does not reach the handler", async () => {
  let ran = 0;
  const checks: (() => void)[] = [];
  const schema = schemaOf(async (params) => {
    await new Promise<void>((resolve) => checks.push(resolve));
    return { value: params };
  });
  const commands = { MINE: command({ schema, handler: () => ++ran }) };
  await using served = withMemory({ commands, maxInFlightTotal: 2 });
  await served.peer.send({ cmd: "MINE", seq: 1 }, { cmd: "MINE", seq: 2 }, { cmd: 0, seq: 1, cancel: true });
  assertEquals(await served.peer.readReply(), { seq: 1, err: "CANCELLED" });
  for (const check of checks) check();
  assertEquals(await served.peer.readReply(), { seq: 2, res: 1 });
  await settle();
  assertEquals([ran, served.errors.take()], [1, []]);
});
