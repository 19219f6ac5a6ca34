/** PROTOCOL.md, held against the project: its tables, its sections, its citations, and the client on its first page. */

import { assert, assertEquals, AssertionError, assertMatch, assertThrows } from "@std/assert";
import { demoCommands } from "../cli/demo_commands.ts";
import { BUILT_IN_NUMBERS } from "../codec/message.ts";
import { type Field, type Kind, MESSAGES } from "../codec/message_table.ts";
import { decode, encode, EncodeError } from "./support/msgpack.ts";
import type { Command } from "../handlers/command.ts";
import { tapOf } from "../handlers/built_ins/tap.ts";
import { builtIns } from "../handlers/registry.ts";
import { Taps } from "../handlers/tap.ts";
import { DEFAULT_LIMITS, LIMIT_NAMES } from "../limits.ts";
import { frame } from "./support/wire.ts";
import { ERROR_CODES, type ErrorCode, RpcError } from "../errors.ts";
import {
  bytesOf,
  documentSamples,
  moreText,
  projectFile,
  quoteKeys,
  RawClient,
  serveSamples,
  shown,
  text,
} from "./support/samples.ts";

// Tables ------------------------------------------------------------------------------------------------------------

/** The rows of the table whose first column has this head. */
function rowsOf(markdown: string, head: string): string[][] {
  const [, body] = markdown.match(new RegExp(`^\\| ${head} +\\|.*\\n\\|[ :|-]+\\n((?:\\|.*\\n)+)`, "m")) ?? [];
  if (body === undefined) throw new AssertionError(`there is no table of "${head}"`);
  return body.trimEnd().split("\n").map((row) => row.slice(1, -1).split("|").map((cell) => cell.trim()));
}

/** What stands in a cell between backticks. */
function code(cell: string): string | undefined {
  return cell.match(/`([^`]*)`/)?.[1];
}

function payloadOf(cell: string): Uint8Array {
  return Uint8Array.from(bytesOf(code(cell) ?? "").bytes, (byte) => byte ?? 0);
}

Deno.test("PROTOCOL.md: the table of headers", () => {
  const cells = rowsOf(text, "payload").flat();
  assertEquals(cells.length, 32);
  for (let index = 0; index < cells.length; index += 2) {
    const length = Number(cells[index].replace(",", ""));
    assertEquals(shown([...frame(new Uint8Array(length)).subarray(0, 2)]), code(cells[index + 1]), cells[index]);
  }
});

Deno.test("PROTOCOL.md: each value in the table of differences comes back as it says", async () => {
  const rows = [...rowsOf(text, "sent"), ...rowsOf(moreText, "sent")];
  assert(rows.length >= 20);
  const server = await serveSamples();
  try {
    using client = await RawClient.connect(server);
    await client.write(frame(encode({ cmd: 0, max: DEFAULT_LIMITS.maxPayloadBytes })));
    for (const [sent, what, back] of rows) {
      const request = [0x82, ...encode("value"), ...payloadOf(sent), ...encode("cmd"), 16];
      await client.write(frame(new Uint8Array(request)));
      const { payload } = await client.takeFrame();
      if (code(back) === undefined) assertEquals((decode(payload) as { err?: string }).err, back, what);
      else assertEquals(shown([...payload]), shown([0x81, ...encode("res"), ...payloadOf(back)]), what);
    }
  } finally {
    await server.shutdown({ graceMs: 0 });
  }
});

Deno.test("PROTOCOL.md: what is read shares nothing with the buffer it was read from", () => {
  const bytes = encode({ data: new Uint8Array([1, 2]), text: "text" });
  const value = decode(bytes);
  bytes.fill(0xff);
  assertEquals(value, { data: new Uint8Array([1, 2]), text: "text" });
});

Deno.test("samples.md: each value in the table of handlers' values becomes what it says", () => {
  const rows = rowsOf(moreText, "a handler's value");
  assert(rows.length >= 9);
  for (const [shownValue, becomes] of rows) {
    const value = new Function(`return (${code(shownValue)})`)();
    if (code(becomes) === "REPLY_NOT_ENCODABLE") assertThrows(() => encode(value), EncodeError);
    else assertEquals(shown([...encode(value)]), code(becomes), shownValue);
  }
});

Deno.test("PROTOCOL.md: each payload in the table of requests is taken for what it says", async () => {
  const rows = [...rowsOf(text, "payload  "), ...rowsOf(moreText, "payload  ")];
  assert(rows.length >= 20);
  const server = await serveSamples();
  try {
    using client = await RawClient.connect(server);
    for (const [payload, what, answer] of rows) {
      await client.write(frame(payloadOf(payload)));
      const reply = decode((await client.takeFrame()).payload) as { err?: string };
      if (code(answer) === undefined) assertEquals(reply.err, answer, what);
      else assertEquals(reply, JSON.parse(quoteKeys(code(answer) ?? "")), what);
    }
  } finally {
    await server.shutdown({ graceMs: 0 });
  }
});

Deno.test("PROTOCOL.md: the limits and their defaults", () => {
  const rows = rowsOf(text, "limit");
  const limits = rows.map(([name, value]) => [code(name), Number(value.replaceAll(",", ""))]);
  assertEquals(limits, LIMIT_NAMES.map((name) => [name, DEFAULT_LIMITS[name]]));
});

/** The fields of a kind as the table writes them. */
function shapeOf(kind: Kind): string {
  const { fields, others } = MESSAGES[kind];
  const names = Object.entries(fields).map(([name, { type, optional }]) =>
    `${name}${optional ? "?" : ""}${type === "0" || type === "true" ? `: ${type}` : ""}`
  );
  return `{${[...names, ...others === undefined ? [] : ["..."]].join(", ")}}`;
}

Deno.test("PROTOCOL.md: the table of messages is that of codec/message_table.ts", () => {
  const rows = rowsOf(section("Messages"), "kind");
  const kinds = Object.keys(MESSAGES) as Kind[];
  assertEquals(
    rows,
    kinds.map((kind) => {
      const { direction, since, meaning } = MESSAGES[kind];
      return [kind, direction, `\`${shapeOf(kind)}\``, String(since), meaning];
    }),
  );
  const [, version] = text.match(/version (\d+) of the wire/) ?? [];
  for (const kind of kinds) assert(MESSAGES[kind].since <= Number(version), kind);
});

