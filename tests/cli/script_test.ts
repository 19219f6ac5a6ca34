/** `client.ts` without a command and without a terminal: the lines of stdin, one by one. */

import { assertEquals } from "@std/assert";
import { command } from "../../handlers/command.ts";
import { serve } from "../support/demo_server.ts";
import { frame, type Outcome, runScript, Scripted } from "./scripts.ts";

function runLines(port: number, input: string, ...args: string[]): Promise<Outcome> {
  return runScript("client", ["--port", String(port), ...args], { input });
}

const GREET = command({
  handler: ({ name, times = 1 }: { name: string; times?: number }) => Array(times).fill(`Hello, ${name}!`),
});

Deno.test("lines of stdin are calls over one connection", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  const input = `\
PING
# a remark, and a blank line

  GREET name="Ada Lovelace" times=2
GREET name='Bo "B" Peep'
TICK count=1 interval=0
STATS`;
  const { code, stdout, stderr } = await runLines(server.port, input, "--json");
  const lines = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals([code, stderr], [0, ""]);
  assertEquals(lines.slice(0, 5), [
    { res: "PONG" },
    { res: ["Hello, Ada Lovelace!", "Hello, Ada Lovelace!"] },
    { res: ['Hello, Bo "B" Peep!'] },
    { res: 1, more: true },
    { res: 1 },
  ]);
  assertEquals(lines[5].res.connections.accepted, 1);
});

Deno.test("a reply with err does not end the lines, and the exit code is 1", async () => {
  await using server = await serve({ port: 0 });
  assertEquals(await runLines(server.port, "DELAY -1\nPING\n"), {
    code: 1,
    stdout: 'you said {"err":"INVALID_SLEEP"}\nyou said {"res":"PONG"}\n',
    stderr: "",
  });
});

Deno.test("the words of the prompt are calls in lines of stdin, and end nothing", async () => {
  const commands = { quit: command(() => "not yet"), help: command(() => "none") };
  await using server = await serve({ port: 0, commands });
  assertEquals(await runLines(server.port, "quit\nhelp\nexit\nPING\n"), {
    code: 1,
    stdout: ['{"res":"not yet"}', '{"res":"none"}', '{"err":"CMD_NOT_FOUND"}', '{"res":"PONG"}', ""]
      .map((line) => line && `you said ${line}`).join("\n"),
    stderr: "",
  });
});

Deno.test("a line that makes no sense ends the lines, with its number and exit code 2", async () => {
  await using server = await serve({ port: 0 });
  assertEquals(await runLines(server.port, '\nPING\nGREET name="Ada\nPING\n'), {
    code: 2,
    stdout: 'you said {"res":"PONG"}\n',
    stderr: 'packline: line 3: a " is not closed; see --help\n',
  });
});

Deno.test("lines that are not UTF-8 are refused: replaced characters would be sent as other text", async () => {
  await using server = await serve({ port: 0 });
  for (const bytes of ["PING v=\xff\n", "PING v=a\xc3"]) {
    const input = Uint8Array.from(bytes, (character) => character.charCodeAt(0));
    const outcome = await runScript("client", ["--port", String(server.port)], { input });
    assertEquals(outcome, {
      code: 2,
      stdout: "",
      stderr: "packline: standard input is not text in UTF-8; see --help\n",
    });
  }
});

Deno.test("a server that breaks off ends the lines, with exit code 3", async () => {
  await using server = new Scripted(frame({ res: 1, more: true }));
  const { code, stdout } = await runLines(server.port, "TICK\nPING\n");
  assertEquals([code, stdout], [3, 'you said {"res":1,"more":true}\n']);
});

const isUnix = Deno.build.os !== "windows";
if (!isUnix) console.log("skipped: standard input that cannot be read: Windows has no such input");

Deno.test({
  name: "standard input that cannot be read is one line and exit code 3, whatever reads it",
  ignore: !isUnix,
  async fn() {
    await using server = await serve({ port: 0 });
    const script = new URL("../../client.ts", import.meta.url).pathname;
    const client = [Deno.execPath(), "run", "--allow-net=127.0.0.1", script, "--port", `${server.port}`];
    const outcomeOf = async (args: readonly string[]) => {
      const { code, stderr } = await new Deno.Command("sh", {
        args: ["-c", 'exec "$@" </', "sh", ...client, ...args],
        stdout: "null",
        stderr: "piped",
      }).output();
      return [code, new TextDecoder().decode(stderr)];
    };
    const uses: [args: readonly string[], given: string][] = [
      [[], "standard input"],
      [["--mcp"], "standard input"],
      [["PING", "value=-"], "value=-"],
      [["TALLY", "-"], "-"],
    ];
    for (const [args, given] of uses) {
      assertEquals(await outcomeOf(args), [3, `packline: cannot read ${given}: it is a folder\n`], args.join(" "));
    }
  },
});
