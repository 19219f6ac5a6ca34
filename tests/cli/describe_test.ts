/** `client.ts describe COMMAND`: all that the server tells of one command. */

import { assertEquals, assertStringIncludes } from "@std/assert";
import { commandDescription } from "../../cli/description.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { runClient } from "./scripts.ts";

const GREET = command({
  number: 16,
  summary: "Greets somebody",
  params: ["name", "times"],
  handler: ({ name }: { name: string; times?: number }) => `Hello, ${name}!`,
});

const describe = command({ handler: ({ what }: { what?: string }) => `the server's own: ${what}` });

Deno.test("describe shows the parameters of a command, to people and to programs", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  const [people, program, missing, json, bench] = await Promise.all([
    runClient(server.port, "describe", "GREET"),
    runClient(server.port, "describe", "GREET", "--json"),
    runClient(server.port, "describe", "greet"),
    runClient(server.port, "describe", "FOO", "--json"),
    runClient(server.port, "describe", "GREET", "--bench"),
  ]);
  assertEquals(people, {
    code: 0,
    stdout: "GREET: Greets somebody\n\nparameters  name\n            times\nanswers     once\nnumber      16\n",
    stderr: "",
  });
  assertEquals(program.code, 0);
  assertEquals(JSON.parse(program.stdout).params, ["name", "times"]);
  assertEquals(missing, {
    code: 1,
    stdout: "",
    stderr: 'packline: the server has no command "greet" (did you mean GREET?)\n',
  });
  assertEquals(json, { code: 1, stdout: "", stderr: 'packline: the server has no command "FOO"\n' });
  assertEquals(bench, { code: 2, stdout: "", stderr: "packline: describe cannot be used with --bench; see --help\n" });
});

Deno.test("describe asks for the shapes of a command, and shows them as types", async () => {
  await using server = await serve({ port: 0 });
  assertEquals(
    (await runClient(server.port, "describe", "PING")).stdout,
    'PING: Answers PONG\n\nanswers  once: "PONG"\nerrors   NOT_READY\nnumber   1\n',
  );
  assertStringIncludes((await runClient(server.port, "describe", "INFO")).stdout, "\nparameters  shapes?: boolean\n");
});

Deno.test("a command is described by the types of its parameters, items, result and errors", () => {
  const text = { type: "string" };
  const RESIZE = {
    name: "RESIZE",
    summary: "Scales an image",
    params: ["name", "max width", "mode"],
    stream: false,
    shapes: {
      params: {
        type: "object",
        properties: { name: text, "max width": { type: "integer", minimum: 1 }, mode: { enum: ["fit", "fill"] } },
        required: ["name", "mode"],
      },
      result: { type: "object", properties: { url: text }, required: ["url"] },
      errors: { TOO_LARGE: null, NO_SUCH_IMAGE: { type: "object", properties: { name: text } } },
    },
  };
  assertEquals(
    commandDescription(RESIZE),
    `RESIZE: Scales an image

parameters  name: string
            "max width"?: number
            mode: "fit" | "fill"
answers     once: { url: string }
errors      TOO_LARGE
            NO_SUCH_IMAGE: { name?: string }`,
  );
  const SUM = { name: "SUM", params: [], stream: true, items: true, shapes: { items: { type: "number" } } };
  assertEquals(
    commandDescription(SUM),
    "SUM\n\ntakes    a stream of items (@PATH or -): number\nanswers  with a stream",
  );
  const EITHER = { name: "EITHER", params: [], shapes: { params: { anyOf: [text, { type: "null" }] } } };
  assertEquals(commandDescription(EITHER), "EITHER\n\nparameters  string | null");
});

Deno.test("a shape from a server that cannot be used is not known", () => {
  const $defs: Record<string, unknown> = { a0: { type: "string" } };
  for (let step = 1; step <= 20; step++) {
    const $ref = `#/$defs/a${step - 1}`;
    $defs[`a${step}`] = { type: "array", prefixItems: [{ $ref }, { $ref }] };
  }
  const command = { name: "BIG", stream: false, params: ["x"], shapes: { params: { $ref: "#/$defs/a20", $defs } } };
  assertEquals(commandDescription(command), "BIG\n\nparameters  x\nanswers     once");
  assertEquals(commandDescription({ ...command, shapes: "none" }), "BIG\n\nparameters  x\nanswers     once");
});

Deno.test("a shape that is deep by its references or large by its unions is not known, and a large integer is", () => {
  const $defs: Record<string, unknown> = {};
  for (let step = 0; step < 9_000; step++) $defs[`a${step}`] = { $ref: `#/$defs/a${step + 1}` };
  const parts = Array.from({ length: 7 }, (_, part) => ({
    anyOf: Array.from({ length: 10 }, (_, place) => ({ properties: { [`p${part}_${place}`]: { type: "null" } } })),
  }));
  const shapes: [shape: unknown, text: string][] = [
    [{ $ref: "#/$defs/a0", $defs }, "unknown"],
    [{ allOf: parts }, "unknown"],
    [{ anyOf: [{ type: "integer", maximum: 2n ** 60n }, { type: "string" }] }, "number | string"],
  ];
  for (const [result, text] of shapes) {
    const description = commandDescription({ name: "BIG", stream: false, shapes: { result } });
    assertEquals(description, `BIG\n\nanswers  once: ${text}`);
  }
});

Deno.test("a command of the server whose name is describe can still be called", async () => {
  await using server = await serve({ port: 0, commands: { describe } });
  assertEquals(
    (await runClient(server.port, "describe", "what=x", "--json")).stdout,
    '{"res":"the server\'s own: x"}\n',
  );
  assertEquals(
    (await runClient(server.port, "describe", "-", "--json")).stdout,
    '{"res":"the server\'s own: undefined"}\n',
  );
  assertEquals((await runClient(server.port, "describe", "describe")).stdout, "describe\n\nanswers  once\n");
});

Deno.test("what a later server tells of a command is shown as well", () => {
  const later = {
    name: "ADD",
    number: null,
    stream: true,
    params: [{ name: "a", type: "number" }, { name: "b", type: "number" }],
    result: "number",
    errors: ["TOO_LARGE", "INVALID_PARAMS"],
  };
  assertEquals(
    commandDescription(later),
    `ADD

parameters  {"name":"a","type":"number"}
            {"name":"b","type":"number"}
answers     with a stream
result      number
errors      TOO_LARGE
            INVALID_PARAMS`,
  );
  assertEquals(commandDescription(null), "");
});
