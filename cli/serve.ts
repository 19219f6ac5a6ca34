/**
 * The command-line server: what `deno task serve` runs.
 *
 * In: flags. Out: a server, or several workers, that listen until SIGINT, SIGTERM or SIGHUP; one line on stdout with
 * the address; an exit code. Refused, each in one line on stderr: an invalid command line (2), an address it cannot
 * listen on (1).
 *
 * The first signal starts a shutdown, and the exit code is 0. A second one ends the server at once, with the exit code
 * that a shell reports for it: 129 for SIGHUP, 130 for SIGINT, 143 for SIGTERM. The same signal within 100 ms counts as
 * a copy of the first. Under `nohup` SIGHUP is ignored.
 */

import config from "../deno.json" with { type: "json" };
import { DEFAULT_GRACE_MS, DEFAULT_HOSTNAME, DEFAULT_PORT, LIMIT_NAMES, type Limits } from "../limits.ts";
import { serve, type ShutdownReport } from "../server.ts";
import { validityProblem } from "../transport/certificate.ts";
import { systemClock } from "../transport/clock.ts";
import { textOf } from "../transport/dial.ts";
import { type ServerTls, tlsProblem } from "../transport/tls.ts";
import { permissionsToListen } from "../transport/unix.ts";
import { type Flag, type FlagValues, readArguments, UsageError } from "./arguments.ts";
import { ABOUT, describeFlags, hostnameFlag, limitFlag, pathFlag, portFlag, secondsFlag } from "./flags.ts";
import { isHangupIgnored } from "./hangup.ts";
import { complain, note, OutputError, print } from "./output.ts";
import { InputError } from "./input_file.ts";
import { readPem } from "./pem.ts";
import { withFlags } from "./permission.ts";
import { wrap } from "./wrap.ts";
import { startProcess, WORKER_FLAG } from "./worker_process.ts";

/** The help for each limit; flag names contain the units. */
const LIMIT_HELP: Record<keyof Limits, string> = {
  maxConnections: "open connections",
  maxInFlight: "requests in flight on one connection",
  maxInFlightTotal: "requests in flight on all connections",
  maxHeldBytes: "memory for waiting and running requests of one connection",
  maxTotalHeldBytes: "the same for all connections together",
  frameTimeoutMs: "time limit of a frame that is slower than 4 KiB/s",
  idleTimeoutMs: "idle time before a connection is closed, or none",
  handlerTimeoutMs: "time limit of a handler, or none",
  writeTimeoutMs: "time limit of a write without progress",
  maxQueuedBytes: "replies waiting for a slow reader, for each connection",
  maxPayloadBytes: "the largest payload, in both directions",
  maxDepth: "nested containers in one message",
  maxMessageBytes: "memory for one decoded message",
  maxStrikes: "bad messages in one strike window before a connection is closed",
  strikeWindowMs: "length of the strike window",
};

const LIMIT_FLAGS = Object.fromEntries(LIMIT_NAMES.map((name) => [name, limitFlag(name, LIMIT_HELP[name])])) as Record<
  keyof Limits,
  Flag<number>
>;

/** More than the cores of any machine. */
const MAX_WORKERS = 1_024;

const FLAGS = {
  hostname: hostnameFlag("the address to listen on; 0.0.0.0 means all interfaces"),
  port: portFlag("the port; 0 picks a free one", 0),
  unix: pathFlag("a unix socket to listen on, instead of an address and port"),
  cert: pathFlag("PEM file with the server's certificate; turns TLS on"),
  key: pathFlag("PEM file with its private key"),
  ca: pathFlag("PEM file with the authority that must have signed client certificates (mutual TLS)"),
  grace: secondsFlag(`how long a shutdown waits for calls in flight (default ${DEFAULT_GRACE_MS / 1000})`, {
    zero: true,
  }),
  workers: workersFlag("processes that share the port, each with its own limits; auto: one per core (default 1)"),
  ...ABOUT,
};

type ServeFlags = FlagValues<typeof FLAGS & typeof LIMIT_FLAGS>;

const HELP = `packline ${config.version}: serves PING, DELAY, INFO, STATS and TICK over TCP

Usage: deno task serve [flags]
       deno run --allow-net server.ts [flags]

${describeFlags(FLAGS)}

Limits:

${describeFlags(LIMIT_FLAGS)}

On SIGINT, SIGTERM or SIGHUP the server finishes the calls in flight and exits with 0. A second signal ends it at once,
with exit code 130, 143 or 129. Under nohup SIGHUP is ignored.

Exit codes: 0 after a shutdown, 1 it cannot listen on the address, 2 invalid arguments.`;

