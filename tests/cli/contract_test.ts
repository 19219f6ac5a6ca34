/** Contracts: which changes break a caller, and `client.ts --check`. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { breakingChanges } from "../../cli/contract_changes.ts";
import { contractOf, contractText } from "../../cli/contract.ts";
import type { Shape, ShapeField } from "../../cli/shape.ts";
import { shapeChanges } from "../../cli/shape_changes.ts";
import { command, unchecked } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { runScript } from "./scripts.ts";

type Schema = Record<string, unknown>;

const TEXT = { type: "string" };
const NUMBER = { type: "number" };
const INTEGER = { type: "integer" };

/** An object; a name with `?` may be missing. */
function object(fields: Record<string, unknown>, more: Schema = {}): Schema {
  const properties = Object.fromEntries(Object.entries(fields).map(([name, shape]) => [name.replace("?", ""), shape]));
  return { type: "object", properties, required: Object.keys(fields).filter((name) => !name.endsWith("?")), ...more };
}

/** One command, as INFO tells it. */
function greet(more: Schema = {}): Schema {
  return { name: "GREET", number: null, summary: "", params: [], stream: false, ...more };
}

function contract(...commands: Schema[]) {
  return contractOf({ commands });
}

/** What breaks if the shape of a part changes. */
function changes(part: string, before: unknown, after: unknown): string[] {
  const wrap = (shape: unknown) => contract(greet({ shapes: shape === undefined ? {} : { [part]: shape } }));
  return breakingChanges(wrap(before), wrap(after));
}

type Row = [what: string, before: unknown, after: unknown, said?: string];

/** Checks a table of changes of one part. A row without words is a change that breaks nobody. */
function check(part: string, rows: readonly Row[]): void {
  for (const [what, before, after, said] of rows) {
    assertEquals(changes(part, before, after), said === undefined ? [] : [`GREET: ${said}`], what);
    assertEquals(changes(part, before, before), [], `${what}: no change`);
  }
}

Deno.test("ten changes of the parameters that break, and ten that do not", () => {
  const name = object({ name: TEXT });
  check("params", [
    ["new and required", name, object({ name: TEXT, times: NUMBER }), 'the parameter "times" is new and required'],
    ["required now", object({ "name?": TEXT }), name, 'the parameter "name" is required now'],
    ["gone", object({ name: TEXT, "times?": NUMBER }), name, 'the parameter "times" is gone'],
    ["another type", name, object({ name: NUMBER }), 'the parameter "name" was string and is number'],
    [
      "narrower",
      object({ n: NUMBER }),
      object({ n: INTEGER }),
      'the parameter "n" was number and is integer',
    ],
    [
      "fewer words",
      object({ kind: { enum: ["a", "b"] } }),
      object({ kind: { enum: ["a"] } }),
      'the parameter "kind" was "a" or "b" and is "a"',
    ],
    [
      "a narrower bound",
      object({ n: { ...INTEGER, maximum: 10 } }),
      object({ n: { ...INTEGER, maximum: 9 } }),
      'the parameter "n" had maximum 10 and has maximum 9',
    ],
    [
      "a new bound",
      name,
      object({ name: { ...TEXT, pattern: "^a" } }),
      'the parameter "name" had no pattern and has pattern "^a"',
    ],
    [
      "deep inside",
      object({ at: object({ "x?": NUMBER }) }),
      object({ at: object({ x: NUMBER }) }),
      'the parameter "at.x" is required now',
    ],
    ["closed", name, { ...name, additionalProperties: false }, "the parameters may have no other fields now"],
  ]);
  check("params", [
    ["new and optional", name, object({ name: TEXT, "times?": NUMBER })],
    ["optional now", name, object({ "name?": TEXT })],
    ["wider", object({ n: INTEGER }), object({ n: NUMBER })],
    ["one type more", name, object({ name: { type: ["string", "number"] } })],
    ["more words", object({ kind: { enum: ["a"] } }), object({ kind: { enum: ["a", "b"] } })],
    ["any text", object({ kind: { enum: ["a", "b"] } }), object({ kind: TEXT })],
    ["a wider bound", object({ n: { ...NUMBER, minimum: 1 } }), object({ n: { ...NUMBER, minimum: 0 } })],
    ["no bound", object({ name: { ...TEXT, minLength: 1 } }), name],
    ["anything", name, object({ name: {} })],
    ["other words for people", name, object({ name: { ...TEXT, description: "Who", title: "Name" } })],
    ["words of a validator", name, object({ name: { ...TEXT, example: "Ada", "x-order": 1 } })],
  ]);
});

