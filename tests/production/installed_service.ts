/**
 * `examples/service`, as its user has it: in a folder of its own, with a link to this checkout.
 *
 * In: nothing. Out: its server as a program, and what `deno` does in its folder. Refused: a server that does not come up.
 */

import { assertEquals } from "@std/assert";
import { Folder, Program, root, run } from "./programs.ts";

/** The token that its server is started with. */
export const TOKEN = "sesame";

/** Copies `examples/service` into a folder, and lets its link lead to this checkout. */
async function copyService(to: string): Promise<void> {
  const from = `${root}examples/service`;
  await Deno.mkdir(`${to}/callers`);
  for (const folder of ["", "callers/"]) {
    for await (const { name, isFile } of Deno.readDir(`${from}/${folder}`)) {
      if (isFile) await Deno.copyFile(`${from}/${folder}${name}`, `${to}/${folder}${name}`);
    }
  }
  const config = JSON.parse(await Deno.readTextFile(`${to}/deno.json`));
  assertEquals(config.links, ["../.."]);
  await Deno.writeTextFile(`${to}/deno.json`, JSON.stringify({ ...config, links: [root] }));
}

/** The service in a folder of its own. */
export class Installed implements AsyncDisposable {
  readonly env: Record<string, string> = { NO_COLOR: "1", WEATHER_TOKEN: TOKEN };
  readonly #folder: Folder;

  private constructor(folder: Folder) {
    this.#folder = folder;
  }

  static async make(): Promise<Installed> {
    const folder = await Folder.make();
    await copyService(folder.path);
    return new Installed(folder);
  }

  /** Where it is. */
  get path(): string {
    return this.#folder.path;
  }

  /** Runs `deno` there, to its end. */
  deno(...args: string[]): Promise<{ code: number; text: string }> {
    return run(Deno.execPath(), args, { cwd: this.#folder.path, env: this.env });
  }

  /** Starts its server. */
  async start(deno: readonly string[] = [], flags: readonly string[] = []): Promise<Program & { port: number }> {
    const permissions = ["--allow-net=127.0.0.1", "--allow-env=WEATHER_TOKEN,WEATHER_LOG"];
    const files = ["--allow-read=.", "--allow-write=."];
    const args = [
      "run",
      "--no-prompt",
      "--frozen",
      ...permissions,
      ...files,
      ...deno,
      "server.ts",
      "--port",
      "0",
      ...flags,
    ];
    return await this.#listening(args);
  }

  /** Starts its server by its task, with the permissions that this has. */
  async startTask(): Promise<Program & { port: number }> {
    return await this.#listening(["task", "--quiet", "start", "--port", "0"]);
  }

  async #listening(args: string[]): Promise<Program & { port: number }> {
    const options = { cwd: this.#folder.path, env: this.env };
    const program = await Program.start(Deno.execPath(), args, /listening on .*\n/, options);
    return Object.assign(program, { port: Number((await program.hear(/:(\d+)\n/))[1]) });
  }

  /** The temperatures that are in the log. */
  async degrees(): Promise<number[]> {
    const lines = (await Deno.readTextFile(`${this.#folder.path}/weather.jsonl`)).split("\n").filter(Boolean);
    return lines.map((line) => JSON.parse(line).degrees);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
