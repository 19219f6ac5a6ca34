/** The shapes of commands, as INFO tells them if it is asked. */

import { assertEquals } from "@std/assert";
import { bytes, command, unchecked } from "../../handlers/command.ts";
import type { JsonSchemaOptions, StandardSchema } from "../../handlers/standard_schema.ts";
import { withMemory } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";

const NAME = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };

/** A validator that answers with what `input` makes. */
function telling(input: (options: JsonSchemaOptions) => Record<string, unknown>): StandardSchema<Message> {
  return {
    "~standard": {
      version: 1,
      vendor: "test",
      validate: (value) => ({ value: value as Message }),
      jsonSchema: { input },
    },
  };
}

/** What INFO tells of commands, by name. */
async function told(
  commands: NonNullable<Parameters<typeof withMemory>[0]>["commands"],
  shapes: unknown = true,
): Promise<Record<string, Message>> {
  await using served = withMemory({ commands });
  const { res } = await served.peer.ask({ cmd: 3, shapes }) as { res: { commands: Message[] } };
  return Object.fromEntries(res.commands.map(({ name, ...others }) => [name, others]));
}

Deno.test("INFO tells the shapes of parameters, results, items and errors, as the schemas tell them", async () => {
  const data = { type: "object", properties: { max: { type: "integer" } } };
  const { MINE, NONE } = await told({
    MINE: command({
      schema: unchecked<{ name: string }>(NAME),
      result: unchecked<string>({ type: "string" }),
      items: bytes,
      errors: { NO_SUCH: null, TOO_LONG: unchecked<{ max: number }>(data), UNTOLD: unchecked<string>() },
      handler: ({ name }) => name,
    }),
    NONE: command(() => 1),
  });
  assertEquals(MINE.params, ["name"]);
  assertEquals(MINE.shapes, {
    params: NAME,
    result: { type: "string" },
    items: { type: "string", format: "binary" },
    errors: { NO_SUCH: null, TOO_LONG: data, UNTOLD: {} },
  });
  assertEquals(NONE.shapes, {}, "what is not known is not there");
});

Deno.test("INFO tells the names of parameters also from unions, intersections and references", async () => {
  const a = { type: "object", properties: { kind: { const: "a" }, x: { type: "number" } } };
  const b = { type: "object", properties: { kind: { const: "b" }, y: { type: "string" } } };
  const own = (shape: Message) => command({ schema: unchecked<object>(shape), handler: () => 1 });
  const tree = { type: "object", properties: { name: {}, next: { $ref: "#" } } };
  const commands = await told({
    UNION: own({ anyOf: [a, b] }),
    ONE_OF: own({ oneOf: [a, { anyOf: [b] }] }),
    BOTH: own({ properties: { z: {} }, allOf: [a, b] }),
    NAMED: own({ $ref: "#/$defs/a~1b", $defs: { "a/b": a } }),
    LOOP: own({ $ref: "#/$defs/tree", $defs: { tree: { allOf: [tree, { $ref: "#/$defs/tree" }, { $ref: "#" }] } } }),
    NOWHERE: own({ anyOf: [{ $ref: "#/$defs/none" }, { $ref: "https://example.org/shape" }, "text", null] }),
  });
  const names = (name: string) => commands[name].params;
  assertEquals(names("UNION"), ["kind", "x", "y"]);
  assertEquals(names("ONE_OF"), ["kind", "x", "y"]);
  assertEquals(names("BOTH"), ["z", "kind", "x", "y"]);
  assertEquals(names("NAMED"), ["kind", "x"]);
  assertEquals(names("LOOP"), ["name", "next"]);
  assertEquals(names("NOWHERE"), []);
});

Deno.test("INFO tells no shapes unless it is asked for them", async () => {
  const commands = { MINE: command({ schema: unchecked<{ name: string }>(NAME), handler: () => 1 }) };
  for (const { shapes } of Object.values(await told(commands, false))) assertEquals(shapes, undefined);
  await using served = withMemory({ commands });
  assertEquals(await served.peer.ask({ cmd: 3, shapes: 1 }), {
    err: "INVALID_PARAMS",
    msg: "shapes: must be true or false",
    data: [{ path: ["shapes"], message: "must be true or false" }],
  });
});

Deno.test("the commands of packline's own tell their shapes", async () => {
  const { PING, DELAY, INFO, STATS, ECHO, TALLY, TICK } = await told({}) as Record<string, { shapes: Message }>;
  assertEquals(PING.shapes, {
    params: { type: "object", properties: {} },
    result: { const: "PONG" },
    errors: { NOT_READY: null },
  });
  assertEquals(DELAY.shapes.params, {
    type: "object",
    properties: { sleep: { type: "number", minimum: 0, maximum: 2_147_483.647 } },
    required: ["sleep"],
  });
  assertEquals(TICK.shapes.result, { type: "integer", minimum: 1 });
  assertEquals(TALLY.shapes.items, {});
  assertEquals(Object.keys(ECHO.shapes), ["params", "errors"], "it answers with what it is given");
  await using served = withMemory({});
  for (const [cmd, { shapes }] of [["INFO", INFO], ["STATS", STATS]] as const) {
    const { res } = await served.peer.ask({ cmd }) as { res: Message };
    const { properties, required } = shapes.result as { properties: Message; required: string[] };
    assertEquals(required.filter((name) => !(name in res)), [], cmd);
    assertEquals(Object.keys(res).filter((name) => !(name in properties)), [], cmd);
  }
});

Deno.test("a validator that cannot tell a shape, or none that INFO can carry, is passed over", async () => {
  let deep: Record<string, unknown> = {};
  for (let depth = 0; depth < 60; depth++) deep = { items: deep };
  const circular: Record<string, unknown> = {};
  circular.not = circular;
  const handler = () => 1;
  const commands = {
    THROWS: command({
      schema: telling(() => {
        throw new Error("not to be told");
      }),
      handler,
    }),
    DEEP: command({ schema: telling(() => deep), handler }),
    CIRCULAR: command({ schema: telling(() => circular), handler }),
    CODE: command({ schema: telling(() => ({ type: "object", default: () => 1, maximum: 1n })), handler }),
  };
  const { THROWS, DEEP, CIRCULAR, CODE } = await told(commands);
  for (const { shapes, params } of [THROWS, DEEP, CIRCULAR, CODE]) assertEquals([shapes, params], [{}, []]);
});

Deno.test("a validator is asked once, for the draft that INFO speaks, and its version is not repeated", async () => {
  const asked: JsonSchemaOptions[] = [];
  const schema = telling((options) => {
    asked.push(options);
    return { $schema: "https://json-schema.org/draft/2020-12/schema", ...NAME };
  });
  await using served = withMemory({ commands: { MINE: command({ schema, handler: () => 1 }) } });
  for (let times = 0; times < 2; times++) {
    const { res } = await served.peer.ask({ cmd: 3, shapes: true }) as { res: { commands: Message[] } };
    assertEquals(res.commands.find(({ name }) => name === "MINE")?.shapes, { params: NAME });
  }
  assertEquals(asked, [{ target: "draft-2020-12", libraryOptions: { unrepresentable: "any", errorMode: "ignore" } }]);
});

Deno.test("a command says that it answers with a stream, if its handler is no async generator", async () => {
  const handler = () => ReadableStream.from([1, 2]);
  const { SAID, SILENT, SEEN } = await told({
    SAID: command({ stream: true, handler }),
    SILENT: command({ handler }),
    SEEN: command(async function* () {}),
  });
  assertEquals([SAID.stream, SILENT.stream, SEEN.stream], [true, false, true]);
});
