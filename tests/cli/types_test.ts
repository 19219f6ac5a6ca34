/** `client.ts --types`: the declarations of a server's commands, tried by the compiler, the interpreter or the checker of each language. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { type Contract, contractOf } from "../../cli/contract.ts";
import { commandDescription } from "../../cli/description.ts";
import { ContractError } from "../../cli/shape.ts";
import { luaTypes } from "../../cli/types_lua.ts";
import { pythonTypes } from "../../cli/types_python.ts";
import { typescriptTypes } from "../../cli/types_typescript.ts";
import { bytes, command, unchecked } from "../../handlers/command.ts";
import { RpcError } from "../../errors.ts";
import { type ListeningServer, serve } from "../../server.ts";
import { Folder, Program, root, run, testWith } from "../production/programs.ts";
import { linkTo } from "../support/newcomer.ts";
import { newSeed, Random } from "../support/random.ts";
import { runClient } from "./scripts.ts";

const GREETING = { type: "object", properties: { text: { type: "string" }, "odd-name": {} }, required: ["text"] };

const commands = {
  GREET: command({
    summary: "Greets somebody",
    schema: unchecked<{ name: string; times?: number }>({
      type: "object",
      properties: { name: { type: "string" }, times: { type: "integer", minimum: 1 } },
      required: ["name"],
    }),
    result: unchecked<{ text: string }>(GREETING),
    errors: {
      NOBODY: null,
      TOO_OFTEN: unchecked<{ max: number }>({
        type: "object",
        properties: { max: { type: "integer" } },
        required: ["max"],
      }),
    },
    handler({ name, times = 1 }) {
      if (times > 3) throw new RpcError("TOO_OFTEN", "three times at most", { data: { max: 3 } });
      return { text: `Hello, ${name}!` };
    },
  }),
  count_up: command({
    schema: unchecked<{ to: number }>({ type: "object", properties: { to: { type: "integer" } }, required: ["to"] }),
    result: unchecked<{ n: number; tags: string[] }>({
      type: "object",
      properties: { n: { type: "integer" }, tags: { type: "array", items: { type: "string" } } },
      required: ["n", "tags"],
    }),
    async *handler({ to }) {
      for (let n = 1; n <= to; n++) yield { n, tags: ["a"] };
    },
  }),
  UPLOAD: command({
    items: bytes,
    result: unchecked<number>({ type: "integer" }),
    async handler(_: object, { items }) {
      let size = 0;
      for await (const chunk of items) size += chunk.length;
      return size;
    },
  }),
  FIND: command({
    result: unchecked<{ text: string } | null>({ anyOf: [GREETING, { type: "null" }] }),
    handler: () => null,
  }),
  LOOSE: command({ params: ["what"], handler: ({ what }: { what?: string }) => what ?? "nothing" }),
};

/** What `--types` prints for these commands. */
async function typesOf(server: ListeningServer, language: string): Promise<string> {
  const { code, stdout, stderr } = await runClient(server.port, "--types", language);
  assertEquals([code, stderr], [0, ""]);
  return stdout;
}