/** The exit codes that a shell reports for signals: 128 plus the number. */
const SIGNAL_EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 };

/**
 * How long after the first signal the same one counts as a copy. Ctrl-C reaches the server from the terminal, and again
 * through `deno task`.
 */
const COPIES_MS = 100;

/**
 * Runs the server.
 *
 * @param args The arguments of the command line.
 * @returns The exit code, once the server has ended.
 */
export async function main(args: readonly string[]): Promise<number> {
  // Internal, and so not in the help.
  if (args[0] === WORKER_FLAG) return await (await import("./worker.ts")).runWorker(Number(args[1]));
  // First of all: once the runtime starts a process or listens to a signal, it handles SIGHUP too.
  const hangupIsIgnored = isHangupIgnored();
  try {
    const flags = readCommandLine(args);
    if (flags.help || flags.version) {
      await print(flags.help ? wrap(HELP) : `packline ${config.version}`);
      return 0;
    }
    const server = await start(flags);
    // Before the line below, because its reader may send a signal.
    const ended = shutDownOnSignal(
      server,
      hangupIsIgnored,
      flags.grace === undefined ? DEFAULT_GRACE_MS : flags.grace * 1000,
    );
    const how = server.workers > 1 ? `with ${server.workers} workers ` : "";
    await print(`packline ${config.version} ${how}listening on ${server.address}`);
    const { finished, cut } = await ended;
    if (server.workers > 1) await note(`packline: stopped; calls in flight: ${finished} finished, ${cut} cut`);
    return 0;
  } catch (error) {
    if (error instanceof UsageError) {
      await complain(`${error.message}; see --help`);
      return 2;
    }
    if (!(error instanceof StartError || error instanceof OutputError || error instanceof InputError)) throw error;
    await complain(error.message);
    return 1;
  }
}

/**
 * Parses the command line.
 *
 * @param args The arguments of the command line.
 * @returns The value of each flag that was given.
 * @throws {UsageError} If it is invalid.
 */
export function readCommandLine(args: readonly string[]): ServeFlags {
  const { flags, words } = readArguments(args, { ...FLAGS, ...LIMIT_FLAGS });
  if (words.length > 0) throw new UsageError(`unexpected argument "${words[0]}"`);
  return flags;
}

function workersFlag(help: string): Flag<number> {
  return {
    takes: "COUNT",
    help,
    read(text, flag) {
      if (text === "auto") return Math.min(navigator.hardwareConcurrency, MAX_WORKERS);
      const count = /^\d+$/.test(text) ? Number(text) : NaN;
      if (count >= 1 && count <= MAX_WORKERS) return count;
      throw new UsageError(`${flag} ${text}: workers are a whole number from 1 to ${MAX_WORKERS}, or auto`);
    },
  };
}

/** The server cannot listen. The text says why and what to do. */
class StartError extends Error {}

/** What this program needs from a server or from several workers. */
interface Running {
  readonly address: string;
  readonly workers: number;
  shutdown(options: { graceMs: number }): Promise<ShutdownReport>;
  /** Kills what would outlive this process. */
  kill?(): void;
}

async function start(flags: ServeFlags): Promise<Running> {
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, unix: path, workers = 1 } = flags;
  if (path !== undefined && (flags.cert ?? flags.key ?? flags.ca) !== undefined) {
    throw new UsageError("--unix cannot be used with TLS");
  }
  if (workers > 1 && path !== undefined) {
    throw new UsageError("--workers cannot be used with --unix: only a port can be shared");
  }
  const tls = await tlsOf(flags);
  const address = textOf({ hostname, port, path });
  try {
    const limits = Object.fromEntries(LIMIT_NAMES.map((name) => [name, flags[name]]));
    const options = { ...limits, hostname, port, tls };
    if (workers > 1) return await startWorkers(workers, options);
    // A server starts no programs, so drop that permission.
    await Deno.permissions.revoke({ name: "run" });
    return Object.assign(await serve({ ...options, path }), { workers });
  } catch (error) {
    if (error instanceof StartError) throw error;
    if (error instanceof Deno.errors.NotCapable) {
      // With TLS, a name and its address both need permission.
      const missing = error.message.match(/net access to "([^"]+)"/)?.[1] ?? address;
      const addresses = [...new Set([address, missing])].join(",");
      const needed = path === undefined ? `--allow-net=${addresses}` : permissionsToListen(absolute(path));
      throw new StartError(`no permission to listen on ${address}; ${withFlags(needed)}`);
    }
    throw new StartError(`cannot listen on ${address}: ${reasonOf(error, path)}`);
  }
}

