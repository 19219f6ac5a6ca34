/**
 * The documents in `docs/`, its recipes among them, and the first section of README.md, done as they say: their files are written, their commands are typed, and what is printed is
 * compared. In a copy of the project, so that nothing is left behind.
 *
 * A document speaks in four kinds of blocks:
 *
 * - `ts ignore`, `json` or `lua`, its first line a comment with a name: the file of that name. It may be written anew further down.
 * - `console`: commands behind "$ ", each run to its end, and what it prints. What stands before a ` | ` gives it its input.
 * - `console server`: a command that goes on beside those below it, until Ctrl-C before the next of its kind. What it
 *   prints until then is compared as well.
 * - `ts`: complete in itself, run by `deno test --doc`.
 *
 * Three things differ from what stands there: the port 1300, because no test may count on a fixed one; times; and where
 * `@std/assert` is, because a test gets by with npm's registry.
 */

import { assert, assertEquals } from "@std/assert";
import config from "../deno.json" with { type: "json" };
import { type Package, testWith } from "./production/programs.ts";
import { firstSection } from "./support/documents.ts";

const project = new URL("../", import.meta.url);
const docs = new URL("docs/", project);

/** What a document's files may import or load. */
const NEEDED = [
  "cli",
  "client",
  "codec",
  "handlers",
  "handlers/built_ins",
  "session",
  "transport",
  "examples/openresty/lib/resty",
  "examples/openresty/lib/resty/packline",
];

/** The port that the documents name. */
const PORT = "1300";

interface Block {
  /** What stands behind the three backticks. */
  kind: string;
  text: string;
}

function blocksOf(markdown: string): Block[] {
  // A command may go on in the next line.
  return [...markdown.matchAll(/^```(.*)\n([^]*?)^```$/gm)].map(([, kind, text]) => ({
    kind,
    text: text.replaceAll(/ \\\n */g, " "),
  }));
}

/** The name in the comment that a file begins with. */
function nameOf({ kind, text }: Block): string | undefined {
  if (!["ts ignore", "json", "lua"].includes(kind)) return undefined;
  return text.match(/^(?:\/\/|--) ([\w/]+\.(?:ts|json|lua))\n/)?.[1];
}

/** Without what differs from run to run: how long a test took, whether a module had been checked before. */
function steady(text: string): string {
  return text.replaceAll(/ \(\d+(?:µs|ms|s)\)/g, " (…)").replaceAll(/^Check .*\n/gm, "").trimEnd();
}

async function copyProject(folder: string): Promise<void> {
  await Deno.mkdir(folder);
  const copy = async (name: string) => await Deno.copyFile(new URL(name, project), `${folder}/${name}`);
  for await (const { name, isFile } of Deno.readDir(project)) {
    if (isFile && /\.(ts|json|lock)$/.test(name)) await copy(name);
  }
  for (const place of NEEDED) {
    await Deno.mkdir(`${folder}/${place}`, { recursive: true });
    for await (const { name, isFile } of Deno.readDir(new URL(place, project))) {
      if (isFile) await copy(`${place}/${name}`);
    }
  }
}

/** A program in the copy: `deno` is the one that runs this test; `NAME=value` before it goes to its environment. */
function program(line: string, folder: string, stdin: "null" | "piped" = "null"): Deno.Command {
  const words = line.split(" ");
  const env: Record<string, string> = { NO_COLOR: "1" };
  while (/^[A-Z_]+=/.test(words[0])) {
    const [name, value] = words.shift()?.split("=") ?? [];
    env[name] = value;
  }
  const [name, ...args] = words;
  const path = name === "deno" ? Deno.execPath() : name;
  return new Deno.Command(path, { args, env, cwd: folder, stdin, stdout: "piped", stderr: "piped" });
}

/** What a line prints that was typed in a shell. */
async function typed(line: string, folder: string): Promise<Deno.CommandOutput> {
  const [given, ...piped] = line.split(" | ");
  if (piped.length === 0) return await program(line, folder).output();
  assertEquals(piped.length, 1, line);
  const { stdout } = await new Deno.Command("sh", { args: ["-c", given], cwd: folder }).output();
  const child = program(piped[0], folder, "piped").spawn();
  const [output] = await Promise.all([child.output(), new Blob([stdout]).stream().pipeTo(child.stdin)]);
  return output;
}

