/** Streams from `client.ts` as a program: from files and standard input, and how they combine with its flags. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { bytes, command, unchecked } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import { Folder } from "../production/programs.ts";
import { type Outcome, runScript, startScript } from "./scripts.ts";

/** Says how large the chunks were. */
const SIZES = command({
  items: bytes,
  async handler({ name }: { name?: string }, { items }) {
    const sizes = [];
    for await (const chunk of items) sizes.push(chunk.length);
    return { name, sizes };
  },
});

/** Answers when it has one item. */
const FIRST = command({
  items: unchecked<unknown>(),
  async handler(_: object, { items }) {
    for await (const item of items) return item;
  },
});

/** Takes one item, and says how its call ends. */
function held() {
  const taken = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<string>();
  const HOLD = command({
    items: unchecked<unknown>(),
    async handler(_: object, { items }) {
      try {
        for await (const _item of items) taken.resolve();
        ended.resolve("whole");
      } catch (error) {
        ended.resolve((error as { code: string }).code);
        throw error;
      }
    },
  });
  return { HOLD, taken: taken.promise, ended: ended.promise };
}

/** The program, with a file of 200,001 bytes and one of lines. */
async function setUp(commands: Parameters<typeof serve>[0] = {}) {
  const server = await serve({ port: 0, ...commands });
  const folder = await Folder.make();
  await Deno.writeFile(`${folder.path}/big`, new Uint8Array(200_001));
  await folder.write("lines", "1\r\nAda\n\n{}");
  const options = { permissions: ["--allow-net", "--allow-read"] };
  const args = (line: string) =>
    ["--port", `${server.port}`, ...line.split(" ").filter((word) => word !== "")].map((word) =>
      word.replace("%", folder.path)
    );
  return {
    server,
    folder,
    start: (line: string) => startScript("client", args(line), { ...options, writes: true }),
    run: (line: string, input?: string) => runScript("client", args(line), { ...options, input }),
    async [Symbol.asyncDispose]() {
      await server[Symbol.asyncDispose]();
      await folder[Symbol.asyncDispose]();
    },
  };
}

const said = (...lines: string[]): Outcome => ({
  code: 0,
  stdout: lines.map((line) => `${line}\n`).join(""),
  stderr: "",
});
const complained = (code: number, text: string): Outcome => ({ code, stdout: "", stderr: `packline: ${text}\n` });

Deno.test("a file is sent in chunks of 64 KiB at most, beside parameters", async () => {
  await using program = await setUp({ commands: { SIZES, FIRST } });
  const { run } = program;
  assertEquals(await run("TALLY @%/big --json"), said('{"res":{"items":4,"bytes":200001}}'));
  assertEquals(
    await run("SIZES @%/big name=Ada --json"),
    said('{"res":{"name":"Ada","sizes":[65536,65536,65536,3393]}}'),
  );
  assertEquals((await run("SIZES @bytes:%/lines --json")).stdout, '{"res":{"sizes":[10]}}\n');
  // In a short frame, a chunk is smaller.
  assertEquals(
    (await run("SIZES @%/big --json --max-payload-bytes 57310")).stdout,
    '{"res":{"sizes":[57278,8258,57278,8258,57278,8258,3393]}}\n',
  );
  assertMatch((await run("FIRST @/dev/zero --json")).stdout, /^\{"res":\{"\$binary":"A+=*"\}\}\n$/);
  assertEquals(await run("PING @%/big"), said('you said {"res":"PONG"}'));
});

Deno.test("lines of standard input are values as behind name=, or text or bytes if so said", async () => {
  await using program = await setUp();
  const { run } = program;
  const lines = '5\nAda\n{"a":[true]}\n\n"5"\r\nlast';
  const items = (...values: string[]) => said(...values.map((value) => `{"res":${value},"more":true}`), '{"res":null}');
  for (const word of ["-", "@-"]) {
    assertEquals(await run(`ECHO ${word} --json`, lines), items("5", '"Ada"', '{"a":[true]}', '""', '"5"', '"last"'));
  }
  assertEquals(await run("ECHO @text:- --json", '5\n"5"\n'), items('"5"', '"\\"5\\""'));
  assertEquals(await run("ECHO @text:%/lines --json"), items('"1"', '"Ada"', '""', '"{}"'));
  assertEquals(await run("ECHO @bytes:- --json", "5\n"), items('{"$binary":"NQo="}'));
  assertEquals(await run("ECHO - --json", ""), said('{"res":null}'));
  assertEquals(await run("TALLY @bytes:- --json", "x".repeat(100_000)), said('{"res":{"items":2,"bytes":100000}}'));
});

