/** What a service hangs onto its server: tokens, the life of a connection, checked results, known parameters. */

import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import type { CallerConnection } from "../../handlers/caller_connection.ts";
import { bytes, command } from "../../handlers/command.ts";
import type { StandardSchema } from "../../handlers/standard_schema.ts";
import { tokens } from "../../handlers/tokens.ts";
import { createServer, serve } from "../../server.ts";
import { connectInMemory } from "../../testing.ts";
import { settle } from "../support/peers.ts";
import { ErrorLog } from "../support/test_server.ts";

const SECRET = "b1d5781111d84f7b3fe45a0852e59758";

async function codeOf(call: Promise<unknown>): Promise<string> {
  return (await assertRejects(() => call, RpcError)).code;
}

Deno.test("tokens() lets a call with a token through, and tells the handler whose it is", async () => {
  const authenticated = command.with(tokens({ [SECRET]: { name: "Ada" }, other: { name: "Bob" } }));
  const commands = { WHO: authenticated((_: object, { user }) => user.name) };
  await using server = createServer({ commands });
  await using client = await connectInMemory<typeof commands>(server);
  assertEquals(await client.call.WHO({}, { meta: { token: SECRET } }), "Ada");
  assertEquals(await client.call.WHO({}, { meta: { token: "other" } }), "Bob");
  for (const token of ["", "o", "other ", SECRET.slice(1), "__proto__", "constructor"]) {
    assertEquals(await codeOf(client.call.WHO({}, { meta: { token } })), "UNAUTHENTICATED", token);
  }
  assertEquals(await codeOf(client.call.WHO()), "UNAUTHENTICATED");
  assertEquals(await client.call.PING(), "PONG", "other commands need none");
});

Deno.test("tokens() refuses to stand for nobody, or for an empty token", () => {
  assertThrows(() => tokens({}), TypeError, "at least one");
  assertThrows(() => tokens({ "": 1 }), TypeError, "none may be empty");
});

Deno.test("tokens() takes no list for a map, whose tokens would be its positions", () => {
  const wrong: [unknown, string][] = [
    [[SECRET], "an array"],
    [SECRET, "a string"],
    [new Map([[SECRET, 1]]), "a Map"],
    [undefined, "undefined"],
    [null, "null"],
  ];
  for (const [users, kind] of wrong) {
    assertThrows(() => tokens(users as never), TypeError, `Cannot use ${kind} as tokens: use { token: user }`);
  }
});

Deno.test("a connection keeps the service's state from its first call to its end, each its own", async () => {
  const events: string[] = [];
  const ended = Promise.withResolvers<void>();
  const commands = {
    ADD: command(({ item }: { item: string }, { connection }) => {
      const basket = (connection.state.basket ??= []) as string[];
      basket.push(item);
      return basket;
    }),
  };
  await using server = await serve({
    port: 0,
    commands,
    onConnect: (connection: CallerConnection) => {
      connection.state.number = events.filter((event) => event.startsWith("connect")).length + 1;
      events.push(`connect ${connection.state.number}`);
    },
    onClose: ({ state }: CallerConnection) => {
      events.push(`close ${state.number}: ${state.basket}`);
      if (state.number === 1) ended.resolve();
    },
  });
  await using first = await connect<typeof commands>({ port: server.port });
  assertEquals(await first.call.ADD({ item: "a" }), ["a"]);
  await using second = await connect<typeof commands>({ port: server.port });
  assertEquals(await second.call.ADD({ item: "b" }), ["b"]);
  assertEquals(await first.call.ADD({ item: "c" }), ["a", "c"]);
  await first.close();
  await ended.promise;
  assertEquals(events, ["connect 1", "connect 2", "close 1: a,c"]);
});

Deno.test("what onConnect or onClose throws is reported, and the connection is served", async () => {
  const errors = new ErrorLog();
  const fail = (): never => {
    throw new Error("the hook failed");
  };
  // deno-lint-ignore require-await -- it rejects
  const failLater = async () => fail();
  for (const hook of [fail, failLater as () => void]) {
    {
      await using server = createServer({ onConnect: hook, onClose: hook, onError: errors.onError });
      await using client = await connectInMemory(server);
      assertEquals(await client.call.PING(), "PONG");
    }
    await settle();
    assertEquals(errors.take().map(String), Array(2).fill("Error: the hook failed"));
  }
});

