/**
 * A user's first service: two files in a folder of their own, and how packline is installed there.
 *
 * In: an empty folder, a `deno.json`, and by which name its modules import packline. Out: what the client has printed.
 */

import { assertEquals } from "@std/assert";
import { connect } from "../../mod.ts";
import { Program, run } from "../production/programs.ts";

const SERVER = `
import { command, run } from "PACKLINE";

export const commands = {
  GREET: command(({ name }: { name: string }) => \`Hello, \${name}!\`),
  COUNT: command(async function* ({ to }: { to: number }) { for (let n = 1; n <= to; n++) yield n; }),
};
if (import.meta.main) await run({ commands }); // flags, environment, signals, workers, drain
`;

const CLIENT = `
import { connect } from "PACKLINE/client";
import type { commands } from "./server.ts";

await using client = await connect<typeof commands>({ port: 1235 });
console.log(await client.call.GREET({ name: "Ada" })); // Hello, Ada!
`;

/** All entries of the package in one program. */
const ENTRIES = `
import { command } from "PACKLINE";
import { type Client, connect } from "PACKLINE/client";
import { createServer, type Server } from "PACKLINE/server";
import { connectInMemory, memoryPair } from "PACKLINE/testing";

const commands = { ADD: command(({ a, b }: { a: number; b: number }) => a + b) };
await using server: Server = createServer({ commands });
await using client: Client<typeof commands> = await connectInMemory<typeof commands>(server);
const [here, there] = memoryPair();
void server.accept(there);
await using other = await connect<typeof commands>({ dial: () => Promise.resolve(here) });
console.log(await client.call.ADD({ a: 1, b: 2 }) + await other.call.ADD({ a: 3, b: 4 }));
`;

/** How packline is installed. */
export interface Installation {
  /** The user's `deno.json`. */
  readonly config: Record<string, unknown>;
  /** What stands in an import for packline, and for each of its entries. */
  readonly specifiers: Readonly<Record<"" | "/client" | "/server" | "/testing" | "/script", string>>;
  /** More flags for each `deno run`. */
  readonly flags?: readonly string[];
}

/** By the name of the package, however `deno.json` finds it. */
export const BY_NAME: Installation["specifiers"] = {
  "": "@packline/packline",
  "/client": "@packline/packline/client",
  "/server": "@packline/packline/server",
  "/testing": "@packline/packline/testing",
  "/script": "@packline/packline/script",
};

/** A `deno.json` with a link to a folder with packline. */
export function linkTo(path: string): Record<string, unknown> {
  return { imports: { "@packline/packline": "jsr:@packline/packline@^0.1.0" }, links: [path] };
}

/**
 * Writes the two files, checks their types, runs both, and calls the server by the script too. Then runs a program with
 * all entries.
 *
 * @param folder An empty folder.
 * @param installation How packline is installed there.
 */
export async function beNew(folder: string, { config, specifiers, flags = [] }: Installation): Promise<void> {
  const write = (name: string, text: string) => {
    const known = text.replaceAll(
      /"PACKLINE(\/\w+)?"/g,
      (_, entry: keyof typeof specifiers = "") => `"${specifiers[entry]}"`,
    );
    return Deno.writeTextFile(`${folder}/${name}`, known);
  };
  const options = { cwd: folder, env: { NO_COLOR: "1" } };
  const deno = (verb: string, ...args: string[]) => run(Deno.execPath(), [verb, ...flags, ...args], options);

  await Deno.writeTextFile(`${folder}/deno.json`, JSON.stringify(config));
  await write("server.ts", SERVER);
  await write("client.ts", CLIENT);
  await write("entries.ts", ENTRIES);
  const checked = await deno("check", "server.ts", "client.ts", "entries.ts");
  assertEquals(checked.code, 0, checked.text);

  const serving = ["run", "--no-prompt", ...flags, "--allow-net=127.0.0.1", "server.ts", "--port", "0"];
  await using server = await Program.start(Deno.execPath(), serving, /listening on .*\n/, options);
  const [, port] = await server.hear(/:(\d+)\n/);
  // No test may count on a fixed port.
  await write("client.ts", CLIENT.replace("1235", port));
  const called = await deno("run", "--no-prompt", "--allow-net=127.0.0.1", "client.ts");
  assertEquals(called, { code: 0, text: "Hello, Ada!\n" });
  const call = [specifiers["/script"], "--port", port, "GREET", "name=Ada", "--json"];
  // For a program from a URL, the folder's configuration must be named.
  const scripted = await deno("run", "--no-prompt", "--quiet", "--config=deno.json", "--allow-net=127.0.0.1", ...call);
  assertEquals(scripted, { code: 0, text: '{"res":"Hello, Ada!"}\n' });
  await terminateUnderLoad(server, Number(port));

  if (Deno.build.os === "linux") {
    const inWorkers = ["--unstable-net", `--allow-run=${Deno.execPath()}`, ...serving.slice(2), "--workers", "2"];
    const [verb, prompt] = serving;
    await using workers = await Program.start(
      Deno.execPath(),
      [verb, prompt, ...inWorkers],
      /listening on .*\n/,
      options,
    );
    const [, sharedPort] = await workers.hear(/with 2 workers listening on .*:(\d+)\n/);
    const withToken = [
      specifiers["/script"],
      "--port",
      sharedPort,
      "GREET",
      "name=Ada",
      "--meta",
      "token=sesame",
      "--json",
    ];
    const answered = await deno(
      "run",
      "--no-prompt",
      "--quiet",
      "--config=deno.json",
      "--allow-net=127.0.0.1",
      ...withToken,
    );
    assertEquals(answered, { code: 0, text: '{"res":"Hello, Ada!"}\n' });
    workers.kill("SIGTERM");
    assertEquals((await workers.status).code, 0);
  }

  // In memory, so without a permission.
  assertEquals(await deno("run", "--no-prompt", "entries.ts"), { code: 0, text: "10\n" });
}

/** Ends a server that is busy. Each call is either answered, or not begun. */
async function terminateUnderLoad(server: Program, port: number): Promise<void> {
  await using client = await connect({ port });
  let answered = 0;
  const isBusy = Promise.withResolvers<void>();
  const callAgain = async (): Promise<unknown> => {
    for (;;) {
      const outcome = await client.outcome("GREET", { name: "Ada" });
      if (!outcome.ok) return outcome.error.code;
      if (++answered === 200) isBusy.resolve();
    }
  };
  const callers = Array.from({ length: 8 }, callAgain);
  await isBusy.promise;
  server.kill("SIGTERM");
  assertEquals((await server.status).code, 0);
  // There is no other server, so the next call of each waits to be sent. None was lost on its way.
  await client.close();
  assertEquals(await Promise.all(callers), Array(callers.length).fill("CLOSED"));
}