/** Another repository: what is right compiles and runs, and each call that is wrong does not compile. */
const CALLER = `
import { connect } from "@packline/packline/client";
import type { Commands } from "./commands.ts";

await using client = await connect<Commands>({ port: Number(Deno.args[0]) });
const { text } = await client.call.GREET({ name: "Ada", times: 2 });
console.log(text.toUpperCase());
for await (const { n, tags } of client.stream.count_up({ to: 2 })) console.log(n.toFixed(), tags.join());
const size: number = await client.call.UPLOAD({}, { items: [new Uint8Array(3)] });
console.log(size, await client.call.PING() satisfies "PONG", await client.call.LOOSE({ what: "x" }));
const outcome = await client.outcome.GREET({ name: "Ada", times: 4 });
if (!outcome.ok && outcome.error.code === "TOO_OFTEN") console.log(outcome.error.data.max.toFixed());

export async function wrong() {
  // @ts-expect-error: the parameter is missing
  await client.call.GREET({});
  // @ts-expect-error: it is of another type
  await client.call.GREET({ name: 1 });
  // @ts-expect-error: there is no such parameter
  await client.call.GREET({ name: "Ada", loud: true });
  // @ts-expect-error: there is no such command
  await client.call.GREAT({ name: "Ada" });
  // @ts-expect-error: the result has no such field
  (await client.call.GREET({ name: "Ada" })).txt;
  // @ts-expect-error: it answers with a stream
  await client.call.count_up({ to: 2 });
  // @ts-expect-error: it answers once
  client.stream.GREET({ name: "Ada" });
  // @ts-expect-error: it needs a stream
  await client.call.UPLOAD({});
  // @ts-expect-error: the items are bytes
  await client.call.UPLOAD({}, { items: ["text"] });
  // @ts-expect-error: what is not known is unknown
  (await client.call.LOOSE({})).length;
  // @ts-expect-error: there is no such code
  if (!outcome.ok && outcome.error.code === "TOO_OFFEN") return;
}
`;

Deno.test("--types ts: another repository compiles its right calls and none of its wrong ones", async () => {
  await using server = await serve({ port: 0, commands });
  await using folder = await Folder.make();
  await folder.write("deno.json", JSON.stringify(linkTo(root)));
  await folder.write("commands.ts", await typesOf(server, "ts"));
  await folder.write("caller.ts", CALLER);
  const { code, text } = await run(
    Deno.execPath(),
    ["run", "--quiet", "--check", "--no-prompt", "--allow-net=127.0.0.1", "caller.ts", String(server.port)],
    { cwd: folder.path, env: { NO_COLOR: "1" } },
  );
  assertEquals([text, code], ["HELLO, ADA!\n1 a\n2 a\n3 PONG x\n3\n", 0]);
});

const PYTHON_CALLER = `
from commands import CountUpReplyItem, FindResult, GreetParams, GreetResult, GreetTooOftenData, UploadItem, UploadResult

right: GreetParams = {"name": "Ada"}
also: GreetParams = {"name": "Ada", "times": 2}
item: CountUpReplyItem = {"n": 1, "tags": ["a"]}
result: GreetResult = {"text": "Hello"}
found: FindResult = {"text": "Hello"}
nothing: FindResult = None
data: GreetTooOftenData = {"max": 3}
chunk: UploadItem = b"abc"
size: UploadResult = 3
`;

const PYTHON_WRONG = `
missing: GreetParams = {}
other: GreetParams = {"name": 1}
more: GreetParams = {"name": "Ada", "loud": True}
item2: CountUpReplyItem = {"n": "1", "tags": []}
text: UploadItem = "abc"
`;

testWith(["python3"], "--types python: Python reads the types, and knows each field", async () => {
  await using server = await serve({ port: 0, commands });
  await using folder = await Folder.make();
  await folder.write("commands.py", await typesOf(server, "python"));
  await folder.write(
    "caller.py",
    `${PYTHON_CALLER}
from typing import get_type_hints
print(sorted(get_type_hints(GreetParams)), sorted(GreetParams.__required_keys__), get_type_hints(CountUpReplyItem))
`,
  );
  assertEquals(await run("python3", ["-B", "-W", "error", "caller.py"], { cwd: folder.path }), {
    code: 0,
    text: "['name', 'times'] ['name'] {'n': <class 'int'>, 'tags': list[str]}\n",
  });
});

testWith(["mypy"], "--types python: mypy accepts what is right, and nothing that is wrong", async () => {
  await using server = await serve({ port: 0, commands });
  await using folder = await Folder.make();
  await folder.write("commands.py", await typesOf(server, "python"));
  await folder.write("caller.py", PYTHON_CALLER + PYTHON_WRONG);
  const cache = ["--strict", "--no-incremental", "--cache-dir=/dev/null"];
  const { text } = await run("mypy", [...cache, "caller.py", "commands.py"], { cwd: folder.path });
  const lines = PYTHON_CALLER.split("\n").length;
  const found = [...text.matchAll(/^(\w+\.py):(\d+): error/gm)].map(([, file, line]) => [file, Number(line) - lines]);
  assertEquals(found, [1, 2, 3, 4, 5].map((line) => ["caller.py", line]), text);
});

