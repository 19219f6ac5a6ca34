/**
 * The server as a program: what `deno task serve` runs.
 *
 * In: flags. Out: a server that listens until SIGINT or SIGTERM, one line on stdout that says where, and an exit code.
 * Refused, each in one line on stderr: a command line it cannot make sense of (2), an address it cannot listen on (1).
 *
 * The first signal shuts the server down in order, and the exit code is 0. A second one ends it at once, with the code
 * that a shell gives to a program which that signal has ended: 130 for SIGINT, 143 for SIGTERM. (The same
 * one within a tenth of a second is taken for a copy of the first.)
 */

import config from "../deno.json" with { type: "json" };
import {
  checkLimit,
  DEFAULT_GRACE_SECONDS,
  DEFAULT_HOSTNAME,
  DEFAULT_LIMITS,
  DEFAULT_PORT,
  LIMIT_NAMES,
  type Limits,
} from "../limits.ts";
import { serve, type Server } from "../server.ts";
import { textOf } from "../transport/dialer.ts";
import type { ServerTls } from "../transport/tls.ts";
import { type Flag, type FlagValues, readArguments, UsageError } from "./arguments.ts";
import { ABOUT, describeFlags, hostnameFlag, pathFlag, portFlag, secondsFlag } from "./flags.ts";
import { complain, note, OutputError, print } from "./output.ts";
import { InputError, readPem } from "./pem.ts";

/** What each limit is about, for the help; units are in the names. */
const LIMIT_HELP: Record<keyof Limits, string> = {
  maxConnections: "connections at the same time",
  maxInFlight: "requests in flight on one connection",
  maxInFlightTotal: "requests in flight in all",
  frameTimeoutMs: "from the first byte of a frame to its last",
  idleTimeoutMs: "silence before a connection is closed; 0: never",
  handlerTimeoutMs: "how long a handler may run; 0: for ever",
  writeTimeoutMs: "a write without progress before its connection is closed",
  maxQueuedBytes: "replies that wait for a slow reader, for each connection",
  maxPayloadBytes: "the largest payload, either way",
  maxDepth: "containers inside one another in one message",
  maxValues: "values in one message",
  maxStrikes: "bad messages in one window before a connection is closed",
  strikeWindowMs: "how long that window is",
};

const LIMIT_FLAGS = Object.fromEntries(LIMIT_NAMES.map((name) => [name, limitFlag(name)])) as Record<
  keyof Limits,
  Flag<number>
>;

const FLAGS = {
  hostname: hostnameFlag("the address to listen on; 0.0.0.0 is every one of this machine's"),
  port: portFlag("the port; 0 is any that is free", 0),
  unix: pathFlag("a unix socket to listen on, in place of an address and a port"),
  cert: pathFlag("a file with the server's certificate, PEM: speaks TLS"),
  key: pathFlag("a file with its private key, PEM"),
  ca: pathFlag("a file with the authority that clients need a certificate of, PEM: mutual TLS"),
  grace: secondsFlag(`how long a shutdown waits for calls in flight (default ${DEFAULT_GRACE_SECONDS})`, {
    zero: true,
  }),
  ...ABOUT,
};

type ServeFlags = FlagValues<typeof FLAGS & typeof LIMIT_FLAGS>;

const HELP = `packline ${config.version}: serves PING, DELAY, INFO, STATS and TICK over TCP

Usage: deno task serve [flags]
       deno run --allow-net server.ts [flags]

${describeFlags(FLAGS)}

Limits:

${describeFlags(LIMIT_FLAGS)}

SIGINT or SIGTERM ends it: it answers what is in flight, and exits with 0. A second signal ends it at once, with 130 or
143. An address it cannot listen on is exit code 1, a command line it cannot make sense of is 2.`;

/** How a shell names the end of a program by a signal: 128 and the signal's number. */
const SIGNAL_EXIT_CODES = { SIGINT: 130, SIGTERM: 143 };