Deno.test("checkResults takes what has a method then for a promise, as without it, and cuts chunks of bytes", async () => {
  const thenable = { then: (resolve: (value: number) => void) => resolve(5) };
  const commands = {
    LATER: command({ result: numberSchema(false), handler: () => thenable as unknown as Promise<number> }),
    BYTES: command({ result: bytes, handler: () => ReadableStream.from([new Uint8Array(200_000)]) }),
  };
  await using server = createServer({ commands, checkResults: true });
  await using client = await connectInMemory<typeof commands>(server);
  assertEquals(await client.call.LATER(), 5);
  const sizes: number[] = [];
  for await (const chunk of client.stream.BYTES()) sizes.push(chunk.length);
  assertEquals(sizes, [65_536, 65_536, 65_536, 3_392]);
});

Deno.test("checkResults lets a reader end a quiet stream at once, and ends a stream whose item does not fit", async () => {
  let ended = 0;
  const quiet = (items: unknown[]) =>
    new ReadableStream({
      start: (controller) => items.forEach((item) => controller.enqueue(item)),
      cancel: () => void ended++,
    });
  const commands = {
    QUIET: command({ result: numberSchema(false), handler: () => quiet([1]) as ReadableStream<number> }),
    WRONG: command({ result: numberSchema(true), handler: () => quiet(["1"]) as ReadableStream<number> }),
  };
  await using server = createServer({ commands, checkResults: true, onError() {} });
  await using client = await connectInMemory<typeof commands>(server);
  for await (const item of client.stream.QUIET()) {
    assertEquals(item, 1);
    break;
  }
  await settle();
  assertEquals(ended, 1, "its next item never comes");
  assertEquals(server.statistics().inFlight, 0);
  assertEquals(await codeOf(Array.fromAsync(client.stream.WRONG())), "INTERNAL");
  await settle();
  assertEquals([ended, server.statistics().inFlight], [2, 0]);
});

/** A schema that wants a number, at once or later. */
function numberSchema(isAsync: boolean): StandardSchema<number, number> {
  const validate = (value: unknown) =>
    typeof value === "number" ? { value } : { issues: [{ message: "must be a number", path: ["n"] }] };
  return {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) => isAsync ? Promise.resolve(validate(value)) : validate(value),
    },
  };
}

for (const isAsync of [false, true]) {
  Deno.test(`checkResults holds results and items to their schema, ${isAsync ? "later" : "at once"}`, async () => {
    const result: StandardSchema = numberSchema(isAsync); // the compiler would refuse what is not a number
    const commands = {
      GOOD: command({ result, handler: () => 1 }),
      BAD: command({ result, handler: () => "1" }),
      LATER: command({ result, handler: () => Promise.resolve("1") }),
      ITEMS: command({
        result,
        async *handler() {
          yield 1;
          yield "2";
        },
      }),
    };
    const errors = new ErrorLog();
    await using strict = createServer({ commands, checkResults: true, onError: errors.onError });
    await using client = await connectInMemory<typeof commands>(strict);
    assertEquals(await client.call.GOOD(), 1);
    assertEquals(await codeOf(client.call.BAD()), "INTERNAL");
    assertEquals(await codeOf(client.call.LATER()), "INTERNAL");
    const items = client.stream.ITEMS();
    assertEquals((await items.next()).value, 1);
    assertEquals(await codeOf(items.next()), "INTERNAL");
    assertEquals(
      errors.take().map(String),
      Array(3).fill("TypeError: the result does not fit its schema: n: must be a number"),
    );
    await using lenient = createServer({ commands });
    await using other = await connectInMemory<typeof commands>(lenient);
    assertEquals(await other.call.BAD(), "1", "by default nothing is checked");
  });
}

Deno.test("INFO takes the names of parameters from the schema, if it can tell them", async () => {
  const schema: StandardSchema<{ place: string }, { place: string }> = {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) => ({ value: value as { place: string } }),
      jsonSchema: { input: () => ({ type: "object", properties: { place: {}, country: {} } }) },
    },
  };
  const silent = structuredClone({ version: 1, vendor: "test" }) as object;
  const commands = {
    KNOWN: command({ schema, handler: ({ place }) => place }),
    UNKNOWN: command({
      schema: { "~standard": { ...silent, validate: (value: unknown) => ({ value }) } } as StandardSchema<
        object,
        object
      >,
      handler: () => null,
    }),
  };
  await using server = createServer({ commands, builtIns: ["INFO"] });
  await using client = await connectInMemory<typeof commands>(server);
  const info = await client.call.INFO();
  assertEquals(info.commands.map(({ name, params }) => [name, params]), [
    ["INFO", ["shapes"]],
    ["KNOWN", ["place", "country"]],
    ["UNKNOWN", []],
  ]);
});
