/** `cli/values.ts`: values that are typed, in files, or on standard input. */

import { assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { UsageError } from "../../cli/arguments.ts";
import { readCall } from "../../cli/call.ts";
import { InputError } from "../../cli/input_file.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { Folder } from "../production/programs.ts";
import { runScript } from "./scripts.ts";

const NOT_TEXT = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0xff);

Deno.test("a value is read from a file as if it were typed, or as text or bytes if so said", async () => {
  await using folder = await Folder.make();
  await folder.write("list.json", "[1, 2]\n");
  await folder.write("letter", "Dear Ada\n");
  await folder.write("marked", "\ufeffmarked");
  await Deno.writeFile(`${folder.path}/photo.png`, NOT_TEXT);
  const path = (name: string) => `${folder.path}/${name}`;
  const expected: [text: string, value: unknown][] = [
    [`@${path("list.json")}`, [1, 2]],
    [`@text:${path("list.json")}`, "[1, 2]\n"],
    [`@text:${path("marked")}`, "\ufeffmarked"],
    [`@${path("marked")}`, "marked"],
    [`@bytes:${path("list.json")}`, new TextEncoder().encode("[1, 2]\n")],
    [`@${path("letter")}`, "Dear Ada\n"],
    [`@bytes:${path("photo.png")}`, NOT_TEXT],
    ['"@home"', "@home"],
    ['"-"', "-"],
    ["-1", -1],
    ["a@b", "a@b"],
  ];
  for (const [text, value] of expected) assertEquals(readCall(["X", `v=${text}`]).params.v, value, text);
  const photo = `v=@${path("photo.png")}`;
  const error = assertThrows(() => readCall(["X", photo]), UsageError) as UsageError;
  assertEquals(
    error.message,
    `${photo} is not text in UTF-8; write v=@bytes:${path("photo.png")} to send its bytes`,
  );
  assertThrows(() => readCall(["X", "v=@/no/such"]), InputError, "cannot read v=@/no/such: there is no such file");
  assertThrows(() => readCall(["X", "v=@"]), UsageError, "needs a path after it");
  assertThrows(() => readCall(["X", "v=@bytes:"]), UsageError, "needs a path after it");
});

Deno.test("standard input is the value of one parameter, and none of a call that comes from there itself", () => {
  const bytes = new TextEncoder().encode('{"a":1}');
  const stdin = { readAll: () => bytes };
  assertEquals(readCall(["X", "v=-"], stdin).params, { v: { a: 1 } });
  assertEquals(readCall(["X", "v=@-"], stdin).params, { v: { a: 1 } });
  assertEquals(readCall(["X", "v=@text:-"], stdin).params, { v: '{"a":1}' });
  assertEquals(readCall(["X", "v=@bytes:-"], stdin).params, { v: bytes });
  assertThrows(() => readCall(["X", "v=-"]), UsageError, "v=- cannot be read: standard input has the calls themselves");
});

Deno.test("the client sends a file and standard input, of any length and any bytes", async () => {
  const KIND = command({
    handler: ({ v }: { v: unknown }) => v instanceof Uint8Array ? `${v.length} bytes` : v,
  });
  await using server = await serve({ port: 0, commands: { KIND } });
  await using folder = await Folder.make();
  await Deno.writeFile(`${folder.path}/photo.png`, NOT_TEXT);
  const run = (args: string[], input: string, ...more: string[]) =>
    runScript("client", ["--port", String(server.port), "--json", ...args], {
      permissions: ["--allow-net", ...more],
      input,
    });
  const said = (res: unknown) => ({ code: 0, stdout: `${JSON.stringify({ res })}\n`, stderr: "" });
  assertEquals(await run(["KIND", "v=-"], "line one\nline two\n"), said("line one\nline two\n"));
  assertEquals(await run(["KIND", "v=-"], "[1,2]"), said([1, 2]));
  assertEquals(await run(["KIND", "v=@bytes:-"], "x".repeat(300_000)), said("300000 bytes"));
  const photo = `v=@bytes:${folder.path}/photo.png`;
  assertEquals(await run(["KIND", photo], "", `--allow-read=${folder.path}`), said("5 bytes"));
  const refused = await run(["KIND", photo], "");
  assertEquals([refused.code, refused.stdout], [3, ""]);
  assertStringIncludes(refused.stderr, `no permission; run it with --allow-read=${folder.path}/photo.png\n`);
  const twice = await run(["KIND", "v=-", "w=-"], "1");
  assertEquals(twice.stderr, "packline: standard input can be the value of only one parameter; see --help\n");
  const unread = await run([], "PING\nKIND v=@/no/such\n", "--allow-read");
  assertEquals([unread.code, unread.stderr], [
    3,
    "packline: line 2: cannot read v=@/no/such: there is no such file\n",
  ]);
  const large = await run(["KIND", "v=@bytes:-"], "x".repeat(1_100_000));
  assertEquals(large.code, 2);
  assertMatch(
    large.stderr,
    /the payload is 11\d+ bytes, the limit is 1048576; raise it at both ends, here with --max-payload-bytes; see --help\n$/,
  );
  const line = await run([], "PING\nKIND v=-\n");
  assertEquals(
    [line.code, line.stdout, line.stderr],
    [
      2,
      '{"res":"PONG"}\n',
      "packline: line 2: v=- cannot be read: standard input has the calls themselves; see --help\n",
    ],
  );
});

Deno.test({
  name: "a value without end is refused, and does not fill the memory",
  ignore: Deno.build.os === "windows",
  async fn() {
    const permissions = ["--allow-net=127.0.0.1", "--allow-read"];
    const { code, stderr } = await runScript("client", ["PING", "v=@bytes:/dev/zero"], { permissions });
    const text = "packline: cannot read v=@bytes:/dev/zero: it has more than 256MiB, which no message can hold\n";
    assertEquals([code, stderr], [3, text]);
  },
});

Deno.test({
  name: "if a file needs all permissions, such as /dev/stdin, the error says so",
  ignore: Deno.build.os !== "linux",
  async fn() {
    await using server = await serve({ port: 0 });
    const run = (path: string, ...permissions: string[]) =>
      runScript("client", ["--port", String(server.port), "PING", `value=@${path}`], { permissions, input: "1" });
    for (const path of ["/dev/stdin", "/proc/self/comm"]) {
      const { code, stderr } = await run(path, "--allow-net", "--allow-read");
      const text = `packline: cannot read value=@${path}: no permission; run it with --allow-all\n`;
      assertEquals([code, stderr], [3, text]);
      assertEquals((await run(path, "--allow-all")).code, 0);
    }
  },
});