Deno.test("PROTOCOL.md: the fields of a request, of a control message and of a reply are those of codec/message_table.ts", () => {
  const requestRows = rowsOf(section("Requests"), "field").slice(0, -1); // the last is about names with $
  const fields: [name: string, field: Field][] = Object.entries(MESSAGES.request.fields);
  assertEquals(requestRows.map(([name, type]) => [code(name), type]), fields.map(([name, { type }]) => [name, type]));

  const controls = rowsOf(section("control \\(0\\)"), "parameters").map(([names]) =>
    [...names.matchAll(/`(\w+)/g)].map(([, name]) => name)
  );
  const kinds = ["settings", "cancel", "credit", "request item", "request end"] as const;
  assertEquals(controls, kinds.map((kind) => Object.keys(MESSAGES[kind].fields).filter((name) => name !== "cmd")));

  const [, reserved] = section("Replies").match(/^These names belong to the protocol: ([^]*?)\.\s/m) ?? [];
  const named = [...reserved.matchAll(/`(\w+)`/g)].map(([, name]) => name);
  const ofReplies = (["item", "reply", "error"] as const).flatMap((kind) => Object.keys(MESSAGES[kind].fields));
  assertEquals(named.sort(), [...new Set(ofReplies)].filter((name) => !name.startsWith("$")).sort());
});

// Sections ----------------------------------------------------------------------------------------------------------

/** The text under a heading, up to the next of its level or above. */
function section(heading: string): string {
  const [, level, body] = text.match(new RegExp(`^(#+) ${heading}\\n((?:.*\\n)*?)(?=#{1,3} |$(?![^]))`, "m")) ?? [];
  if (level === undefined) throw new AssertionError(`PROTOCOL.md lacks the section "${heading}"`);
  return body;
}

/** The commands of the document, in its order: those of every server, the demo's, and one that a server may allow. */
const documented = Object.fromEntries(
  Object.entries<Command>({ ...builtIns, ...demoCommands, TAP: tapOf(new Taps(), () => undefined) })
    .sort(([, a], [, b]) => (a.number ?? Infinity) - (b.number ?? Infinity)),
);

Deno.test("PROTOCOL.md has a section of the same shape, with a sample, for each command and no other", () => {
  const named = Object.entries(documented).map(([name, { number }]) =>
    number === undefined ? name : `${name} (${number})`
  );
  const [, commandsPart] = text.match(/^## Commands\n([^]*?)^## /m) ?? [];
  const headings = [...commandsPart.matchAll(/^### (.*)$/gm)].map(([, heading]) => heading);
  assertEquals(headings, ["control (0)", ...named]);
  const numbers = [...BUILT_IN_NUMBERS].map(([name, number]) => `${name} (${number})`);
  assertEquals(headings.filter((heading) => heading.includes("(")), ["control (0)", ...numbers]);
  for (const heading of headings) {
    const body = section(heading.replaceAll(/[()]/g, "\\$&"));
    assertMatch(
      body,
      /^\n\*\*Summary\.\*\*\s[^]*(\*\*Parameters\.\*\*|\| parameters )[^]*\*\*Reply\.\*\*\s[^]*\*\*Errors\.\*\*\s[^]*```packline/,
    );
  }
  for (const [name, { params = [] }] of Object.entries<Command>(documented)) {
    const [, told] = section(`${name}(?: \\(\\d+\\))?`).match(/\*\*Parameters\.\*\* ([^]*?)\*\*Reply/) ?? [];
    assertEquals([...told.matchAll(/`([a-z]+)`/g)].map(([, param]) => param), [...params], name);
  }
});

/** How the table of codes says what `ERROR_CODES` says. */
const SAID_OF_THE_CONNECTION = {
  "goes on": /^stays open$/,
  "ends": /^is closed/,
  "may end": /^stays open.* or is closed/,
};
const SAID_OF_A_RETRY = {
  no: /was not started|nothing was done/,
  yes: /^no: the handler has run/,
  maybe: /^only if the call may run twice$/,
};

Deno.test("PROTOCOL.md explains each error code that travels as errors.ts has it, and no other, and shows it in a sample", () => {
  const codes = Object.entries(ERROR_CODES).filter(([, { saidBy }]) => saidBy === "server").map(([code]) => code);
  assert(codes.length >= 12);
  const rows = rowsOf(section("What goes wrong"), "code");
  assertEquals(rows.map(([code]) => code).sort(), codes.toSorted());
  for (const [code, when, connection, retry] of rows) {
    const meaning = ERROR_CODES[code as ErrorCode];
    assert(when !== "", code);
    assertMatch(connection, SAID_OF_THE_CONNECTION[meaning.connection], code);
    assertMatch(retry, SAID_OF_A_RETRY[meaning.started], code);
    assertEquals(retry.startsWith("**safe**"), meaning.retryable, code);
  }
  const replies = documentSamples.flatMap(({ steps }) => steps)
    .map((step) =>
      step.kind === "bytes" && step.side === "S" ? String.fromCharCode(...step.bytes.slice(0, 100).map(Number)) : ""
    );
  for (const code of codes) assert(replies.some((reply) => reply.includes(code)), `${code} is in no sample`);
});

Deno.test("an RpcError may be retried if its code says so", () => {
  for (const [code, { retryable }] of Object.entries(ERROR_CODES)) {
    assertEquals(new RpcError(code).retryable, retryable, code);
  }
  assertEquals(new RpcError("A_HANDLERS_OWN").retryable, false);
});

/** What a type in the tables of INFO and STATS means. */
const TYPES: Record<string, (value: unknown) => boolean> = {
  "text": (value) => typeof value === "string",
  "number": (value) => typeof value === "number",
  "integer": (value) => Number.isInteger(value),
  "integer or nil": (value) => value === null || Number.isInteger(value),
  "boolean": (value) => typeof value === "boolean",
  "map": isMap,
  "array of text": (value) => Array.isArray(value) && value.every((item) => typeof item === "string"),
  "array of numbers": (value) => Array.isArray(value) && value.every((item) => typeof item === "number"),
  "array of maps": (value) => Array.isArray(value) && value.every(isMap),
};

function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

for (const heading of ["INFO", "STATS"] as const) {
  Deno.test(`PROTOCOL.md: the fields of ${heading} are those of the reply`, async () => {
    const rows = rowsOf(section(`${heading} \\(\\d+\\)`), "field");
    const types = new Map(rows.map(([path, type]) => [code(path) ?? "", type]));
    const met = new Set<string>();
    const fields = (map: Record<string, unknown>, prefix: string) => {
      for (const [key, value] of Object.entries(map)) meet(value, `${prefix}${key}`);
    };
    const meet = (value: unknown, path: string) => {
      const type = types.get(path);
      if (type !== undefined) {
        met.add(path);
        assert(TYPES[type](value), `${path} is no ${type}`);
      } else {
        if (!isMap(value)) throw new AssertionError(`${path} is not in the table`);
        return fields(value, `${path}.`);
      }
      if (type === "array of maps") { for (const item of value as []) fields(item, `${path}[].`); }
      const hasColumns = rows.some(([row]) => code(row)?.startsWith(`${path}.*.`));
      if (isMap(value) && hasColumns) { for (const item of Object.values(value)) fields(item as never, `${path}.*.`); }
    };
    const server = await serveSamples();
    try {
      using client = await RawClient.connect(server);
      await client.write(frame(encode({ cmd: heading })));
      const { res } = decode((await client.takeFrame()).payload) as { res: Record<string, unknown> };
      fields(res, "");
    } finally {
      await server.shutdown({ graceMs: 0 });
    }
    assertEquals([...met].sort(), [...types.keys()].sort());
  });
}

Deno.test("PROTOCOL.md: every link within it leads somewhere", () => {
  const anchors = [...text.matchAll(/^#+ (.*)$/gm)]
    .map(([, heading]) => `#${heading.toLowerCase().replaceAll(/[^\w -]/g, "").replaceAll(" ", "-")}`);
  const links = [...text.matchAll(/\]\((#[^)]*)\)/g)].map(([, link]) => link);
  assertEquals(links.filter((link) => !anchors.includes(link)), []);
});

/** The headings that a text cites as those of PROTOCOL.md. */
function citedIn(text: string): string[] {
  const oneLine = text.replaceAll(/\n[ *]*(?:\/\/|--)? */g, " ");
  const cited = oneLine.matchAll(/PROTOCOL\.md(?:'s)?,? ((?:"[^"\n]+"(?:, | to | and )?)+)/g);
  return [...cited].flatMap(([, list]) => [...list.matchAll(/"([^"]+)"/g)].map(([, heading]) => heading));
}

Deno.test("every heading of PROTOCOL.md that the project cites exists", async () => {
  const headings = new Set(
    [...text.matchAll(/^#+ (.*)$/gm)].flatMap(([, heading]) => [heading, heading.replace(/ \(\d+\)$/, "")]),
  );
  let cited = 0;
  const look = async (folder: string) => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(`../${folder}`, import.meta.url))) {
      const path = folder + name;
      if (isDirectory && !/^\.|node_modules|dist/.test(name)) await look(`${path}/`);
      else if (/\.(ts|md|lua)$/.test(name)) {
        const found = citedIn(await projectFile(path));
        cited += found.length;
        assertEquals(found.filter((heading) => !headings.has(heading)), [], path);
      }
    }
  };
  await look("");
  assert(cited > 60, `only ${cited} were found`);
  const sample = '/**\n * (DOCUMENT, "Signs of\n * life", "Order")\n */ DOCUMENT "Limits"';
  assertEquals(citedIn(sample.replaceAll("DOCUMENT", "PROTOCOL.md")), [
    "Signs of life",
    "Order",
    "Limits",
  ]);
});

// The client on one page ----------------------------------------------------------------------------------------------

Deno.test("PROTOCOL.md: the client on its first page calls a server, in 27 lines", async () => {
  const [, program] = text.match(/^```js\n((?:.*\n)*?)```$/m) ?? [];
  assert(program.split("\n").length <= 28, "it has grown");
  const server = await serveSamples();
  try {
    const root = new URL("..", import.meta.url);
    const args = [
      "run",
      "--no-prompt",
      "--config",
      "deno.json",
      "--allow-net=127.0.0.1,0.0.0.0",
      "-",
      String(server.port),
    ];
    const child = new Deno.Command(Deno.execPath(), {
      args,
      cwd: root,
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    })
      .spawn();
    await new Blob([program]).stream().pipeTo(child.stdin);
    const { stdout, stderr } = await child.output();
    const [out, err] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
    assertEquals(err, "");
    assertMatch(out, /^\{ res: "PONG" \} \{ res: "DONE", slept: 0\.0\d+ \} \{ err: "INVALID_SLEEP" \}\n$/);
  } finally {
    await server.shutdown({ graceMs: 0 });
  }
});