Deno.test("ten changes of the result that break, and ten that do not", () => {
  const user = object({ name: TEXT, age: INTEGER });
  check("result", [
    ["a field gone", user, object({ name: TEXT }), 'the result: the field "age" is gone'],
    [
      "a field may be missing",
      user,
      object({ name: TEXT, "age?": INTEGER }),
      'the result: the field "age" may be missing now',
    ],
    [
      "a wider field",
      user,
      object({ name: TEXT, age: NUMBER }),
      'the result: the field "age" was integer and is number',
    ],
    [
      "a field may be nil",
      user,
      object({ name: { type: ["string", "null"] }, age: INTEGER }),
      'the result: the field "name" was string and is string or null',
    ],
    ["another type", TEXT, NUMBER, "the result was string and is number"],
    ["one word more", { enum: ["a"] }, { enum: ["a", "b"] }, 'the result was "a" and is "a" or "b"'],
    ["one type more", TEXT, { anyOf: [TEXT, NUMBER] }, "the result was string and is string or number"],
    ["a wider bound", { ...INTEGER, minimum: 0 }, INTEGER, "the result had minimum 0 and has no minimum"],
    [
      "the elements of an array",
      { type: "array", items: TEXT },
      { type: "array", items: NUMBER },
      'the result: the field "[]" was string and is number',
    ],
    ["not described any more", user, undefined, "the result is not described any more"],
  ]);
  check("result", [
    ["a field more", object({ name: TEXT }), user],
    ["a field is always there", object({ name: TEXT, "age?": INTEGER }), user],
    ["a narrower field", object({ n: NUMBER }), object({ n: INTEGER })],
    ["never nil any more", { type: ["string", "null"] }, TEXT],
    ["fewer words", { enum: ["a", "b"] }, { const: "a" }],
    ["words", TEXT, { enum: ["a", "b"] }],
    ["a type less", { anyOf: [TEXT, NUMBER] }, NUMBER],
    ["a bound", INTEGER, { ...INTEGER, minimum: 0, maximum: 9 }],
    ["described now", undefined, user],
    ["the same by reference", user, { $ref: "#/$defs/user", $defs: { user } }],
  ]);
});

Deno.test("ten changes of commands that break, and ten that do not", () => {
  const before = greet({ number: 16, params: ["name"], shapes: { errors: { NO_SUCH: null } } });
  const errors = (codes: Schema) => greet({ shapes: { errors: codes } });
  const items = (shape: unknown) => greet({ items: true, shapes: { items: shape } });
  const streamed = (shape: unknown) => greet({ stream: true, shapes: { result: shape } });
  const max = object({ max: INTEGER });
  const breaking: [before: Schema, after: Schema[], said: string][] = [
    [before, [], "the command is gone"],
    [before, [{ ...before, name: "greet" }], "the command is gone"],
    [before, [{ ...before, number: 17 }], "its number was 16 and is 17"],
    [before, [{ ...before, stream: true }], "it answers with a stream and no longer once"],
    [greet({ stream: true }), [greet()], "it answers once and no longer with a stream"],
    [before, [{ ...before, items: true }], "it needs a stream from the caller now"],
    [greet({ items: true }), [greet()], "it takes no stream from the caller any more"],
    [items(NUMBER), [items(INTEGER)], "an item of the caller was number and is integer"],
    [streamed(INTEGER), [streamed(NUMBER)], "an item of the reply was integer and is number"],
    [before, [{ ...before, params: ["who"] }], 'the parameter "name" is gone'],
    [errors({ A: null }), [errors({ A: null, B: null })], "the error B is new"],
    [
      errors({ A: max }),
      [errors({ A: object({ max: NUMBER }) })],
      'the data of the error A: the field "max" was integer and is number',
    ],
    [errors({ A: max }), [errors({ A: null })], "the data of the error A is gone"],
    [errors({ A: null }), [greet()], "its errors are not described any more"],
  ];
  for (const [before, after, said] of breaking) {
    assertEquals(breakingChanges(contract(before), contract(...after)), [`GREET: ${said}`]);
  }
  const harmless: [before: Schema, ...after: Schema[]][] = [
    [before, before, greet({ name: "NEW" })],
    [before, { ...before, summary: "Greets" }],
    [greet(), greet({ number: 16 })],
    [before, { ...before, params: ["name", "times"] }],
    [items(INTEGER), items(NUMBER)],
    [streamed(NUMBER), streamed(INTEGER)],
    [errors({ A: null, B: null }), errors({ A: null })],
    [errors({ A: null }), errors({ A: max })],
    [errors({ A: object({ max: NUMBER }) }), errors({ A: max })],
    [greet(), errors({ A: null })],
    [greet(), greet({ params: ["name"], shapes: { params: object({ name: TEXT }) } })],
  ];
  for (const [before, ...after] of harmless) {
    assertEquals(breakingChanges(contract(before), contract(...after)), [], JSON.stringify(after));
  }
});

