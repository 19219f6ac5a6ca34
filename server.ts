/**
 * The server in Deno: `createServer()` serves the connections that it is given, `serve()` also listens, and `run()`
 * makes a program of it. As a program, this module is what `deno task serve` starts.
 *
 * In: commands and limits. Out: a {@linkcode Server}. Refused: a limit out of range, a number that two commands
 * have, an address in use; each by an error that names it.
 */

import type { RunOptions } from "./cli/run_options.ts";
import { type ListeningServer, openListeningServer, openServer, type ServeOptions } from "./handlers/open_server.ts";
import type { Listener, ListenOptions, Server, ShutdownReport } from "./handlers/server.ts";
import type { ServerOptions } from "./handlers/server_state.ts";
import { denoServerNetwork } from "./transport/deno_server_network.ts";

export type { Listener, ListeningServer, ListenOptions, RunOptions, ServeOptions, Server, ShutdownReport };

/**
 * Listens, and serves every connection.
 *
 * @param options The address, the commands, and limits that differ from the defaults.
 * @returns The server, listening.
 * @throws {RangeError} If a limit or the port is out of range, or a command's number is taken twice.
 * @throws {TypeError} If an option is unknown or invalid, or a value in `commands` is no command.
 * @throws {TypeError} If the certificate or its key is invalid.
 * @throws {Deno.errors.AddrInUse} If another program listens on this address.
 *
 * @example Your own server in five lines
 * ```ts
 * import { command, serve } from "./mod.ts";
 *
 * const GREET = command(({ name }: { name: string }) => `Hello, ${name}!`);
 * const server = await serve({ port: 0, commands: { GREET } });
 * console.log(`listening on ${server.address}`);
 * await server.shutdown();
 * ```
 */
export function serve(options: ServeOptions = {}): Promise<ListeningServer> {
  return openListeningServer(options, denoServerNetwork);
}

/**
 * Makes a server that does not listen yet. Pass connections to `accept()`, or call `listen()` once or several times.
 *
 * @param options The commands, and limits that differ from the defaults.
 * @returns The server.
 * @throws {RangeError} If a limit is out of range, or a command's number is taken twice.
 * @throws {TypeError} If an option is unknown or invalid, or a value in `commands` is no command.
 *
 * @example One server on two ports
 * ```ts
 * import { createServer } from "./mod.ts";
 *
 * const server = createServer({ maxInFlight: 64 });
 * const { address } = await server.listen({ port: 0 });
 * const other = await server.listen({ port: 0 });
 * console.log(`listening on ${address} and ${other.address}`);
 * await server.shutdown();
 * ```
 */
export function createServer(options: ServerOptions = {}): Server {
  return openServer(options, denoServerNetwork);
}

/**
 * Runs a service as a program: listens, prints the address, and shuts down cleanly at SIGINT, SIGTERM or SIGHUP. Reads
 * flags and the environment; `--help` lists them with the service's commands. A flag (`--port 80`) overrides a variable
 * (`PACKLINE_PORT=80`, if the program has `--allow-env`). A variable overrides the options here, and these override the
 * defaults.
 *
 * With `workers`, each worker process runs the same main module: what is before this call when it starts, and what is
 * after it when it ends.
 *
 * @param options The service, its address, and the settings of its program.
 * @returns The exit code, which is also the process's: 0 after a shutdown or `--help`, 1 if it cannot listen, 2 if the
 * command line is invalid. With 1 and 2, stderr has one line. Code after this call runs, and `await using` is disposed,
 * but the process ends after at most one more second. A second signal ends it at once.
 * @throws {RangeError} If an option is out of range, or two commands have the same number.
 * @throws {TypeError} If an option is unknown or of another kind, or a value in `commands` is no command.
 *
 * @example A service: `deno run --allow-net server.ts --port 8080 --idle-timeout 5m`
 * ```ts
 * import { command, run } from "./mod.ts";
 *
 * export const commands = {
 *   GREET: command(({ name }: { name: string }) => `Hello, ${name}!`),
 * };
 *
 * if (import.meta.main) await run({ commands, port: 1300 });
 * ```
 */
export async function run(options: RunOptions = {}): Promise<number> {
  const { runOwnService } = await import("./cli/run.ts");
  return await runOwnService(options);
}

if (import.meta.main) {
  // Not awaited: a module of commands may import this one, and would then wait for it forever.
  import("./cli/serve.ts").then(async ({ main, endWith }) => endWith(await main(Deno.args)));
}