/** Starts workers, if the platform and the permissions allow it. */
async function startWorkers(
  count: number,
  options: { hostname: string; port: number; tls?: ServerTls },
): Promise<Running> {
  if (Deno.build.os !== "linux") {
    throw new StartError("cannot start workers: only Linux distributes the connections of a shared port");
  }
  if (Deno.build.standalone) {
    throw new StartError("cannot start workers: this server is compiled; start several behind a load balancer");
  }
  // Without the flag, sharing a port ends the process with an error of the runtime.
  if (!("listenDatagram" in Deno)) throw new StartError(`cannot share a port; ${withFlags("--unstable-net")}`);
  const program = Deno.execPath();
  if ((await Deno.permissions.query({ name: "run", command: program })).state !== "granted") {
    throw new StartError(`no permission to start workers; ${withFlags(`--allow-run=${program}`)}`);
  }
  // Listen alone first: a shared port would hide another server on it. Then use the resolved address, so that workers
  // may listen on nothing else.
  const alone = await serve({ ...options, tls: undefined });
  await alone.shutdown({ graceMs: 0 });
  const { hostname } = alone;
  const { Workers } = await import("./workers.ts");
  const workers = await Workers.start({
    count,
    port: options.port,
    start: (number, port, events) => startProcess(number, { ...options, hostname, port }, events),
    clock: systemClock,
    note: (text) => void complain(text),
  }).catch((error: Error) => {
    throw new StartError(`cannot start workers: ${error.message}`);
  });
  return Object.assign(workers, { workers: count });
}

/** Why it cannot listen on an address, and what to do. */
function reasonOf(error: unknown, path: string | undefined): string {
  if (!(error instanceof Error)) return String(error);
  if (path === undefined) {
    return error instanceof Deno.errors.AddrInUse
      ? "the port is in use; choose another with --port, 0 for any that is free"
      : error.message;
  }
  if (error instanceof Deno.errors.NotFound) return `there is no folder ${folderOf(path)}`;
  if (error instanceof Deno.errors.PermissionDenied) return `this user may not write in ${folderOf(path)}`;
  return error.message.includes("SUN_LEN") ? "the path is too long for a socket" : error.message;
}

async function tlsOf(flags: ServeFlags): Promise<ServerTls | undefined> {
  const { cert, key, ca } = flags;
  if (cert === undefined && key === undefined && ca === undefined) return undefined;
  if (cert === undefined || key === undefined) throw new UsageError("TLS needs both --cert and --key");
  const tls = readPem({ cert, key, ca }, ["cert", "key", "ca"]) as ServerTls;
  const problem = tlsProblem(tls);
  if (problem !== undefined) {
    throw new StartError(`cannot use ${[cert, key, ca].filter(Boolean).join(", ")} for TLS: ${problem}`);
  }
  // The server starts anyway: some clients do not check, and others report it.
  const untimely = validityProblem(tls.cert);
  if (untimely !== undefined) {
    await complain(`the certificate in ${cert} ${untimely}: clients that check it will not connect`);
  }
  return tls;
}

/** The folder of a socket's file. */
function folderOf(path: string): string {
  return absolute(path).replace(/\/[^/]*$/, "") || "/";
}

/** An absolute path, for permissions. */
function absolute(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}

/** The first signal starts a shutdown, the second one ends the process. Resolves after the shutdown. */
function shutDownOnSignal(
  server: Running,
  hangupIsIgnored: boolean,
  graceMs: number,
): Promise<ShutdownReport> {
  const { promise: ended, resolve } = Promise.withResolvers<ShutdownReport>();
  let first: { signal: Deno.Signal; atMs: number } | undefined;
  const stop = (signal: keyof typeof SIGNAL_EXIT_CODES) => {
    const nowMs = performance.now();
    if (first === undefined) {
      first = { signal, atMs: nowMs };
      const noted = note(`packline: stopping within ${graceMs / 1000} s; a second signal ends it at once`);
      // The process ends after this, and unwritten lines would be lost.
      resolve(server.shutdown({ graceMs }).finally(() => noted));
    } else if (signal !== first.signal || nowMs - first.atMs > COPIES_MS) {
      server.kill?.();
      Deno.exit(SIGNAL_EXIT_CODES[signal]);
    }
  };
  Deno.addSignalListener("SIGINT", () => stop("SIGINT"));
  // Windows lacks these signals.
  if (Deno.build.os !== "windows") {
    Deno.addSignalListener("SIGTERM", () => stop("SIGTERM"));
    // Without a listener the runtime would end the process, even under nohup.
    Deno.addSignalListener("SIGHUP", hangupIsIgnored ? () => {} : () => stop("SIGHUP"));
  }
  return ended;
}