/** A server that a document has started. */
class RunningServer {
  readonly #child: Deno.ChildProcess;
  readonly #stderr: Promise<string>;
  readonly #stdout: ReadableStreamDefaultReader<string>;
  #printed = "";

  constructor(line: string, folder: string) {
    this.#child = program(line, folder).spawn();
    this.#stdout = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#stderr = new Response(this.#child.stderr).text();
  }

  /** The port it listens on, once it says so. */
  async port(): Promise<string> {
    while (!this.#printed.includes("\n") && await this.#read());
    const [, port] = this.#printed.match(/^.*\blistening on 127\.0\.0\.1:(\d+)\n/) ?? [];
    assert(port, this.#printed + await (this.#printed === "" ? this.#stderr : ""));
    return port;
  }

  /** Ctrl-C. Gives back all that it has printed. */
  async stop(): Promise<string> {
    this.#child.kill("SIGINT");
    while (await this.#read());
    await this.#child.status;
    return this.#printed + await this.#stderr;
  }

  async #read(): Promise<boolean> {
    const { value = "", done } = await this.#stdout.read();
    this.#printed += value;
    return !done;
  }
}

/** Follows a document from its first block to its last. */
class Reader {
  readonly #folder: string;
  readonly #files = new Map<string, string>();
  #server: RunningServer | undefined;
  #serverShould = "";
  #port = "0";
  /** How many commands it has typed. */
  commands = 0;

  constructor(folder: string) {
    this.#folder = folder;
  }

  async follow(block: Block): Promise<void> {
    const file = nameOf(block);
    if (file !== undefined) await this.#write(file, block.text);
    else if (block.kind === "console server") await this.#start(block.text);
    else if (block.kind === "console") await this.#type(block.text);
    else assertEquals(block.kind, "ts", `nothing can be done with this block:\n${block.text}`);
  }

  /** Ends what still runs. */
  async end(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (server) assertEquals(this.#here(steady(await server.stop())), steady(this.#serverShould));
  }

  async #write(name: string, text: string): Promise<void> {
    this.#files.set(name, text);
    const path = `${this.#folder}/${name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    const here = text.replace("jsr:@std/assert@^1.0.0", config.imports["@std/assert"]);
    await Deno.writeTextFile(path, here.replaceAll(PORT, this.#port));
  }

  async #start(text: string): Promise<void> {
    await this.end();
    const [, line, output] = text.match(/^\$ (.*)\n([^]*)$/) ?? [];
    // It listens on a port that is free, and all others are told which.
    this.#port = "0";
    for (const [name, text] of this.#files) await this.#write(name, text);
    this.#server = new RunningServer(line.replaceAll(PORT, this.#port), this.#folder);
    this.#serverShould = output;
    this.#port = await this.#server.port();
    for (const [name, text] of this.#files) await this.#write(name, text);
    this.commands++;
  }

  async #type(text: string): Promise<void> {
    for (const [, line, output] of text.matchAll(/^\$ (.*)\n((?:(?!\$ ).*\n)*)/gm)) {
      const { stdout, stderr } = await typed(line.replaceAll(PORT, this.#port), this.#folder);
      const decoder = new TextDecoder();
      const printed = decoder.decode(stderr) + decoder.decode(stdout);
      assertEquals(this.#here(steady(printed)), steady(output), line);
      this.commands++;
    }
  }

  /** A text as it would be on the port of the document. */
  #here(text: string): string {
    return text.replaceAll(this.#port, PORT);
  }
}

/** Follows a text, all of it, in a folder beside a checkout or in the checkout; `commands` is how many it has at the least. */
function testText(
  name: string,
  needs: readonly Package[],
  commands: number,
  read: () => Promise<string>,
  place = "packline",
): void {
  testWith(needs, `${name} does what it says`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "packline-docs-" });
    const reader = new Reader(`${folder}/${place}`);
    try {
      await copyProject(`${folder}/packline`);
      for (const block of blocksOf(await read())) await reader.follow(block);
      await reader.end();
      assert(reader.commands >= commands, `only ${reader.commands} commands were found`);
    } finally {
      await reader.end();
      await Deno.remove(folder, { recursive: true });
    }
  });
}

/**
 * The documents that are more than samples complete in themselves: what they need, how many commands they have, and in
 * which folder these are typed, if not in the checkout.
 */
const FOLLOWED: Record<string, [needs: Package[], commands: number, place?: string]> = {
  "tutorial.md": [[], 12, "weather"],
  "from-openresty.md": [["luajit2", "lua-messagepack", "lua-socket"], 2],
  "security.md": [["openssl"], 4],
  "types.md": [[], 8, "shop"],
  "streams.md": [["luajit2", "lua-messagepack", "lua-socket"], 9],
  "recipes/deployment.md": [[], 2],
  "recipes/hot_reload.md": [[], 0],
};

for (const [name, [needs, commands, place]] of Object.entries(FOLLOWED)) {
  testText(`docs/${name}`, needs, commands, () => Deno.readTextFile(new URL(name, docs)), place);
}

testText("README.md, its first section,", [], 2, async () => {
  return firstSection(await Deno.readTextFile(new URL("README.md", project)));
});

/** The documents here, by name. */
async function documents(): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const folder of ["", "recipes/"]) {
    for await (const { name } of Deno.readDir(new URL(folder, docs))) {
      if (name.endsWith(".md")) found.set(folder + name, await Deno.readTextFile(new URL(folder + name, docs)));
    }
  }
  return found;
}

Deno.test("each page for those who come from elsewhere fits a screen", async () => {
  for (const [name, text] of await documents()) {
    if (!name.startsWith("from-")) continue;
    const lines = text.split("\n").length;
    assert(lines <= 75, `docs/${name} has ${lines} lines`);
  }
});

Deno.test("a sample imports packline by its name, so that it also runs in the reader's own folder", async () => {
  for (const [name, text] of await documents()) {
    for (const { text: sample } of blocksOf(text)) {
      const [file] = /(?<=from ")\.{1,2}\/(?:mod|testing|client\/connect)\.ts/.exec(sample) ?? [];
      assert(file === undefined, `docs/${name}: a sample imports ${file}`);
    }
  }
});

/** The anchors of a document's headings. */
function anchorsOf(markdown: string): string[] {
  const headings = [...markdown.replaceAll(/^```[^]*?^```$/gm, "").matchAll(/^#+ (.*)$/gm)];
  return headings.map(([, heading]) => heading.toLowerCase().replaceAll(/[^\w\- ]/g, "").replaceAll(" ", "-"));
}

Deno.test("each link of a document leads to a file, and to a heading in it", async () => {
  for (const [name, text] of await documents()) {
    for (const [link, target, anchor] of text.matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)) {
      const place = target ? new URL(target, new URL(name, docs)) : new URL(name, docs);
      const found = await Deno.stat(place).then(() => true, () => false);
      assert(found, `docs/${name} links to ${target}, which is not there`);
      if (anchor === undefined) continue;
      assert(anchorsOf(await Deno.readTextFile(place)).includes(anchor), `docs/${name}: no such heading: ${link}`);
    }
  }
});

Deno.test("every block of every document is run", async () => {
  const texts = await documents();
  assert(texts.size >= 5);
  for (const [name, text] of texts) {
    for (const block of blocksOf(text)) {
      // Whoever follows a document does something with each block, or fails. Elsewhere: tests/production/web_programs_test.ts,
      // tests/npm/archive_test.ts.
      const isElsewhere = name === "web.md" && ["nginx", "haproxy"].includes(block.kind) || name === "node.md";
      assert(
        name in FOLLOWED || block.kind === "ts" || isElsewhere,
        `docs/${name}: nobody runs this block:\n${block.text}`,
      );
    }
  }
});
