/**
 * What leaves this checkout: the package, the single binaries, the pages of `deno doc`, and the modules behind a URL that
 * is pinned to a version. Nothing here needs a network: the registry and the web server are stand-ins of our own.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import config from "../deno.json" with { type: "json" };
import jsr from "../jsr.json" with { type: "json" };
import { beNew, BY_NAME, linkTo } from "./support/newcomer.ts";

const project = new URL("../", import.meta.url);

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs `deno`, in the project unless told otherwise. */
async function deno(args: string[], options: Deno.CommandOptions = {}): Promise<Outcome> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    cwd: project,
    ...options,
    args,
    env: { NO_COLOR: "1", ...options.env },
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** Runs a test in a folder that is gone afterwards. */
async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "packline-publish-" });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The `deno` commands of a task, as words; what they write to `dist/` goes to a folder of the test. */
async function commandsOf(task: string, folder: string): Promise<string[][]> {
  const commands: string[][] = [];
  for (const command of task.replaceAll(/\bdist\b/g, `${folder}/dist`).split(" && ")) {
    const [program, ...args] = command.split(" ");
    // The one other program of the shell in `deno task` that is used.
    if (program === "mkdir") await Deno.mkdir(args[1], { recursive: args[0] === "-p" });
    else commands.push(args);
    assert(program === "mkdir" || program === "deno", command);
  }
  return commands;
}

// The package ------------------------------------------------------------------------------------------------------

/** All that is shipped: the modules, what they import, and what their readers want. */
async function shippedFiles(): Promise<string[]> {
  const files: string[] = [];
  for await (const { name, isFile } of Deno.readDir(project)) {
    if (isFile && /^(deno\.json|LICENSE|[A-Z]+\.md|\w+\.ts)$/.test(name)) files.push(name);
  }
  const addFolder = async (folder: string) => {
    for await (const { name, isFile } of Deno.readDir(new URL(folder, project))) {
      if (isFile) files.push(`${folder}/${name}`);
      else await addFolder(`${folder}/${name}`);
    }
  };
  for (const folder of ["cli", "client", "codec", "examples/template", "handlers", "session", "transport"]) {
    await addFolder(folder);
  }
  return files.sort();
}

Deno.test("deno publish --dry-run takes what is shipped, and nothing else", async () => {
  const { code, stdout, stderr } = await deno(["publish", "--dry-run", "--allow-dirty"]);
  assertEquals(code, 0, stderr);
  const listed = [...(stdout + stderr).matchAll(/^ +(file:\S+) \([\d.]+\w+\)$/gm)];
  assertEquals(listed.map(([, url]) => url.slice(project.href.length)).sort(), await shippedFiles());
});

Deno.test("deno.json and jsr.json say the same about the package", () => {
  const { name, version, license, exports, publish } = config;
  assertEquals(jsr, { name, version, license, exports, publish });
});

/** The parts of std that packline uses, as far as a search for imports needs them. */
const STD: Record<string, { version: string; paths: string[]; text: string }> = {
  msgpack: {
    version: "1.0.3",
    paths: ["./decode", "./encode"],
    text: "export function decode() {}\nexport function encode() {}\n",
  },
  cli: { version: "1.0.0", paths: ["./parse-args"], text: "export function parseArgs() {}\n" },
};

/** A registry that has std, and takes one package. */
class StandInRegistry {
  /** The package as it was uploaded: a compressed archive. */
  uploaded: Uint8Array<ArrayBuffer> | undefined;
  /** Which file it names as its configuration. */
  configuredBy: string | null = null;

  async answer(request: Request): Promise<Response> {
    const { pathname, searchParams } = new URL(request.url);
    if (request.method === "POST") {
      this.uploaded = await request.bytes();
      this.configuredBy = searchParams.get("config");
      return Response.json({ id: crypto.randomUUID(), status: "success", error: null });
    }
    if (pathname === `/api/scopes/packline/packages/packline`) {
      return Response.json({ scope: "packline", name: "packline", latestVersion: null, description: "" });
    }
    const [, name, file] = pathname.match(/^\/@std\/(\w+)\/(.+)$/) ?? [];
    const found = name in STD ? await this.#std(STD[name], file) : undefined;
    return found ?? Response.json({ code: "notFound", message: "not found" }, { status: 404 });
  }