Deno.test("unions, dictionaries, tuples and schemas within themselves are compared by what they let through", () => {
  const tree = { $defs: { tree: object({ "left?": { $ref: "#/$defs/tree" } }) }, $ref: "#/$defs/tree" };
  const dictionary = (values: unknown) => ({ type: "object", additionalProperties: values });
  check("result", [
    ["a boolean of two words", { enum: [true, false] }, { type: "boolean" }],
    ["a member of a union", { anyOf: [object({ a: TEXT }), object({ b: TEXT })] }, object({ b: TEXT })],
    ["a narrower dictionary", dictionary(NUMBER), dictionary(INTEGER)],
    [
      "a wider dictionary",
      dictionary(INTEGER),
      dictionary(NUMBER),
      'the result: the field "*" was integer and is number',
    ],
    ["a field of a dictionary", dictionary(NUMBER), object({ a: INTEGER }, { additionalProperties: NUMBER })],
    ["a tree", tree, tree],
    ["null in another way", { anyOf: [TEXT, { const: null }] }, { type: ["string", "null"] }],
    [
      "null beside an object",
      object({ a: TEXT }),
      { anyOf: [object({ a: TEXT }), { type: "null", const: null }] },
      "the result was an object and is an object or null",
    ],
    [
      "a field of a member",
      { anyOf: [object({ a: TEXT, b: TEXT }), { type: "null" }] },
      { anyOf: [object({ a: TEXT }), { type: "null" }] },
      'the result: the field "b" is gone',
    ],
    [
      "a field of the most similar member",
      { oneOf: [object({ kind: { const: "a" }, x: NUMBER }), object({ kind: { const: "b" }, y: INTEGER })] },
      { oneOf: [object({ kind: { const: "a" }, x: NUMBER }), object({ kind: { const: "b" }, y: NUMBER })] },
      'the result: the field "y" was integer and is number',
    ],
    [
      "another variant",
      object({ kind: { const: "a" } }),
      { oneOf: [object({ kind: { const: "a" } }), object({ kind: { const: "b" } })] },
      'the result was an object with kind "a" and is an object with kind "a" or an object with kind "b"',
    ],
    ["bytes", { ...TEXT, format: "binary" }, TEXT, "the result was bytes and is string"],
    [
      "a tuple",
      { type: "array", prefixItems: [TEXT, NUMBER], items: false },
      { type: "array", prefixItems: [TEXT, TEXT], items: false },
      'the result: the field "1" was number and is string',
    ],
    ["both at once", object({ a: TEXT, b: TEXT }), { allOf: [object({ a: TEXT }), object({ b: TEXT })] }],
    ["never", TEXT, { not: {} }],
  ]);
  check("params", [
    [
      "a dictionary that all fields must fit",
      object({ a: TEXT }),
      { allOf: [dictionary(NUMBER), object({ a: TEXT })] },
      'the parameter "a" was string and is number',
    ],
  ]);
});

Deno.test("large unions within each other are compared, as those of a language's syntax", () => {
  // A comparison of all variants with all others to their ends took minutes.
  const syntax = (leaf: unknown) => {
    const kinds = ["expression", "statement", "pattern"];
    const variants = (kind: string, inner: string) =>
      Array.from(
        { length: 12 },
        (_, n) => object({ kind: { const: `${kind}${n}` }, inner: { $ref: `#/$defs/${inner}` }, leaf }),
      );
    const $defs = Object.fromEntries(
      kinds.map((kind, place) => [kind, { oneOf: variants(kind, kinds[(place + 1) % kinds.length]) }]),
    );
    return { $defs, $ref: "#/$defs/expression" };
  };
  assertEquals(
    changes("result", syntax(INTEGER), syntax(NUMBER)),
    ["inner.inner.leaf", "inner.leaf", "leaf"].map((path) =>
      `GREET: the result: the field "${path}" was integer and is number`
    ),
  );
});

Deno.test("unchanged variants within variants are not compared with all others", () => {
  let compared = 0;
  class Counted extends Map<string, ShapeField> {
    override keys() {
      compared++;
      return super.keys();
    }
  }
  const shapeOf = (name: string, depth: number): Shape => {
    const inner = depth === 0
      ? { kind: "string" as const, bounds: new Map() }
      : { kind: "union" as const, members: ["a", "b", "c", "d", "e"].map((each) => shapeOf(name + each, depth - 1)) };
    const fields = new Counted([[depth === 0 ? name : "inner", { shape: inner, required: true }]]);
    return { kind: "object", fields, others: undefined, bounds: new Map() };
  };
  for (const side of ["sent", "got"] as const) {
    compared = 0;
    const changes = shapeChanges(shapeOf("", 3), shapeOf("", 3), { side, names: "field", whole: "it" });
    assertEquals([changes, compared], [[], 2], side); // the outermost object alone, before and after
  }
});

