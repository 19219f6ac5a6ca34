/**
 * The commands in README.md, run as they stand: each line behind "$ " of a console block, and what it prints; each of the
 * table. Only the port differs, because no test may count on a fixed one. The TypeScript in it is run by
 * `deno test --doc`, the first section by `docs_test.ts`, and the import from a URL by `publish_test.ts`.
 */

import { assert, assertEquals } from "@std/assert";
import { firstSection } from "./support/documents.ts";
import { linkTo } from "./support/newcomer.ts";

const project = new URL("..", import.meta.url);

interface Sample {
  command: string;
  output: string;
}

/** The commands of a document, each with the lines up to the next one. */
function samplesOf(markdown: string): Sample[] {
  const samples: Sample[] = [];
  for (const [, block] of markdown.matchAll(/^```console\n(.*?)^```$/gms)) {
    for (const [, command, output] of block.matchAll(/^\$ (.*)\n((?:(?!\$ ).*\n)*)/gm)) {
      samples.push({ command, output });
    }
  }
  return samples;
}

/** Numbers that differ each time, as the seconds of `slept`. */
function steady(text: string): string {
  return text.replaceAll(/"slept":2\.0\d*/g, '"slept":2.0…');
}

const readme = await Deno.readTextFile(new URL("README.md", project));

/** What the reader does first, with a port that is free. */
async function withServer(run: (port: string) => Promise<void>, env: Record<string, string> = {}): Promise<void> {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "serve", "--port", "0"],
    cwd: project,
    env,
    stdout: "piped",
  }).spawn();
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value: line = "" } = await reader.read();
  const [, port] = line.match(/^packline \d+\.\d+\.\d+ listening on 127\.0\.0\.1:(\d+)\n$/) ?? [];
  assert(port, line);
  try {
    await run(port);
  } finally {
    server.kill("SIGTERM");
    assertEquals((await server.status).code, 0);
    await reader.cancel();
  }
}

/** Types a command line; none of ours needs quotes. */
async function type(command: string, port: string): Promise<{ code: number; output: string }> {
  const args = [...command.replace(/^deno /, "").split(" "), "--port", port];
  const child = await new Deno.Command(Deno.execPath(), { args, cwd: project, stdin: "null" }).output();
  const decoder = new TextDecoder();
  // On a terminal stderr, which has the hex dumps, comes before the reply.
  return { code: child.code, output: decoder.decode(child.stderr) + decoder.decode(child.stdout) };
}

Deno.test("README.md: the client's samples print what they say", async (t) => {
  const samples = samplesOf(readme).filter(({ command }) => / client\.ts /.test(command));
  assert(samples.length >= 7, `only ${samples.length} samples were found`);
  await withServer(async (port) => {
    for (const { command, output } of samples) {
      await t.step(command, async () => assertEquals(steady((await type(command, port)).output), steady(output)));
    }
  });
});

Deno.test("README.md: every command line of the table works", async (t) => {
  const lines = [...readme.matchAll(/^\| `(client\.ts [^`]+)`/gm)].map(([, line]) => line);
  assert(lines.length >= 6, `only ${lines.length} command lines were found`);
  await withServer(async (port) => {
    for (const line of lines) {
      await t.step(line, async () => {
        const { code, output } = await type(`deno run --allow-net ${line}`, port);
        assertEquals(code, 0, output);
      });
    }
  });
});

Deno.test("README.md: every block is run, here or elsewhere", () => {
  const first = firstSection(readme); // docs_test.ts follows it
  const blocks = [...readme.replace(first, () => "").matchAll(/^```(.*)\n([^]*?)^```$/gm)];
  assert(blocks.length >= 6);
  for (const [, kind, text] of blocks) {
    if (kind === "ts") continue;
    const known = kind === "console"
      ? samplesOf("```console\n" + text + "```").every(({ command }) => /^deno (run .*client\.ts|task) /.test(command))
      : kind === "json"
      ? JSON.stringify(JSON.parse(text)) === JSON.stringify(linkTo("../packline")) // import_test.ts installs it so
      : kind === "ts ignore" && text.split("\n").length === 2 && text.includes("/packline@");
    assert(known, `nobody runs this block:\n${text}`);
  }
});

Deno.test("README.md: every link leads somewhere", async () => {
  for (const [, target] of readme.matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g)) {
    assert((await Deno.stat(new URL(target, project))).isFile, target);
  }
});

Deno.test("README.md: every task it names exists", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", project)));
  const named = new Set([...readme.matchAll(/deno(?:@[\d.]+)? task (\w+)/g)].map(([, name]) => name));
  assert(named.has("serve") && named.has("test"));
  assertEquals([...named].filter((name) => !(name in tasks)), []);
});

Deno.test("docs/production.md: the server starts and answers with the flag for V8", async () => {
  const text = await Deno.readTextFile(new URL("docs/production.md", project));
  const [, flag] = text.match(/^ {4}DENO_V8_FLAGS=(\S+) deno task serve$/m) ?? [];
  assert(flag);
  await withServer(async (port) => {
    assertEquals((await type("deno run --allow-net client.ts PING", port)).code, 0);
  }, { DENO_V8_FLAGS: flag });
});