  async #std({ version, paths, text }: typeof STD[string], file: string): Promise<Response | undefined> {
    if (file === "meta.json") return Response.json({ versions: { [version]: {} } });
    if (file === `${version}/mod.ts`) return new Response(text);
    if (file !== `${version}_meta.json`) return undefined;
    const checksum = `sha256-${await sha256(new TextEncoder().encode(text))}`;
    const exports = Object.fromEntries(paths.map((path) => [path, "./mod.ts"]));
    return Response.json({ exports, manifest: { "/mod.ts": { size: text.length, checksum } } });
  }
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

/** The files of a compressed tar archive, by name. */
async function unpack(archive: Uint8Array<ArrayBuffer>): Promise<Map<string, string>> {
  const bytes = await new Response(new Blob([archive]).stream().pipeThrough(new DecompressionStream("gzip"))).bytes();
  const decoder = new TextDecoder();
  const field = (start: number, end: number) => decoder.decode(bytes.subarray(start, end)).replace(/\0.*$/s, "");
  const files = new Map<string, string>();
  for (let start = 0; bytes[start] > 0;) {
    const size = Number.parseInt(field(start + 124, start + 136), 8);
    files.set(field(start, start + 100).replace(/^\.\//, ""), field(start + 512, start + 512 + size));
    start += 512 + Math.ceil(size / 512) * 512;
  }
  return files;
}

/** What an upload of the test needs beside the task; types are checked by the one before. */
const UPLOAD = ["--no-check", "--allow-dirty", "--no-provenance", "--token", "none"];

Deno.test("deno task publish uploads modules that name std in full, and what it uploads is enough for a service", async () => {
  const registry = new StandInRegistry();
  await using http = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    (request) => registry.answer(request),
  );
  await inFolder(async (folder) => {
    const [args] = await commandsOf(config.tasks.publish, folder);
    const { code, stderr } = await deno([...args, ...UPLOAD], {
      env: { JSR_URL: `http://127.0.0.1:${http.addr.port}/`, DENO_DIR: folder },
    });
    assertEquals(code, 0, stderr);
    const files = await unpack(registry.uploaded ?? new Uint8Array());
    assertEquals(registry.configuredBy, "/jsr.json");
    assertEquals([...files.keys()].sort(), [...await shippedFiles(), "jsr.json"].sort());
    const specifiers = new Set<string>();
    for (const [name, text] of files) {
      if (!name.endsWith(".ts")) continue;
      const code = text.replaceAll(/^ *\*.*$/gm, ""); // without samples in comments
      for (const [, specifier] of code.matchAll(/\b(?:from |import ?\(?)"([^"]+)"/g)) specifiers.add(specifier);
    }
    const packages = [...specifiers].filter((specifier) => !/^(\.{1,2}\/|node:)/.test(specifier)).sort();
    assertEquals(packages, [
      "jsr:@std/cli@^1.0.0/parse-args",
      "jsr:@std/msgpack@^1.0.3/decode",
      "jsr:@std/msgpack@^1.0.3/encode",
    ]);

    for (const [name, text] of files) {
      const path = `${folder}/package/${name}`;
      await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
      await Deno.writeTextFile(path, text);
    }
    await Deno.mkdir(`${folder}/service`);
    await beNew(`${folder}/service`, { config: linkTo("../package"), specifiers: BY_NAME });
  });
});

// Single binaries --------------------------------------------------------------------------------------------------

Deno.test("deno task compile makes single binaries with the smallest permissions", async (t) => {
  await inFolder(async (folder) => {
    const commands = await commandsOf(config.tasks.compile, folder);
    for (const args of commands) {
      assertEquals(args.filter((arg) => arg.startsWith("--allow-")), ["--allow-net"]);
      assert(args.includes("--no-prompt"), "what is not allowed would be asked for");
    }
    // deno compile downloads a runtime without a compiler, once. Where it cannot, `deno` itself takes its place: such a
    // binary holds all that it should and starts as `deno`, so that only the last step must be left out.
    let env: Record<string, string> = {};
    let downloadable = true;
    for (const args of commands) {
      await t.step(`deno ${args.filter((arg) => !arg.includes(folder)).join(" ")}`, async () => {
        // Without a check of types: another task does that.
        const [verb, ...rest] = args;
        const compile = () => deno([verb, "--no-check", ...rest], { env });
        let outcome = await compile();
        if (downloadable && outcome.code !== 0 && /Setting up base binary[^]*client error/.test(outcome.stderr)) {
          downloadable = false;
          env = { DENORT_BIN: Deno.execPath() };
          outcome = await compile();
        }
        assertEquals(outcome.code, 0, outcome.stderr);
        const [script] = args.slice(-1);
        for (const part of [script, "cli", "codec", "transport", "deno.json"]) {
          assertMatch(outcome.stdout + outcome.stderr, new RegExp(`[├└][^\n]* ${part.replace(".", "\\.")}\\b`));
        }
      });
    }
    if (!downloadable) {
      console.log("skipped: no binary can be tried: deno compile cannot download its runtime; DENORT_BIN may name one");
    }
    await t.step({
      name: "they speak to each other",
      ignore: !downloadable,
      fn: async () => {
        const server = new Deno.Command(`${folder}/dist/packline-server`, { args: ["--port", "0"], stdout: "piped" })
          .spawn();
        const reader = server.stdout.pipeThrough(new TextDecoderStream()).getReader();
        const { value: line = "" } = await reader.read();
        const [, port] = line.match(/^packline \S+ listening on 127\.0\.0\.1:(\d+)\n$/) ?? [];
        const { code, stdout } = await new Deno.Command(`${folder}/dist/packline-client`, {
          args: ["PING", "--port", port ?? line],
        }).output();
        assertEquals([new TextDecoder().decode(stdout), code], ['you said {"res":"PONG"}\n', 0]);
        server.kill("SIGTERM");
        assertEquals((await server.status).code, 0);
        await reader.cancel();
      },
    });
  });
});

// Pages ------------------------------------------------------------------------------------------------------------

/** The pages below a folder, by their paths. */
async function pagesIn(folder: string, path = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const { name, isDirectory } of Deno.readDir(`${folder}/${path}`)) {
    if (isDirectory) found.push(...await pagesIn(folder, `${path}${name}/`));
    else if (name.endsWith(".html")) found.push(path + name);
  }
  return found;
}

Deno.test("deno task docs writes a page for each document, and each link of a page leads to one", async () => {
  await inFolder(async (folder) => {
    const permissions = ["--allow-read", `--allow-write=${folder}`, "--allow-run"];
    const { code, stderr } = await deno(["run", ...permissions, "docs/site/main.ts", `${folder}/docs`]);
    assertEquals(code, 0, stderr);
    const pages = (await pagesIn(`${folder}/docs`)).filter((path) => !path.startsWith("api/"));
    for (const path of ["index.html", "PROTOCOL.html", "docs/tutorial.html", "docs/recipes/streams.html"]) {
      assert(pages.includes(path), path);
    }
    for (const path of pages) {
      const text = await Deno.readTextFile(`${folder}/docs/${path}`);
      assertMatch(text, /<main>\n<h1/, path);
      for (const [, href] of text.matchAll(/ (?:href|src)="(?!https?:)([^"#]+)/g)) {
        const target = new URL(href, `file://${folder}/docs/${path}`);
        assert((await Deno.stat(target)).isFile, `${path} links to ${href}`);
      }
      for (const [, anchor] of text.matchAll(/ href="#([^"]+)"/g)) {
        assertStringIncludes(text, ` id="${decodeURIComponent(anchor)}"`, `${path} links to #${anchor}`);
      }
    }
    for (const name of Object.keys(await import("../mod.ts"))) {
      assert((await Deno.stat(`${folder}/docs/api/~/${name}.html`)).isFile);
    }
  });
});

Deno.test("every symbol of mod.ts is documented", async () => {
  const lint = await deno(["doc", "--lint", "mod.ts", "types.ts"]);
  assertEquals(lint.code, 0, lint.stderr);
});

Deno.test("what tasks write is ignored by git", async () => {
  const ignored = (await Deno.readTextFile(new URL(".gitignore", project))).split("\n");
  assert(ignored.includes("dist/"));
});

// A URL, pinned ----------------------------------------------------------------------------------------------------

const PROGRAM = `
import { connect, serve } from "URL/mod.ts";

await using server = await serve({ port: 0 });
await using client = await connect({ port: server.port });
console.log(await client.call.PING());
`;

Deno.test("README.md imports the version that this is", async () => {
  const text = await Deno.readTextFile(new URL("README.md", project));
  const versions = [...text.matchAll(/packline@([^/\s]+)\/mod\.ts/g)].map(([, version]) => version);
  assertEquals(versions, [config.version]);
});

Deno.test("imported from a URL with a version, each module is held to its hash in deno.lock", async () => {
  const base = `/packline@${config.version}`;
  const served = new Map<string, Uint8Array<ArrayBuffer>>();
  let changed = "";
  await using http = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async ({ url }) => {
    const { pathname } = new URL(url);
    if (!pathname.startsWith(`${base}/`)) return new Response(null, { status: 404 });
    const bytes = await Deno.readFile(new URL(pathname.slice(base.length + 1), project));
    served.set(url, bytes.slice());
    if (pathname === changed) bytes[bytes.length - 1] ^= 1;
    const type = pathname.endsWith(".json") ? "application/json" : "application/typescript";
    return new Response(bytes, { headers: { "content-type": type } });
  });
  const { port } = http.addr;
  const origin = `http://127.0.0.1:${port}`;
  await inFolder(async (folder) => {
    const std = Object.fromEntries(Object.entries(config.imports).filter(([name]) => name.startsWith("jsr:")));
    await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify({ imports: std }));
    await Deno.writeTextFile(`${folder}/main.ts`, PROGRAM.replace("URL", origin + base));
    const allowed = [`--allow-import=127.0.0.1:${port}`, "--allow-net=127.0.0.1"];
    const run = (...flags: string[]) => deno(["run", "--no-prompt", ...allowed, ...flags, "main.ts"], { cwd: folder });

    const first = await run();
    assertEquals([first.stdout, first.code], ["PONG\n", 0], first.stderr);
    const { remote } = JSON.parse(await Deno.readTextFile(`${folder}/deno.lock`));
    assert(served.size > 30, `only ${served.size} modules were asked for`);
    const hashes: Record<string, string> = {};
    for (const [url, bytes] of served) hashes[url] = await sha256(bytes);
    assertEquals(remote, hashes);

    const again = await run("--frozen", `--reload=${origin}`);
    assertEquals([again.stdout, again.code], ["PONG\n", 0], again.stderr);

    for (const name of ["mod.ts", "codec/frame.ts", "deno.json"]) {
      changed = `${base}/${name}`;
      const refused = await run("--frozen", `--reload=${origin}`);
      assertEquals(refused.stdout, "", `ran with another ${name}`);
      assert(refused.code > 0);
      assertStringIncludes(refused.stderr, "Integrity check failed");
      assertStringIncludes(refused.stderr, `${origin}${changed}`);
    }

    // A module that the lock does not know: as if a later version had one more.
    changed = "";
    const { [`${origin}${base}/errors.ts`]: _, ...others } = hashes;
    const lock = JSON.parse(await Deno.readTextFile(`${folder}/deno.lock`));
    await Deno.writeTextFile(`${folder}/deno.lock`, JSON.stringify({ ...lock, remote: others }));
    const refused = await run("--frozen");
    assertEquals(refused.stdout, "", "ran with a module that is not in deno.lock");
    assertStringIncludes(refused.stderr, "The lockfile is out of date");
  });
});