Deno.test("a contract says the same each time, and a saved one is read as it was", () => {
  const params = object({ b: TEXT, a: NUMBER });
  const one = contract(greet({ name: "B", shapes: { params } }), greet({ name: "A" }));
  const other = contract(greet({ name: "A" }), {
    shapes: { params: { required: ["b", "a"], properties: { a: NUMBER, b: TEXT }, type: "object" } },
    ...greet({ name: "B" }),
  });
  assertEquals(contractText(one), contractText(other));
  assertEquals(contractOf(JSON.parse(contractText(one))), one);
  // A terminal may show it: nothing of a server's in it is a command to the terminal.
  const odd = contract(greet({ summary: "\u009b31m\u202e\u2028" }));
  assert(/^[\n -~]*$/.test(contractText(odd)), contractText(odd));
  assertEquals(contractOf(JSON.parse(contractText(odd))), odd);
});

Deno.test("client.ts --check compares a running server with what was saved", async () => {
  const folder = await Deno.makeTempDir({ prefix: "packline-contract-" });
  const path = `${folder}/contract.json`;
  const call = (port: number, ...args: string[]) =>
    runScript("client", ["--port", String(port), ...args], {
      permissions: ["--allow-net=127.0.0.1", `--allow-read=${folder}`],
    });
  const GREET = command({
    schema: unchecked<{ name: string }>(object({ name: TEXT })),
    handler: ({ name }) => `Hello, ${name}!`,
  });
  const LOUD = command({
    schema: unchecked<{ name: string; loud: boolean }>(object({ name: TEXT, loud: { type: "boolean" } })),
    handler: ({ name }) => `Hello, ${name}!`,
  });
  try {
    await using before = await serve({ port: 0, commands: { GREET } });
    const saved = await call(before.port, "--types", "json");
    assertEquals([saved.code, saved.stderr], [0, ""]);
    await Deno.writeTextFile(path, saved.stdout);
    assertEquals(await call(before.port, "--check", path), {
      code: 0,
      stdout: "no change breaks the callers of 4 commands\n",
      stderr: "",
    });
    await using after = await serve({ port: 0, commands: { GREET: LOUD }, builtIns: ["PING", "INFO"] });
    assertEquals(await call(after.port, "--check", path), {
      code: 1,
      stdout: 'GREET: the parameter "loud" is new and required\nSTATS: the command is gone\n',
      stderr: "",
    });

    const depth = 20_000;
    await Deno.writeTextFile(
      path,
      `{"commands":[{"name":"GREET","shapes":${'{"items":'.repeat(depth)}1${"}".repeat(depth)}}]}`,
    );
    assertEquals(await call(before.port, "--check", path), {
      code: 3,
      stdout: "",
      stderr: `packline: cannot use --check ${path}: a shape has more than 1000 levels\n`,
    });

    await Deno.writeTextFile(path, "[]");
    const [useless, missing, both, word] = await Promise.all([
      call(before.port, "--check", path),
      call(before.port, "--check", `${folder}/none.json`),
      call(before.port, "--check", path, "--types", "ts"),
      call(before.port, "--types", "ts", "GREET"),
    ]);
    assertEquals([useless.code, useless.stderr], [
      3,
      `packline: cannot use --check ${path}: there are no commands in it\n`,
    ]);
    assertEquals([missing.code, missing.stderr], [
      3,
      `packline: cannot read --check ${folder}/none.json: there is no such file\n`,
    ]);
    assertEquals([both.code, both.stderr], [2, "packline: --types cannot be used with --check; see --help\n"]);
    assertEquals([word.code, word.stderr], [
      2,
      'packline: --types cannot be used with a command, such as "GREET"; see --help\n',
    ]);

    await using small = await serve({ port: 0, commands: { GREET }, maxPayloadBytes: 1_000, onError() {} });
    const tooLarge = await call(small.port, "--types", "ts");
    assertEquals(tooLarge.code, 3);
    assertMatch(
      tooLarge.stderr,
      /^packline: the server's reply to INFO cannot be used: REPLY_TOO_LARGE: the payload is .* 1000; raise the limit at both ends, here with --max-payload-bytes\n$/,
    );
    // Not 1, which would say that a change breaks the callers.
    await Deno.writeTextFile(path, saved.stdout);
    await using silent = await serve({ port: 0, commands: { GREET }, builtIns: ["PING"] });
    assertEquals(await call(silent.port, "--check", path), {
      code: 3,
      stdout: "",
      stderr: "packline: the server's reply to INFO cannot be used: CMD_NOT_FOUND\n",
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