/**
 * How long after the first signal the same one is taken for a copy: Ctrl-C reaches the server from the terminal, and
 * again from `deno task`, which passes on what it gets.
 */
const COPIES_MS = 100;

/**
 * Runs the server.
 *
 * @param args The arguments of the command line.
 * @returns The exit code, once the server has ended.
 */
export async function main(args: readonly string[]): Promise<number> {
  try {
    const flags = readCommandLine(args);
    if (flags.help || flags.version) {
      await print(flags.help ? HELP : `packline ${config.version}`);
      return 0;
    }
    const server = await listen(flags);
    // Before the line below: who reads it may send a signal.
    shutDownOnSignal(server, flags.grace);
    await print(`packline ${config.version} listening on ${server.address}`);
    await server.finished;
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

function readCommandLine(args: readonly string[]): ServeFlags {
  const { flags, words } = readArguments(args, { ...FLAGS, ...LIMIT_FLAGS });
  if (words.length > 0) throw new UsageError(`there is nothing to do with "${words[0]}"`);
  return flags;
}

function limitFlag(name: keyof Limits): Flag<number> {
  const unit = name.endsWith("Ms") ? "milliseconds" : name.endsWith("Bytes") ? "bytes" : "";
  return {
    takes: unit.toUpperCase() || "COUNT",
    help: `${LIMIT_HELP[name]} (default ${DEFAULT_LIMITS[name]})`,
    read(text, flag) {
      try {
        return checkLimit(name, /^\d+$/.test(text) ? Number(text) : text);
      } catch (error) {
        throw new UsageError(`${flag} ${text}: ${(error as RangeError).message}`);
      }
    },
  };
}

/** The server cannot listen. The text says why, and what to do about it. */
class StartError extends Error {}

async function listen(flags: ServeFlags): Promise<Server> {
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, unix: path } = flags;
  const tls = await tlsOf(flags);
  const address = textOf({ hostname, port, path });
  try {
    return await serve({ ...flags, path, tls });
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) {
      const needed = path === undefined
        ? `--allow-net=${address}`
        : `--allow-net=unix --allow-read=${folderOf(path)} --allow-write=${folderOf(path)}`;
      throw new StartError(`no permission to listen on ${address}; run it with ${needed}`);
    }
    const reason = error instanceof Deno.errors.AddrInUse && path === undefined
      ? "the port is in use; choose another with --port, 0 for any that is free"
      : error instanceof Error
      ? error.message
      : error;
    throw new StartError(`cannot listen on ${address}: ${reason}`);
  }
}

async function tlsOf(flags: ServeFlags): Promise<ServerTls | undefined> {
  const { cert, key, ca } = flags;
  if (cert === undefined && key === undefined && ca === undefined) return undefined;
  if (cert === undefined || key === undefined) throw new UsageError("TLS needs both --cert and --key");
  return await readPem({ cert, key, ca }, ["cert", "key", "ca"]) as ServerTls;
}

/** The folder in which a socket's file is made. */
function folderOf(path: string): string {
  const end = path.lastIndexOf("/");
  return end < 0 ? "." : path.slice(0, end) || "/";
}

/** The first signal ends the server in order, the second at once. */
function shutDownOnSignal(server: Server, grace: number = DEFAULT_GRACE_SECONDS): void {
  let first: { signal: Deno.Signal; atMs: number } | undefined;
  const stop = (signal: keyof typeof SIGNAL_EXIT_CODES) => {
    const nowMs = performance.now();
    if (first === undefined) {
      first = { signal, atMs: nowMs };
      void note(`packline: stopping, within ${grace} s; a second signal ends it at once`);
      void server.shutdown({ grace });
    } else if (signal !== first.signal || nowMs - first.atMs > COPIES_MS) {
      Deno.exit(SIGNAL_EXIT_CODES[signal]);
    }
  };
  Deno.addSignalListener("SIGINT", () => stop("SIGINT"));
  // Windows has no such signal.
  if (Deno.build.os !== "windows") Deno.addSignalListener("SIGTERM", () => stop("SIGTERM"));
}
