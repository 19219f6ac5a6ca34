/** What the prompt does while a line is typed, and what it remembers of lines: hints, and a history in a file. */

import { assert, assertEquals, assertNotMatch, assertStringIncludes } from "@std/assert";
import { hintOf } from "../../cli/completion.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { Folder } from "../production/programs.ts";
import { PseudoTerminal, testInTerminal } from "./pseudo_terminal.ts";

const UP = "\x1b[A";
const LEFT = "\x1b[D";
const DIM = "\x1b[2m";
const CLEAR = "\x1b[K";
const CONTROL_D = "\x04";

const GREET = command({
  params: ["name", "times"],
  handler: ({ name }: { name: string; times?: number }) => `Hello, ${name}!`,
});

/** A hint as it is drawn: dimmed, and the cursor goes back to its begin. */
const hint = (text: string) => `${DIM}${text}\x1b[22m\x1b[${text.length}D`;

Deno.test("a hint has the parameters that a call still lacks, once its command is known", () => {
  const known = [{ name: "GREET", params: ["name", "times"] }, { name: "DELAY", params: ["sleep"] }, {
    name: "PING",
    params: [],
  }, { name: "UPLOAD", params: ["name"], items: true }];
  const hints: [line: string, hint: string][] = [
    ["", ""],
    ["GREE", ""],
    ["GREET", " name= times="],
    ["GREET ", "name= times="],
    ["GREET name=", " times="],
    ['GREET name="Bo Peep" ', "times="],
    ['GREET name="Bo ', ""],
    ["GREET na", ""],
    ["GREET times=2 name=Ada", ""],
    ["DELAY 2", ""],
    ["DELAY", " sleep="],
    ["PING", ""],
    ["FOO ", ""],
    ["UPLOAD ", "name= @PATH"],
    ["UPLOAD name=a ", "@PATH"],
    ["UPLOAD @big.bin ", "name="],
    ["UPLOAD - ", "name="],
    ["PING @a", ""],
    ["--meta token=a GREET ", "name= times="],
    ["GREET --meta=token=a name=Ada ", "times="],
    ["GREET --meta 'token=a b' name=Ada", " times="],
    ["GREET --meta", ""],
    ["--meta", ""],
  ];
  for (const [line, text] of hints) assertEquals(hintOf(line, known), text, line);
});

testInTerminal("parameters are hinted at while a call is typed, and leave no trace in it", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  const prompt = `127.0.0.1:${server.port}> `;
  await using terminal = PseudoTerminal.client(server.port);
  await terminal.until(prompt);
  await terminal.type("GREET");
  await terminal.until(hint(" name= times="));
  await terminal.type(" ");
  assertEquals(await terminal.until(hint("name= times=")), `${CLEAR} ${hint("name= times=")}`);
  await terminal.type("name=Ada");
  await terminal.until(`a${hint(" times=")}`);
  // Where the cursor stands in the line, a hint would cover it.
  await terminal.type(LEFT);
  await terminal.type("y");
  const moved = await terminal.until("y");
  assert(moved.startsWith(CLEAR) && !moved.includes("times="), JSON.stringify(moved));
  await terminal.type("\x05"); // to its end
  await terminal.until(hint(" times="));
  await terminal.type("\r");
  const output = await terminal.until(prompt);
  assert(output.startsWith(CLEAR), JSON.stringify(output));
  assertStringIncludes(output, 'you said {"res":"Hello, Adya!"}');
  // There is no room for it here.
  await terminal.type(`GREET name=${"x".repeat(60)}`);
  await terminal.type("\r");
  const long = await terminal.until(prompt);
  assert(!long.slice(long.lastIndexOf("x")).includes(DIM));
  await terminal.type(CONTROL_D);
  assertEquals((await terminal.end()).code, 0);

  await using plain = PseudoTerminal.client(server.port, [], { NO_COLOR: "1" });
  await plain.until(prompt);
  await plain.type("GREET");
  await plain.until("GREET");
  await plain.type(" name=Bo");
  await plain.type("\r");
  assert(!(await plain.until(prompt)).includes(DIM));
});

testInTerminal("behind a hint in wide characters, the cursor goes back by its columns", async () => {
  const MEASURE = command({ params: ["長さ"], handler: () => 1 });
  await using server = await serve({ port: 0, commands: { MEASURE } });
  await using terminal = PseudoTerminal.client(server.port);
  await terminal.until(`127.0.0.1:${server.port}> `);
  await terminal.type("MEASURE");
  await terminal.until(`${DIM} 長さ=\x1b[22m\x1b[6D`);
  await terminal.type("\r");
  await terminal.until('you said {"res":1}');
  await terminal.type(CONTROL_D);
  assertEquals((await terminal.end()).code, 0);
});

/** The client at the prompt, with an environment and the permissions for its history. */
function promptIn(env: Record<string, string>, port: number, permissions: string[], ...args: string[]): PseudoTerminal {
  const [deno, run, ...rest] = PseudoTerminal.clientCommand(port);
  return new PseudoTerminal([deno, run, ...permissions, ...rest, ...args], env);
}

/** Another home, in which the runtime finds its cache all the same. */
async function homeAt(path: string): Promise<Record<string, string>> {
  const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["info", "--json"] }).output();
  return { HOME: path, XDG_STATE_HOME: "", DENO_DIR: JSON.parse(new TextDecoder().decode(stdout)).denoDir };
}

