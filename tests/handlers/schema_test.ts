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

Deno.test("of very many or long issues a caller gets the first, and how many more there are", async () => {
  const issues = (count: number): SchemaIssue[] => {
    return Array.from({ length: count }, (_, place) => ({ message: "must be text", path: ["list", place] }));
  };
  const long = "x".repeat(100_000);
  const faces = "x" + "😀".repeat(1_000);
  const commands = {
    MANY: command({ schema: schemaOf(({ count }) => ({ issues: issues(count as number) })), handler: () => 1 }),
    LONG: command({ schema: schemaOf(() => ({ issues: [{ message: long, path: [long] }] })), handler: () => 1 }),
    FACES: command({ schema: schemaOf(() => ({ issues: [{ message: faces, path: [faces] }] })), handler: () => 1 }),
  };
  await using served = withMemory({ commands });
  const ask = async (params: Message) => await served.peer.ask(params) as { msg: string; data: SchemaIssue[] };
  const shown = (count: number) =>
    issues(count).map(({ path, message }) => `${path?.join(".")}: ${message}`).join("; ");
  for (const count of [10, 11, 100, 101, 50_000]) {
    const { msg, data } = await ask({ cmd: "MANY", count });
    assertEquals(msg, count === 10 ? shown(10) : `${shown(10)}; and ${count - 10} more`);
    assertEquals(data, issues(Math.min(count, 100)) as unknown[]);
  }
  const { msg, data } = await ask({ cmd: "LONG" });
  const cut = `${long.slice(0, 500)}…`;
  assertEquals([msg, data], [`${cut}: ${cut}`, [{ message: cut, path: [cut] }]]);
  const whole = `x${"😀".repeat(249)}…`; // no half of a character
  assertEquals((await ask({ cmd: "FACES" })).data, [{ message: whole, path: [whole] }]);
  assertEquals(served.errors.take(), []);
});

Deno.test("an issue of a class, whose text is a getter, is told as any other", async () => {
  class Issue implements SchemaIssue {
    readonly path = ["name"];

    get message(): string {
      return "must be text";
    }
  }
  const schema = schemaOf(() => ({ issues: [new Issue()] }));
  const commands = {
    MINE: command({ schema, handler: () => 1 }),
    ITEMS: command({
      items: schema,
      async handler(_params: object, { items }) {
        for await (const _ of items);
      },
    }),
  };
  await using served = withMemory({ commands });
  const refused = (path: SchemaIssue["path"]) => ({
    err: "INVALID_PARAMS",
    msg: `${path?.join(".")}: must be text`,
    data: [{ path, message: "must be text" }],
  });
  assertEquals(await served.peer.ask({ cmd: "MINE" }), refused(["name"]));
  await served.peer.send({ cmd: "ITEMS", seq: 1, $items: true }, { cmd: 0, seq: 1, item: {} });
  let reply = await served.peer.readReply();
  while (reply.err === undefined) reply = await served.peer.readReply(); // grants come first
  assertEquals(reply, { seq: 1, ...refused(["items", 0, "name"]) });
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