testWith(["luajit2"], "--types lua: LuaJIT compiles the annotations, which name each command", async () => {
  await using server = await serve({ port: 0, commands });
  await using folder = await Folder.make();
  const text = await typesOf(server, "lua");
  await folder.write("commands.lua", text);
  assertEquals(await run("luajit", ["-b", "commands.lua", "commands.raw"], { cwd: folder.path }), {
    code: 0,
    text: "",
  });
  for (
    const line of [
      "---@class packline.GreetParams\n---@field name string\n---@field times? integer\n",
      '---@overload fun(self: packline.Client, cmd: "GREET", params: packline.GreetParams, options?: table): packline.GreetReply?, packline.Failure?\n',
      '---@overload fun(self: packline.Client, cmd: "count_up", params: packline.CountUpParams, options?: table): fun(): packline.CountUpItem\n',
      '---@overload fun(self: packline.Client, cmd: "UPLOAD", params: table<string, unknown>, options: { items: packline.Binary[]|(fun(): packline.Binary?) }): packline.UploadReply?, packline.Failure?\n',
      '---@field ["odd-name"]? unknown\n',
    ]
  ) assertStringIncludes(text, line);
});

/** Texts that would run, end a comment or a text, or hide something, in one of the languages. */
const HOSTILE = [
  ...["*/ Deno.exit(42); /*", '"; Deno.exit(42); "', "`${Deno.exit(42)}`", "\nDeno.exit(42);\n", "\rDeno.exit(42);"],
  ...[
    "\u2028Deno.exit(42);\u2029",
    "}; Deno.exit(42); type X = {",
    "*/",
    "//",
    "/*",
    "\\",
    '\\"',
    "\\\nDeno.exit(42);",
  ],
  ...["]] os.exit(42) --[[", "\nos.exit(42)\n--", '"]? os.exit(42)', "[[", "--[==[", "\r\nos.exit(42)"],
  ...[
    '"""\nimport os; os._exit(42)\n"""',
    "')\nraise SystemExit(42)\n#",
    '"]\nraise SystemExit(42)',
    "\fraise SystemExit(42)",
  ],
  ...[
    "\u202e",
    "\u0000",
    "\u0085",
    "\ud800",
    "\u3164\ufe0f",
    "𝒳",
    "É",
    " ",
    "class",
    "None",
    "__proto__",
    "constructor",
    "toString",
    "a.b",
  ],
  ...["type", "mypy: ignore-errors", "@ts-expect-error", "@ts-ignore", "@diagnostic disable", "private", "package"],
];

/** One command for each text, which stands wherever a server can put one. */
function hostile(): Contract {
  const commands = HOSTILE.flatMap((text) => {
    const fields = Object.fromEntries([[text, { enum: [text, 1.5, null] }], ["inner", { properties: { [text]: {} } }]]);
    const object = { type: "object", title: text, description: text, properties: fields, required: [text, "inner"] };
    const shapes = {
      params: object,
      result: { anyOf: [object, { const: text }, { $ref: text }, { type: text }] },
      items: object,
      errors: { [text]: object, [`${text}2`]: null },
    };
    const one = { name: text, number: null, summary: text, params: [text], stream: false, shapes };
    return [one, { ...one, name: `${text}S`, stream: true, items: true }, { ...one, name: `X${text}`, shapes: {} }];
  });
  return contractOf({ commands });
}

