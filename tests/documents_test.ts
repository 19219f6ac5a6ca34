/**
 * The commands in README.md, run as they stand: each line behind "$ " of a console block, and what it prints. Only the
 * port differs, because no test may count on a fixed one. The TypeScript in it is run by `deno test --doc`.
 */

import { assert, assertEquals, assertMatch } from "@std/assert";

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

/** A command line as words: none of ours needs quotes. */
function deno(command: string): string[] {
  return command.replace(/^(npx --yes deno@[\d.]+|deno) /, "").split(" ");
}

/** Numbers that differ each time, as the seconds of `slept`. */
function steady(text: string): string {
  return text.replaceAll(/"slept":2\.0\d*/g, '"slept":2.0…');
}

const readme = samplesOf(await Deno.readTextFile(new URL("README.md", project)));

Deno.test("README.md: the client's samples print what they say", async (t) => {
  const server = new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", "serve", "--port", "0"],
    cwd: project,
    stdout: "piped",
  }).spawn();
  const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value: line = "" } = await reader.read();
  assertMatch(line, /^packline \d+\.\d+\.\d+ listening on 127\.0\.0\.1:\d+\n$/);
  const [port] = line.match(/\d+\n$/) ?? [];
  const samples = readme.filter(({ command }) => / client\.ts /.test(command));
  assert(samples.length >= 7, `only ${samples.length} samples were found`);
  for (const { command, output } of samples) {
    await t.step(command, async () => {
      const child = await new Deno.Command(Deno.execPath(), {
        args: [...deno(command), "--port", (port ?? "").trim()],
        cwd: project,
      }).output();
      const decoder = new TextDecoder();
      // On a terminal stderr, which has the hex dumps, comes before the reply.
      assertEquals(steady(decoder.decode(child.stderr) + decoder.decode(child.stdout)), steady(output));
    });
  }
  server.kill("SIGTERM");
  assertEquals((await server.status).code, 0);
  await reader.cancel();
});

Deno.test("README.md: every task it names exists", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(new URL("deno.json", project)));
  const text = await Deno.readTextFile(new URL("README.md", project));
  const named = new Set([...text.matchAll(/deno(?:@[\d.]+)? task (\w+)/g)].map(([, name]) => name));
  assert(named.has("serve") && named.has("test"));
  assertEquals([...named].filter((name) => !(name in tasks)), []);
});