Deno.test("a reply that comes before the end of standard input ends the program", async () => {
  await using program = await setUp({ commands: { FIRST } });
  const process = program.start("FIRST - --json");
  const writer = process.stdin.getWriter();
  await writer.write(new TextEncoder().encode("one\n"));
  const { code, stdout } = await process.output();
  assertEquals([code, new TextDecoder().decode(stdout)], [0, '{"res":"one"}\n']);
  await writer.abort().catch(() => {});
});

Deno.test("what is no stream, or cannot be one here, is told in a line", async () => {
  await using program = await setUp();
  const { run, folder } = program;
  const sees = (text: string) => `${text}; see --help`;
  const refused: [line: string, input: string, outcome: Outcome][] = [
    ["TALLY @%/no", "", complained(3, `cannot read @${folder.path}/no: there is no such file`)],
    ["TALLY @%", "", complained(3, `cannot read @${folder.path}: it is a folder`)],
    ["TALLY @", "", complained(2, sees("@ needs a path after it"))],
    ["TALLY @bytes:", "", complained(2, sees("@bytes: needs a path after it"))],
    ["TALLY @%/big -", "", complained(2, sees(`a call has one stream of items: "@${folder.path}/big" or "-"`))],
    ["-", "", complained(2, sees("specify a command to call"))],
    ["@%/big", "", complained(2, sees("specify a command to call"))],
    [
      "ECHO - data=-",
      "1",
      complained(2, sees("standard input is the value of a parameter, so it cannot be the stream too")),
    ],
    [
      "TALLY - --repeat 2",
      "1",
      complained(2, sees('--repeat cannot send "-": standard input can be read only once; give a file, as @PATH')),
    ],
    [
      "TALLY @bytes:- --bench",
      "1",
      complained(
        2,
        sees('--bench cannot send "@bytes:-": standard input can be read only once; give a file, as @PATH'),
      ),
    ],
    ["STATS - --watch 1", "", complained(2, sees('--watch cannot be used with a stream of items, such as "-"'))],
    ["TALLY -", "1\n1e999\n2\n", complained(2, sees("line 2 of -: 1e999 is out of range"))],
    [
      "TALLY - --max-payload-bytes 1000",
      "x".repeat(10_000),
      complained(2, sees("a line of - is too long: an item has at most 1000 bytes")),
    ],
    [
      "TALLY @text:%/latin",
      "",
      complained(
        2,
        sees(`@text:${folder.path}/latin is not text in UTF-8; write @bytes:${folder.path}/latin to send its bytes`),
      ),
    ],
    ["", "PING\nECHO -\n", {
      code: 2,
      stdout: 'you said {"res":"PONG"}\n',
      stderr: "packline: line 2: - cannot be read: standard input has the calls themselves; see --help\n",
    }],
    ["", "TALLY @%/no\n", complained(3, "line 1: cannot read @%/no: there is no such file")],
  ];
  await Deno.writeFile(`${folder.path}/latin`, Uint8Array.of(0x61, 0xe4, 0x0a));
  for (const [line, input, outcome] of refused) assertEquals(await run(line, input), outcome, line);
});

Deno.test("a command that takes a stream, called without one: its caller is told how to give it", async () => {
  await using program = await setUp();
  const hint = "packline: add the stream: @PATH, a file in chunks, or -, the lines of standard input; see --help\n";
  for (const [line, input, failures] of [["TALLY", undefined, 1], ["", "TALLY\nPING\nTALLY\n", 2]] as const) {
    const { code, stdout, stderr } = await program.run(line, input);
    assertEquals([code, stderr], [1, hint.repeat(failures)], line);
    assertStringIncludes(stdout, "TALLY takes a stream of items, and the call has none");
  }
});