Deno.test("nothing that a server says runs in the TypeScript that is written, which compiles", async () => {
  await using folder = await Folder.make();
  await folder.write("deno.json", JSON.stringify(linkTo(root)));
  const text = typescriptTypes(hostile());
  assert(/^[\t\n -~\p{L}\p{N}\p{P}\p{S}]*$/u.test(text), "there is an invisible character");
  assert(!/\p{DI}/u.test(text), "there is a letter without a glyph");
  await folder.write("commands.ts", `${text}\nconsole.log("the end");\n`);
  const { code, text: said } = await run(Deno.execPath(), ["run", "--quiet", "--check", "commands.ts"], {
    cwd: folder.path,
    env: { NO_COLOR: "1" },
  });
  assertEquals([said, code], ["the end\n", 0]);
  assertEquals(
    text.match(/^ {2}(?:\w+|"(?:[^"\\]|\\.)*"): Command</gm)?.length ?? 0,
    new Set(hostile().map(({ name }) => name)).size,
  );
});

testWith(["luajit2"], "nothing that a server says runs in the Lua that is written, which compiles", async () => {
  await using folder = await Folder.make();
  const text = luaTypes(hostile());
  const code = text.split("\n").filter((line) => line !== "" && !/^(---|-- )/.test(line));
  assertEquals(code, [
    "local Client = {}",
    "function Client:call(cmd, params, options) end",
    "function Client:stream(cmd, params, options) end",
    "return Client",
  ]);
  // The first word of a comment is ours, and a field has no name that is read as its visibility.
  assertEquals(
    new Set(text.match(/^---\S+/gm)),
    new Set([
      ...["meta", "class", "field", "overload", "param", "return"].map((tag) => `---@${tag}`),
      ...["Why", "Bytes", "Calls", "Command"].map((word) => `---${word}`),
    ]),
  );
  assert(!/^---@field (?:private|package)\b/m.test(text));
  await folder.write("commands.lua", text);
  assertEquals(await run("luajit", ["-e", 'print(type(dofile("commands.lua")))'], { cwd: folder.path }), {
    code: 0,
    text: "table\n",
  });
});

testWith(["python3"], "nothing that a server says runs in the Python that is written, which runs", async () => {
  await using folder = await Folder.make();
  await folder.write("commands.py", `${pythonTypes(hostile())}\nprint("the end")\n`);
  assertEquals(await run("python3", ["-B", "commands.py"], { cwd: folder.path }), { code: 0, text: "the end\n" });
});

testWith(["mypy"], "nothing that a server says tells mypy to look away, or is a mistake to it", async () => {
  await using folder = await Folder.make();
  await folder.write("commands.py", `${pythonTypes(hostile())}\n\nwrong: int = "text"\n`);
  const { text } = await run("mypy", ["--no-incremental", "--cache-dir=/dev/null", "commands.py"], {
    cwd: folder.path,
  });
  assertEquals(
    text.replaceAll(/^commands\.py:\d+: /gm, ""),
    'error: Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]\n' +
      "Found 1 error in 1 file (checked 1 source file)\n",
  );
});

Deno.test("the order in which a server lists its commands and their fields changes nothing", () => {
  const seed = newSeed();
  const random = new Random(seed);
  const shuffled = <Value>(values: readonly Value[]) =>
    values.map((value) => ({ value, place: random.next() })).sort((a, b) => a.place - b.place).map(({ value }) =>
      value
    );
  const reorder = (value: unknown): unknown =>
    typeof value !== "object" || value === null || Array.isArray(value)
      ? value
      : Object.fromEntries(shuffled(Object.entries(value)).map(([key, part]) => [key, reorder(part)]));
  const again = contractOf({ commands: shuffled(hostile()).map(reorder) });
  for (const write of [typescriptTypes, luaTypes, pythonTypes]) {
    assertEquals(write(again), write(hostile()), `seed ${seed}`);
  }
});

Deno.test("a shape that grows beyond all bounds by its references is refused, and one within itself is cut", () => {
  const $defs = Object.fromEntries(
    Array.from(
      { length: 40 },
      (_, n) => [`d${n}`, { type: "array", prefixItems: Array(2).fill({ $ref: `#/$defs/d${n + 1}` }) }],
    ),
  );
  const contract = (params: unknown) =>
    contractOf({ commands: [{ name: "A", number: null, params: [], stream: false, shapes: { params } }] });
  for (const write of [typescriptTypes, luaTypes, pythonTypes]) {
    let error: unknown;
    try {
      write(contract({ $defs, $ref: "#/$defs/d0" }));
    } catch (thrown) {
      error = thrown;
    }
    assert(error instanceof ContractError, String(error));
    write(contract({ type: "object", properties: { self: { $ref: "#" } } }));
  }
});

