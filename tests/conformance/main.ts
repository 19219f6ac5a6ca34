/**
 * `deno task conformance`: checks a server, or a client through its driver, against PROTOCOL.md. `README.md` beside this
 * file is its manual.
 */

import { checkClient } from "./client_kit.ts";
import { NoDriver } from "./driver.ts";
import { linesOf, type Outcome } from "./report.ts";
import { checkServer } from "./server_kit.ts";
import { checkShutdown, StartedServer } from "./shutdown_checks.ts";
import type { Level } from "./vectors/vector.ts";
import { type Place, type Tls, Wrong } from "./wire.ts";

const USAGE = `usage: deno task conformance --server HOST:PORT [--tls] [--ca FILE] [--level 1-4]
       deno task conformance --server unix:PATH [--level 1-4]
       deno task conformance --server [--tls] [--ca FILE] [--level 1-4] -- COMMAND [ARGUMENT]...
       deno task conformance --client [--level 1-4] -- DRIVER [ARGUMENT]...

--tls         the server speaks TLS
--ca FILE     its certificate is signed by this one (PEM); implies --tls
--level 1-4   the checks up to this level; without it, all`;

interface Wanted {
  side: "server" | "client";
  address: string | undefined;
  level: Level;
  tls: boolean;
  ca: string | undefined;
  command: string[];
}

/** What the command line asks for; `undefined` if it cannot be told. */
function wantedOf(args: readonly string[]): Wanted | undefined {
  const at = args.indexOf("--");
  const [options, command] = at === -1 ? [args, []] : [args.slice(0, at), args.slice(at + 1)];
  const rest = [...options];
  const take = (flag: string, count: number) => rest.includes(flag) ? rest.splice(rest.indexOf(flag), count) : [];
  const [, level = "4"] = take("--level", 2);
  const [caFlag, ca] = take("--ca", 2);
  const tls = take("--tls", 1).length > 0 || ca !== undefined;
  const [side, address, ...unknown] = rest;
  if (!["1", "2", "3", "4"].includes(level) || unknown.length > 0 || caFlag && !ca) return;
  const wanted = { address, level: Number(level) as Level, tls, ca, command };
  if (side === "--client" && address === undefined && command.length > 0 && !tls) return { side: "client", ...wanted };
  if (side === "--server" && (address === undefined) === (command.length > 0)) return { side: "server", ...wanted };
}

/** `host:port`, IPv6 in brackets or not, or `unix:path`. */
function placeOf(address: string, tls: Tls | undefined): Place | undefined {
  if (address.startsWith("unix:")) return tls ? undefined : { path: address.slice("unix:".length) };
  const [, hostname, port] = address.match(/^\[?([^\]]+?)\]?:(\d+)$/) ?? [];
  return hostname === undefined ? undefined : { hostname, port: Number(port), tls };
}

async function outcomesOf({ side, address, level, tls: isTls, ca, command }: Wanted): Promise<Outcome[]> {
  if (side === "client") return await checkClient(command, { level });
  const tls = isTls ? { caCerts: ca === undefined ? [] : [await Deno.readTextFile(ca)] } : undefined;
  if (address !== undefined) {
    const place = placeOf(address, tls);
    if (place === undefined) throw new Wrong(address, "an address such as 127.0.0.1:1235, or unix:PATH without TLS");
    return await checkServer(place, { level });
  }
  await using server = await StartedServer.start(command, tls);
  return [...await checkServer(server.place, { level }), ...level === 4 ? await checkShutdown(server) : []];
}

/** What a server, a driver or a file that is not as it should be leads to; `InvalidData` is a certificate. */
const { ConnectionRefused, InvalidData, NotFound, UnexpectedEof } = Deno.errors;
const KNOWN = [Wrong, NoDriver, ConnectionRefused, InvalidData, NotFound, UnexpectedEof];

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
    if (!KNOWN.some((kind) => error instanceof kind)) throw error;
    console.error(`cannot check the ${wanted.side}: ${(error as Error).message}`);
    return 1;
  }
}

if (import.meta.main) Deno.exit(await main(Deno.args));