testInTerminal(
  "lines are remembered from prompt to prompt, for their owner only, and no secret among them",
  async () => {
    await using server = await serve({ port: 0, commands: { GREET } });
    await using home = await Folder.make();
    const env = await homeAt(home.path);
    const folder = `${home.path}/.local/state/packline`;
    const permissions = ["--allow-env=HOME,XDG_STATE_HOME", `--allow-read=${folder}`, `--allow-write=${folder}`];
    const prompt = `127.0.0.1:${server.port}> `;
    const session = async (...lines: string[]) => {
      await using terminal = promptIn(env, server.port, permissions, "--meta", "token=sesame");
      await terminal.until(prompt);
      for (const line of lines) {
        await terminal.type(`${line}\r`);
        await terminal.until("\n");
        await terminal.until(prompt);
      }
      await terminal.type(CONTROL_D);
      assertEquals((await terminal.end()).code, 0);
    };
    const secrets = [
      " GREET name=secret",
      "PING --meta token=sesame",
      "-meta token=sesame PING",
      "PING -m token=sesame",
    ];
    await session("GREET name=Ada", "PING", "PING", ...secrets);
    assertEquals(await Deno.readTextFile(`${folder}/history`), "GREET name=Ada\nPING\n");
    assertEquals(((await Deno.stat(`${folder}/history`)).mode ?? 0) & 0o777, 0o600);
    assertEquals(((await Deno.stat(folder)).mode ?? 0) & 0o777, 0o700);

    await using terminal = promptIn(env, server.port, permissions);
    await terminal.until(prompt);
    await terminal.type(UP);
    await terminal.until("PING");
    await terminal.type(UP);
    await terminal.until("GREET name=Ada");
    await terminal.type("\r");
    await terminal.until('you said {"res":"Hello, Ada!"}');
    await terminal.type(CONTROL_D);
    await terminal.end();

    // It has a bound, and whoever could read it before no longer can.
    await Deno.writeTextFile(
      `${folder}/history`,
      Array.from({ length: 1500 }, (_, line) => `PING n=${line}\n`).join(""),
    );
    await Deno.chmod(`${folder}/history`, 0o644);
    await session("INFO");
    const lines = (await Deno.readTextFile(`${folder}/history`)).trimEnd().split("\n");
    assertEquals([lines.length, lines[0], lines.at(-1)], [1001, "PING n=500", "INFO"]);
    assertEquals(((await Deno.stat(`${folder}/history`)).mode ?? 0) & 0o777, 0o600);
  },
);

testInTerminal("a history behind a link stays there, and one in a folder that cannot be written is read", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  await using home = await Folder.make();
  const folder = `${home.path}/.local/state/packline`;
  const target = `${home.path}/kept`;
  await home.write("kept", "GREET name=Ada\n");
  await Deno.mkdir(folder, { recursive: true });
  await Deno.symlink(target, `${folder}/history`);
  const permissions = ["--allow-env=HOME,XDG_STATE_HOME", "--allow-read", "--allow-write"];
  const prompt = `127.0.0.1:${server.port}> `;
  const session = async (line: string) => {
    await using terminal = promptIn(await homeAt(home.path), server.port, permissions);
    await terminal.until(prompt);
    await terminal.type(UP);
    await terminal.until("GREET name=Ada");
    await terminal.type("\r");
    await terminal.until(prompt);
    await terminal.type(`${line}\r`);
    await terminal.until("\n");
    await terminal.until(prompt);
    await terminal.type(`GREET name=Ada\r${CONTROL_D}`);
    assertEquals((await terminal.end()).code, 0);
  };
  await session("PING");
  assertEquals((await Deno.lstat(`${folder}/history`)).isSymlink, true);
  assertEquals(await Deno.readTextFile(target), "GREET name=Ada\nPING\nGREET name=Ada\n");
  // In place of the file that shortens the history, as nobody can write there.
  await Deno.mkdir(`${target}.new`);
  await session("INFO");
});

testInTerminal("without the permissions, or without a place, there is no history and no question", async () => {
  await using server = await serve({ port: 0 });
  await using state = await Folder.make();
  await state.write("file", "");
  const prompt = `127.0.0.1:${server.port}> `;
  const folder = `${state.path}/packline`;
  const ways: [place: string, permissions: string[]][] = [
    [state.path, []],
    [state.path, ["--allow-env"]],
    [state.path, ["--allow-env", `--allow-read=${folder}`]],
    [state.path, [`--allow-read=${folder}`, `--allow-write=${folder}`]],
    [`${state.path}/file`, ["--allow-env", "--allow-read", "--allow-write"]],
  ];
  for (const [place, permissions] of ways) {
    await using terminal = promptIn({ XDG_STATE_HOME: place }, server.port, permissions);
    await terminal.until(prompt);
    await terminal.type("PING\r");
    const output = await terminal.until(prompt);
    assertStringIncludes(output, 'you said {"res":"PONG"}');
    assertNotMatch(output, /packline: /);
    await terminal.type(CONTROL_D);
    assertEquals((await terminal.end()).code, 0);
  }
  assertEquals([...Deno.readDirSync(state.path)].map(({ name }) => name), ["file"]);
});