Deno.test("names in any writing are written as they are, and described so", () => {
  const params = { type: "object", properties: { "größe": { enum: ["漢字"] } }, required: ["größe"] };
  const measure = { name: "MESSEN", params: ["größe"], stream: false, shapes: { params } };
  const contract = contractOf({ commands: [measure] });
  assertStringIncludes(typescriptTypes(contract), 'MESSEN: Command<{ "größe": "漢字" }, ');
  assertStringIncludes(pythonTypes(contract), '    "größe": Literal["漢字"],\n');
  assertStringIncludes(luaTypes(contract), '\n---@field ["größe"] "漢字"\n');
  assertStringIncludes(commandDescription(measure), 'parameters  "größe": "漢字"');
});

Deno.test("a required field that is not listed has the shape of all others", () => {
  const of = (others: object) => {
    const params = { type: "object", required: ["a"], ...others };
    return typescriptTypes(contractOf({ commands: [{ name: "A", shapes: { params } }] }));
  };
  assertStringIncludes(
    of({ additionalProperties: { type: "number" } }),
    "Command<{ a: number; [name: string]: unknown }",
  );
  assertStringIncludes(of({ additionalProperties: true }), "Command<{ a: unknown; [name: string]: unknown }");
  assertStringIncludes(of({}), "Command<{ a: unknown }");
  const patterns = { patternProperties: { "^a": { type: "string" } }, additionalProperties: { type: "number" } };
  assertStringIncludes(of(patterns), "Command<{ a: unknown; [name: string]: unknown }");
});

const ZOD_SERVICE = `
import { command, run } from "@packline/packline";
import { z } from "zod";

type Tree = { left?: Tree };
const tree: z.ZodType<Tree> = z.object({ get left() { return tree.optional(); } });
await run({
  port: 0,
  commands: {
    RECORD: command({
      schema: z.object({
        place: z.string().trim().min(1),
        degrees: z.number(),
        at: z.iso.datetime().default("2026-01-01T00:00:00Z"),
        photo: z.instanceof(Uint8Array).meta({ type: "string", format: "binary" }).optional(),
        kind: z.union([z.literal("air"), z.literal("water"), z.null()]),
      }),
      result: z.object({ id: z.int(), seen: z.record(z.string(), z.number()), tree }),
      errors: { NO_SUCH_PLACE: z.object({ nearest: z.array(z.string()) }) },
      handler: () => ({ id: 1, seen: {}, tree: {} }),
    }),
  },
});
`;

Deno.test("--types ts: schemas of zod tell their shapes", async () => {
  await using folder = await Folder.make();
  const config = linkTo(root);
  await folder.write(
    "deno.json",
    JSON.stringify({ ...config, imports: { ...config.imports as object, zod: "npm:zod@4.6.7" } }),
  );
  await folder.write("service.ts", ZOD_SERVICE);
  const checked = await run(Deno.execPath(), ["check", "--quiet", "service.ts"], { cwd: folder.path });
  assertEquals(checked, { code: 0, text: "" });
  await using service = await Program.start(
    Deno.execPath(),
    ["run", "--no-prompt", "--allow-net=127.0.0.1", "service.ts"],
    /listening on 127\.0\.0\.1:\d+\n/,
    { cwd: folder.path },
  );
  const port = Number(service.said.match(/listening on 127\.0\.0\.1:(\d+)/)?.[1]);
  const { stdout } = await runClient(port, "--types", "ts");
  assertStringIncludes(
    stdout,
    '  RECORD: Command<{ at?: string; degrees: number; kind: "air" | "water" | null; photo?: Uint8Array; place: string }, ' +
      "{ id: number; seen: Record<string, number>; tree: { left?: unknown } }, " +
      "{ NO_SUCH_PLACE: StandardSchema<{ nearest: string[] }> }, never>;\n",
  );
});
