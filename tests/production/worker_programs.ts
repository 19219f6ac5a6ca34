/** Programs with workers, as processes, and clients of each worker. */

import { assert } from "@std/assert";
import { type Client, connect, type ConnectOptions } from "../../client.ts";
import type { mortalCommands } from "./mortal_worker.ts";
import { Program, type ProgramOptions, root } from "./programs.ts";

/** Only Linux has workers. */
export const linuxOnly = { ignore: Deno.build.os !== "linux" };
/** The arguments of the runtime, with the permissions that workers need. */
export const DENO = ["run", "--no-prompt", "--unstable-net", "--allow-net=127.0.0.1", `--allow-run=${Deno.execPath()}`];

/** A program whose workers listen. */
export async function startWorkers(args: string[], options?: ProgramOptions): Promise<Program & { port: number }> {
  const program = await Program.start(Deno.execPath(), args, /listening on .*:\d+\n/, options);
  const [, port] = await program.hear(/:(\d+)\n/);
  return Object.assign(program, { port: Number(port) });
}

/** Two workers of `server.ts`. */
export function startServer(...flags: string[]): Promise<Program & { port: number }> {
  return startWorkers([...DENO, `${root}server.ts`, "--port", "0", "--workers", "2", ...flags]);
}

/** Two workers that die when they are called to. */
export function startMortals(env?: Record<string, string>): Promise<Program & { port: number }> {
  return startWorkers([...DENO, `${root}tests/production/mortal_workers.ts`], { env });
}

/** A client of `startMortals()`. */
export type MortalClient = Client<typeof mortalCommands>;

/** Two clients, each of another worker: which it is, the kernel decides. */
export async function clientsOfBoth(
  options: ConnectOptions<typeof mortalCommands>,
): Promise<AsyncDisposable & { clients: [MortalClient, MortalClient] }> {
  const met: MortalClient[] = [];
  const others: MortalClient[] = [];
  for (let tries = 0; tries < 100 && (met[1] === undefined || met[2] === undefined); tries++) {
    const client = await connect<typeof mortalCommands>({ timeoutMs: 20_000, ...options });
    const { res: { worker } } = await client.reply("INFO");
    if (worker !== undefined && met[worker] === undefined) met[worker] = client;
    else others.push(client);
  }
  for (const client of others) await client.close();
  const [, first, second] = met;
  assert(first !== undefined && second !== undefined, "not both have answered");
  return {
    clients: [first, second],
    async [Symbol.asyncDispose]() {
      await first.close();
      await second.close();
    },
  };
}
