/**
 * PROTOCOL.md, held against a real server: every sample is sent, byte for byte, and its answers compared; every table
 * that can be run or looked up is. The notation is explained there, under "How to read the samples". What it has no room
 * for is in `samples.md`, and is run as well.
 *
 * So that no sample takes long, the server's clock jumps over a handler's sleep of up to a minute. A longer one must
 * be cancelled or run out of time.
 */

import { assert, assertEquals, AssertionError, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { demoCommands } from "../cli/demo_commands.ts";
import { BUILT_IN_NUMBERS } from "../codec/message.ts";
import { type Field, type Kind, MESSAGES } from "../codec/message_table.ts";
import { decode, encode, EncodeError } from "../codec/msgpack.ts";
import { type Command, command, unchecked } from "../handlers/command.ts";
import { tapOf } from "../handlers/built_ins/tap.ts";
import { tracked } from "../handlers/tracked.ts";
import type { StandardSchema } from "../handlers/standard_schema.ts";
import { builtIns } from "../handlers/registry.ts";
import { Taps } from "../handlers/tap.ts";
import { DEFAULT_LIMITS, LIMIT_NAMES } from "../limits.ts";
import type { ListeningServer, ServeOptions } from "../server.ts";
import { serve } from "./support/demo_server.ts";
import { type Clock, systemClock } from "../transport/clock.ts";
import { frame, settleShutdown } from "./support/wire.ts";
import { ERROR_CODES, type ErrorCode, RpcError } from "../errors.ts";

const SAMPLES_LEAST = 32;

/** How long a sample waits for bytes before it fails. */
const PATIENCE_MS = 10_000;

const projectFile = (path: string) => Deno.readTextFile(new URL(`../${path}`, import.meta.url));

const text = await projectFile("PROTOCOL.md");
const moreText = await projectFile("tests/samples.md");

// The server of the samples -----------------------------------------------------------------------------------------

const repeatSchema: StandardSchema<{ text: string; times: number }> = {
  "~standard": {
    version: 1,
    vendor: "by hand",
    validate: (value) =>
      Number.isInteger((value as { times?: unknown }).times)
        ? { value: value as { text: string; times: number } }
        : { issues: [{ message: "must be an integer", path: ["times"] }] },
  },
};

const commands = {
  MIRROR: command({ number: 16, handler: ({ value }: { value: unknown }) => value }),
  REPEAT: command({ number: 17, schema: repeatSchema, handler: ({ text, times }) => text.repeat(times) }),
  TODAY: command({ number: 18, handler: (): unknown => new Date(0) }),
  BUG: command({
    number: 19,
    handler: (): null => {
      throw new Error("a secret of the server");
    },
  }),
  FIRST: command({
    number: 20,
    items: unchecked<unknown>(),
    async handler(_params: object, { items }): Promise<unknown> {
      for await (const item of items) return item;
      return null;
    },
  }),
  LOG: command({
    number: 21,
    params: ["after"],
    async *handler({ after = -1 }: { after?: number }) {
      for (let id = after + 1; id < LINES.length; id++) yield tracked(id, LINES[id]);
    },
  }),
};

const LINES = ["one", "two", "three"];

/** The machine's clock, but for short waits that keep the process: a handler's sleep, and the grace of a shutdown. */
function hurriedClock(): Clock {
  let skippedMs = 0;
  return {
    ...systemClock,
    now: () => systemClock.now() + skippedMs,
    setTimer(callback, delayMs, keepAlive) {
      if (!keepAlive || delayMs > 60_000) return systemClock.setTimer(callback, delayMs, keepAlive);
      const skip = () => {
        skippedMs += delayMs;
        callback();
      };
      return systemClock.setTimer(skip, 0, true);
    },
  };
}

function serveSamples(options: ServeOptions = {}): Promise<ListeningServer> {
  return serve({ port: 0, commands, clock: hurriedClock(), onError: () => {}, ...options });
}

// Samples -----------------------------------------------------------------------------------------------------------

/** What one side sends; a byte that may be any is `undefined`. */
interface Bytes {
  kind: "bytes";
  side: string;
  bytes: (number | undefined)[];
  /** Whether the frame goes on, with anything. */
  open: boolean;
  comment: string;
}

type Step = Bytes | { kind: "end"; side: string } | { kind: "event"; event: string };

interface Sample {
  name: string;
  options: ServeOptions;
  steps: Step[];
}

/** The samples of a text, each named for the heading it stands under. */
function samplesOf(markdown: string): Sample[] {
  const samples: Sample[] = [];
  let heading = "";
  for (const [, title, options, body] of markdown.matchAll(/^#+ (.*)$|^```packline(.*)\n((?:.*\n)*?)```$/gm)) {
    if (title !== undefined) {
      heading = title;
      continue;
    }
    samples.push({
      name: `${heading}, sample ${samples.length + 1}`,
      options: Object.fromEntries(
        [...options.matchAll(/(\w+)=(\d+|true)/g)].map(([, name, value]) => [name, JSON.parse(value)]),
      ),
      steps: stepsOf(body),
    });
  }
  return samples;
}

function stepsOf(body: string): Step[] {
  const steps: Step[] = [];
  for (const line of body.trimEnd().split("\n")) {
    const side = line.slice(0, 2);
    const [hex, comment = ""] = line.slice(3).split(/ {2,}/);
    const last = steps.at(-1);
    if (side === "--") steps.push({ kind: "event", event: line.slice(4) });
    else if (hex === "FIN") steps.push({ kind: "end", side: side[0] });
    else if (side === "C:" || side === "S:") steps.push({ kind: "bytes", side: side[0], comment, ...bytesOf(hex) });
    else if (side !== "  " || last?.kind !== "bytes") throw new SyntaxError(`not a line of a sample: ${line}`);
    else Object.assign(last, { bytes: [...last.bytes, ...bytesOf(hex).bytes], open: bytesOf(hex).open });
  }
  return steps;
}

/** `78*3 ?? 0a` as bytes. */
function bytesOf(hex: string): { bytes: (number | undefined)[]; open: boolean } {
  const open = / ?\.\.\.$/;
  const bytes = hex.replace(open, "").split(" ").filter(Boolean).flatMap((token) => {
    const [, byte, times = "1"] = token.match(/^([0-9a-f]{2}|\?\?)(?:\*(\d+))?$/) ?? [];
    if (byte === undefined) throw new SyntaxError(`not a byte of a sample: ${token}`);
    return new Array(Number(times)).fill(byte === "??" ? undefined : parseInt(byte, 16));
  });
  return { bytes, open: open.test(hex) };
}

/** Bytes as a sample writes them, so that a failure shows what could stand there instead. */
function shown(bytes: readonly (number | undefined)[]): string {
  const tokens: string[] = [];
  for (let index = 0, end = 0; index < bytes.length; index = end) {
    while (end < bytes.length && bytes[end] === bytes[index]) end++;
    const token = bytes[index]?.toString(16).padStart(2, "0") ?? "??";
    if (end - index < 16) tokens.push(...new Array(end - index).fill(token));
    else tokens.push(`${token}*${end - index}`);
  }
  return tokens.join(" ");
}

/** A client that knows bytes and frames. */
class RawClient implements Disposable {
  readonly #conn: Deno.TcpConn;
  readonly #watchdog: ReturnType<typeof setTimeout>;
  #timedOut = false;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.#watchdog = setTimeout(() => {
      this.#timedOut = true;
      conn.close();
    }, PATIENCE_MS);
  }

  static async connect({ port }: ListeningServer): Promise<RawClient> {
    return new RawClient(await Deno.connect({ port }));
  }

  async write(bytes: Uint8Array): Promise<void> {
    let sent = 0;
    while (sent < bytes.length) sent += await this.#conn.write(bytes.subarray(sent));
  }

  end(): Promise<void> {
    return this.#conn.closeWrite();
  }

  /** The next bytes, exactly as many. */
  async take(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let taken = 0;
    while (taken < length) {
      const more = await this.#conn.read(bytes.subarray(taken)).catch((error) => {
        if (this.#timedOut) return null;
        throw error;
      });
      if (more === null) {
        const why = this.#timedOut ? "no more bytes came" : "the server has closed";
        throw new AssertionError(`${why}, after ${shown([...bytes.subarray(0, taken)]) || "nothing"}`);
      }
      taken += more;
    }
    return bytes;
  }

  /** The next frame, whole: read as PROTOCOL.md tells. */
  async takeFrame(): Promise<{ frame: Uint8Array; payload: Uint8Array }> {
    const header = [...await this.take(2)];
    let length = ((header[0] - 32) & 255) << 8 | ((header[1] - 32) & 255);
    if (length === 0xffff) {
      header.push(...await this.take(4));
      length = header.slice(2).reduce((sum, byte) => sum * 256 + byte, 0);
    }
    const rest = await this.take(length + 1);
    assertEquals(rest[length], 0x0a);
    return { frame: new Uint8Array([...header, ...rest]), payload: rest.subarray(0, length) };
  }

  /** Fails if anything comes before the end. */
  async takeEnd(): Promise<void> {
    const byte = await this.take(1).then((byte) => byte, (error) => {
      if (this.#timedOut || !(error instanceof AssertionError)) throw error;
    });
    if (byte) throw new AssertionError(`the server says more than the sample: ${shown([...byte])} ...`);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#watchdog);
    if (!this.#timedOut) this.#conn.close();
  }
}

/** Plays a sample's client against a server of its own; rejects where the server does not play its part. */
async function run({ options, steps }: Sample): Promise<void> {
  let isReady = true;
  const server = await serveSamples({ ready: () => isReady, ...options });
  using others = new DisposableStack();
  let client: RawClient | undefined;
  let ended = false;
  try {
    for (const step of steps) {
      if (step.kind === "event") {
        if (step.event === "another client connects") {
          const other = others.use(await RawClient.connect(server));
          await other.write(frame(encode({ cmd: 1 })));
          await other.takeFrame();
        } else if (step.event === "the service says that it is not ready") {
          isReady = false;
        } else {
          assertEquals(step.event, "the server is told to shut down");
          void server.shutdown({ graceMs: 3_600_000 }); // beyond what the clock jumps over
          await settleShutdown();
        }
        continue;
      }
      client ??= others.use(await RawClient.connect(server));
      if (step.kind === "bytes") await (step.side === "C" ? send(client, step) : receive(client, step));
      else if (step.side === "S") await client.takeEnd();
      else await client.end();
      ended ||= step.kind === "end";
    }
    if (!ended) await client?.end();
    await client?.takeEnd();
  } finally {
    others.dispose();
    await server.shutdown({ graceMs: 0 });
  }
}

function send(client: RawClient, { bytes }: Bytes): Promise<void> {
  return client.write(Uint8Array.from(bytes, (byte) => byte ?? 0));
}

async function receive(client: RawClient, { bytes, open }: Bytes): Promise<void> {
  const received = open ? (await client.takeFrame()).frame : await client.take(bytes.length);
  const compared = Array.from(
    received.subarray(0, bytes.length),
    (byte, at) => bytes[at] === undefined ? undefined : byte,
  );
  assertEquals(shown(compared), shown(bytes));
}

const documentSamples = samplesOf(text);
const moreSamples = samplesOf(moreText);
const samples = [...documentSamples, ...moreSamples];

Deno.test(`PROTOCOL.md has at least ${SAMPLES_LEAST} samples, and none that is not run`, () => {
  assert(samples.length >= SAMPLES_LEAST, `only ${samples.length}`);
  assertEquals(documentSamples.length, text.match(/^```packline/gm)?.length);
  assertEquals(moreSamples.length, moreText.match(/^```packline/gm)?.length);
  const unmarked = [...(text + moreText).matchAll(/^```(?!packline|text|js)\S*\n[CS]: /gm)];
  assertEquals(unmarked, []);
});

for (const sample of documentSamples) {
  Deno.test(`PROTOCOL.md: ${sample.name}, is what a server does`, () => run(sample));
}

for (const sample of moreSamples) {
  Deno.test(`samples.md: ${sample.name}, is what a server does`, () => run(sample));
}

Deno.test("PROTOCOL.md shows no bytes of a text for people, which may change with any version", () => {
  const msg = [..."\xa3msg"].map((letter) => letter.charCodeAt(0).toString(16)).join(" ");
  const bytes = documentSamples.flatMap(({ name, steps }) =>
    steps.map((step) => ({ name, text: step.kind === "bytes" ? shown(step.bytes) : "" }))
  );
  assertEquals(bytes.filter(({ text }) => text.includes(msg)), []);
});

Deno.test("PROTOCOL.md: the first sample is also the one that explains the notation", () => {
  const [, body] = text.match(/^```text\n((?:.*\n)*?)```$/m) ?? [];
  const bytes = (steps: Step[]) => steps.map((step) => step.kind === "bytes" && shown(step.bytes));
  assertEquals(bytes(stepsOf(body)), bytes(samples[0].steps));
});

Deno.test("PROTOCOL.md: what stands behind a frame is the message in it", () => {
  let compared = 0;
  for (const { name, steps } of samples) {
    for (const step of steps) {
      if (step.kind !== "bytes" || step.comment.includes("…")) continue;
      const [message] = step.comment.match(/^\{.*\}/) ?? [];
      if (message === undefined || step.open) continue;
      const bytes = Uint8Array.from(step.bytes, (byte) => byte ?? 0);
      const length = ((bytes[0] - 32) & 255) << 8 | ((bytes[1] - 32) & 255);
      assertEquals(decode(bytes.subarray(2, 2 + length)), JSON.parse(quoteKeys(message)), `${name}: ${message}`);
      compared++;
    }
  }
  assert(compared > 60, `only ${compared}`);
});

/** `{cmd: 1, $items: true, a: nil}` as JSON. */
function quoteKeys(message: string): string {
  return message.replaceAll(/([{,] *)([\w$]+):/g, '$1"$2":').replaceAll(/: nil\b/g, ": null");
}

Deno.test("a sample fails for one changed byte, one reply too many, and one too few", async (t) => {
  for (const sample of samples) {
    const index = sample.steps.findLastIndex((step) => step.kind === "bytes" && step.side === "S");
    const reply = sample.steps[index] as Bytes;
    await t.step(sample.name, async () => {
      const changed = structuredClone(reply);
      const at = changed.bytes.findLastIndex((byte) => byte !== undefined);
      changed.bytes[at] = (changed.bytes[at] as number) ^ 1;
      await assertRejects(
        () => run({ ...sample, steps: sample.steps.with(index, changed) }),
        AssertionError,
        "not equal",
      );
    });
  }
  const [ping] = samples;
  await assertRejects(() => run({ ...ping, steps: ping.steps.slice(0, 1) }), AssertionError, "more than the sample");
  const twice = [...ping.steps, { kind: "end", side: "C" } as const, ping.steps[1]];
  await assertRejects(() => run({ ...ping, steps: twice }), AssertionError, "the server has closed, after nothing");
  const [misprinted] = samplesOf(text.replaceAll("50 4f 4e 47", "50 4f 4e 48"));
  await assertRejects(() => run(misprinted), AssertionError, "not equal");
  assertThrows(() => samplesOf("```packline\nC: 20 2\n```"), SyntaxError, "not a byte of a sample");
});

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