Deno.test("a stream that breaks off is cancelled: what came of it is not taken for the whole", async () => {
  for (const fault of ["interrupt", "bad line"]) {
    const { HOLD, taken, ended } = held();
    await using program = await setUp({ commands: { HOLD } });
    const process = program.start("HOLD -");
    const writer = process.stdin.getWriter();
    await writer.write(new TextEncoder().encode("one\n"));
    await taken;
    if (fault === "interrupt") process.kill("SIGINT");
    else await writer.write(new TextEncoder().encode("1e999\n"));
    const { code, stdout } = await process.output();
    assertEquals([await ended, code], ["CANCELLED", fault === "interrupt" ? 130 : 2]);
    assertEquals(new TextDecoder().decode(stdout), fault === "interrupt" ? 'you said {"err":"CANCELLED"}\n' : "");
    await writer.abort().catch(() => {});
  }
});

Deno.test("a stream has the call's time limit, and goes with metadata, a file also several times", async () => {
  const { HOLD, ended } = held();
  const WHO = command({
    items: bytes,
    async handler(_: object, { items, meta }) {
      for await (const _ of items);
      return meta.token;
    },
  });
  await using program = await setUp({ commands: { HOLD, WHO } });
  const { run } = program;
  assertEquals(await run("HOLD @/dev/zero --timeout 0.2"), complained(3, "no reply within 0.2 s"));
  assert(["CONNECTION_LOST", "CANCELLED", "DEADLINE_EXCEEDED"].includes(await ended)); // both ends have the limit
  assertEquals((await run("WHO @%/big --meta token=sesame")).stdout, 'you said {"res":"sesame"}\n');
  const repeated = await run("TALLY @%/big --repeat 2 --interval 0");
  assertMatch(
    repeated.stdout,
    /^(you said \{"res":\{"items":4,"bytes":200001\}\} .*\n){2}\n2 sent, 2 answered, 0 lost\n/,
  );
  const bench = await run("--bench TALLY @%/big -n 20 -c 2 --json");
  const { settled, errors } = JSON.parse(bench.stdout);
  assertEquals([bench.code, settled, errors], [0, 20, {}]);
  assertEquals((await run("--bench TALLY @%/no")).code, 3);
});

Deno.test("lines of calls may send files", async () => {
  await using program = await setUp();
  const { run, folder } = program;
  assertEquals(
    await run("--json", `TALLY @${folder.path}/big\nPING\nTALLY @text:${folder.path}/lines\n`),
    said('{"res":{"items":4,"bytes":200001}}', '{"res":"PONG"}', '{"res":{"items":4,"bytes":6}}'),
  );
});

Deno.test("--hex names the frames of a stream in their order, and cuts the long ones", async () => {
  await using program = await setUp();
  const { run, folder } = program;
  const kinds = ({ stderr }: Outcome) =>
    [...stderr.matchAll(/^([><]) .*header.*of payload, (.*)$/gm)].map(([, mark, kind]) => `${mark} ${kind}`);
  const echo = kinds(await run("ECHO - --hex", "a\nb\n"));
  const sent = ["> settings", "> request", "> request item", "> request item", "> request end"];
  assertEquals(echo.filter((line) => line.startsWith(">")), sent);
  const received = echo.filter((line) => line.startsWith("<") && line !== "< request credit");
  assertEquals(received, ["< item", "< item", "< reply"]);
  // The second item goes only once it is granted.
  assert(echo.indexOf("< request credit") < echo.lastIndexOf("> request item"), echo.join("\n"));
  await Deno.writeFile(`${folder.path}/large`, new Uint8Array(20_000_000));
  const large = await run("TALLY @%/large --hex");
  assertEquals(large.stdout, 'you said {"res":{"items":306,"bytes":20000000}}\n');
  assertEquals(kinds(large).filter((kind) => kind === "> request item").length, 306);
  assert(large.stderr.length < 1_000_000, `${large.stderr.length} characters`);
  assertMatch(large.stderr, /^> and 65\d{3} more bytes$/m);
});

Deno.test("--list and describe tell which commands take a stream", async () => {
  await using program = await setUp({ commands: { SIZES } });
  const { run } = program;
  assertMatch((await run("--list")).stdout, /^- +TALLY +@PATH +Counts/m);
  assertEquals(
    (await run("describe SIZES")).stdout,
    "SIZES\n\ntakes    a stream of items (@PATH or -): Uint8Array\nanswers  once\n",
  );
});
