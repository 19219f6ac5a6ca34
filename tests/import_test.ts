/**
 * The library as its users get it: imported from a URL, by a program in an empty folder, without a configuration but
 * an import map that says where std is.
 */

import { assertEquals } from "@std/assert";
import config from "../deno.json" with { type: "json" };
import { Folder, root } from "./production/programs.ts";
import { beNew, BY_NAME, linkTo } from "./support/newcomer.ts";

const PROGRAM = `
import { command, connect, serve } from "MOD";

const GREET = command({ number: 16, handler: ({ name }: { name: string }) => \`Hello, \${name}!\` });
await using server = await serve({ port: 0, commands: { GREET } });
await using client = await connect({ port: server.port, commands: { GREET } });
console.log(await client.call.GREET({ name: "Ada" }));
`;

/** Serves the checkout, as a host of modules would. */
function serveModules(requested: string[] = []): Deno.HttpServer<Deno.NetAddr> {
  const project = new URL("..", import.meta.url);
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async (request) => {
    const { pathname } = new URL(request.url);
    requested.push(pathname);
    const type = pathname.endsWith(".json") ? "application/json" : "application/typescript";
    const bytes = await Deno.readFile(new URL(`.${pathname}`, project));
    return new Response(bytes, { headers: { "content-type": type } });
  });
}

/** Where std is, while the registry cannot be reached. */
const std = Object.fromEntries(Object.entries(config.imports).filter(([name]) => name.startsWith("jsr:")));

Deno.test("mod.ts imported from a URL serves and calls, with std as its only dependency", async () => {
  const requested: string[] = [];
  await using http = serveModules(requested);
  const folder = await Deno.makeTempDir({ prefix: "packline-import-" });
  try {
    const { port } = http.addr;
    await Deno.writeTextFile(`${folder}/std.json`, JSON.stringify({ imports: std }));
    await Deno.writeTextFile(`${folder}/main.ts`, PROGRAM.replace("MOD", `http://127.0.0.1:${port}/mod.ts`));
    const flags = ["--no-lock", "--import-map=std.json", `--allow-import=127.0.0.1:${port}`, "--allow-net=127.0.0.1"];
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["run", "--check", "--no-prompt", ...flags, "main.ts"],
      cwd: folder,
    }).output();
    const decoder = new TextDecoder();
    assertEquals([decoder.decode(stdout), code], ["Hello, Ada!\n", 0], decoder.decode(stderr));
    assertEquals(requested.includes("/mod.ts"), true);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a service and its client are written in an empty folder, with a link to a checkout", async () => {
  await using folder = await Folder.make();
  await beNew(folder.path, { config: linkTo(root), specifiers: BY_NAME });
});

Deno.test("a linked checkout compiles in a project of pages and servers, which names its libraries", async () => {
  await using folder = await Folder.make();
  const compilerOptions = { lib: ["deno.window", "dom", "dom.iterable", "dom.asynciterable"] };
  await Deno.writeTextFile(`${folder.path}/deno.json`, JSON.stringify({ ...linkTo(root), compilerOptions }));
  await Deno.writeTextFile(`${folder.path}/main.ts`, PROGRAM.replace("MOD", config.name));
  const args = ["check", "--no-lock", "main.ts"];
  const { code, stderr } = await new Deno.Command(Deno.execPath(), { args, cwd: folder.path }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
});

Deno.test("a service and its client are written in an empty folder, with packline from a URL", async () => {
  await using http = serveModules();
  await using folder = await Folder.make();
  const url = `http://127.0.0.1:${http.addr.port}`;
  await beNew(folder.path, {
    config: { imports: std },
    specifiers: {
      "": `${url}/mod.ts`,
      "/client": `${url}/client/connect.ts`,
      "/server": `${url}/server.ts`,
      "/testing": `${url}/testing.ts`,
      "/script": `${url}/client.ts`,
    },
    flags: [`--allow-import=127.0.0.1:${http.addr.port}`],
  });
});
