/**
 * `deno task conformance`: checks a server, or a client through its driver, against PROTOCOL.md. `README.md` beside this
 * file is its manual.
 */

import { checkClient } from "./client_kit.ts";
import { NoDriver } from "./driver.ts";
import { linesOf, type Outcome } from "./report.ts";
import { checkServer, type Place } from "./server_kit.ts";
import { checkShutdown, StartedServer } from "./shutdown_checks.ts";
import type { Level } from "./vectors/vector.ts";
import { Wrong } from "./wire.ts";

const USAGE = `usage: deno task conformance --server HOST:PORT [--level 1-4]
       deno task conformance --server [--level 1-4] -- COMMAND [ARGUMENT]...
       deno task conformance --client [--level 1-4] -- DRIVER [ARGUMENT]...`;

interface Wanted {
  side: "server" | "client";
  address: string | undefined;
  level: Level;
  command: string[];
}

/** What the command line asks for; `undefined` if it cannot be told. */
function wantedOf(args: readonly string[]): Wanted | undefined {
  const at = args.indexOf("--");
  const [options, command] = at === -1 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
  const rest = [...options];
  const levelAt = rest.indexOf("--level");
  const [, level] = levelAt === -1 ? ["", "4"] : rest.splice(levelAt, 2);
  const [side, address, ...unknown] = rest;
  if (!["1", "2", "3", "4"].includes(level) || unknown.length > 0) return;
  if (side === "--client" && address === undefined && command.length > 0) {
    return { side: "client", address, level: Number(level) as Level, command };
  }
  if (side === "--server" && (address === undefined) === (command.length > 0)) {
    return { side: "server", address, level: Number(level) as Level, command };
  }
}

/** `host:port`, IPv6 in brackets or not. */
function placeOf(address: string): Place | undefined {
  const [, hostname, port] = address.match(/^\[?([^\]]+?)\]?:(\d+)$/) ?? [];
  return hostname === undefined ? undefined : { hostname, port: Number(port) };
}

async function outcomesOf({ side, address, level, command }: Wanted): Promise<Outcome[]> {
  if (side === "client") return await checkClient(command, { level });
  if (address !== undefined) {
    const place = placeOf(address);
    if (place === undefined) throw new Wrong(address, "an address such as 127.0.0.1:1235");
    return await checkServer(place, { level });
  }
  await using server = await StartedServer.start(command);
  return [...await checkServer(server.place, { level }), ...level === 4 ? await checkShutdown(server) : []];
}

/** Runs the kit; the exit code. */
async function main(args: readonly string[]): Promise<number> {
  const wanted = wantedOf(args);
  if (wanted === undefined) {
    console.error(USAGE);
    return 2;
  }
  try {
    const outcomes = await outcomesOf(wanted);
    console.log(linesOf(outcomes).join("\n"));
    return outcomes.some(({ result }) => result === "failed") ? 1 : 0;
  } catch (error) {
    const known = error instanceof Wrong || error instanceof NoDriver ||
      error instanceof Deno.errors.ConnectionRefused ||
      error instanceof Deno.errors.NotFound;
    if (!known) throw error;
    console.error(`cannot check the ${wanted.side}: ${(error as Error).message}`);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
