/**
 * The settings of a service: one table of flags, and the order of precedence if a setting is given more than once.
 *
 * In: a command line, the environment, the options in code. Out: where and how to serve. A flag overrides its variable
 * in the environment, a variable overrides the option in code, and an option overrides the default. Refused, by a
 * `UsageError`: an invalid value, or two settings that cannot be combined.
 */

import { DEFAULT_GRACE_MS, DEFAULT_HOSTNAME, DEFAULT_PORT, LIMIT_NAMES, type Limits, MAX_WORKERS } from "../limits.ts";
import { LOG_FORMATS, LOG_LEVELS, type LogStyle } from "../handlers/log_line.ts";
import { isOrigin } from "../transport/origins.ts";
import { isProxyName } from "../transport/proxy_header.ts";
import { GROUP } from "../transport/unix.ts";
import { type Flag, flagOf, type Flags, type FlagValues, readArguments, toggle, UsageError } from "./arguments.ts";
import { readEnvironment, variableOf } from "./environment.ts";
import {
  ABOUT,
  choiceFlag,
  countFlag,
  hostnameFlag,
  limitFlag,
  pathFlag,
  portFlag,
  timeFlag,
  valueFlag,
  wholeNumber,
} from "./flags.ts";
import type { RunOptions } from "./run_options.ts";
import { timeText } from "./units.ts";

/** The help for each limit. */
const LIMIT_HELP: Record<keyof Limits, string> = {
  maxConnections: "open connections",
  maxConnectionAgeMs: "maximum age of a connection, varied by up to 10 %, or none",
  maxInFlight: "handlers that run at a time for one connection; others wait",
  maxInFlightTotal: "the same for all connections; others are refused",
  maxHeldBytes: "memory for waiting and running requests of one connection",
  maxTotalHeldBytes: "the same for all connections together",
  frameTimeoutMs: "time limit of a frame that is slower than 4 KiB/s",
  idleTimeoutMs: "idle time before a connection is closed, or none",
  halfOpenTimeoutMs: "time limit of calls after their client has ended its half, or none",
  handlerTimeoutMs: "time limit of a handler, or none",
  writeTimeoutMs: "time limit of a write without progress",
  maxQueuedBytes: "replies waiting for a slow reader, for each connection",
  maxPayloadBytes: "the largest payload, in both directions",
  maxDepth: "nested containers in one message",
  maxMessageBytes: "memory for one decoded message",
  maxStrikes: "bad messages in one strike window before a connection is closed",
  strikeWindowMs: "length of the strike window",
};

/** The flags of the limits. */
export const LIMIT_FLAGS = Object.fromEntries(
  LIMIT_NAMES.map((name) => [name, limitFlag(name, LIMIT_HELP[name])]),
) as Record<keyof Limits, Flag<number>>;

/** The other flags of a service. */
export const SERVICE_FLAGS = {
  hostname: hostnameFlag("the address to listen on; 0.0.0.0 means all interfaces"),
  port: portFlag("the port; 0 picks a free one", 0),
  unix: pathFlag("a unix socket to listen on, instead of an address and port"),
  unixMode: modeFlag("who may connect to the unix socket, as for chmod (default 0600: its owner)"),
  unixGroup: groupFlag("the group of the unix socket, by name or number, for a mode such as 0660"),
  fd: { ...countFlag("the file descriptor of a listening socket: 3 from a systemd socket unit", 3), takes: "NUMBER" },
  cert: pathFlag("PEM file with the server's certificate; turns TLS on"),
  key: pathFlag("PEM file with its private key"),
  ca: pathFlag("PEM file with the authority that must have signed client certificates (mutual TLS)"),
  proxyProtocolFrom: proxiesFlag("proxies that send the PROXY protocol: addresses, ranges, unix"),
  webOrigin: originsFlag("origins of web pages that may call over WebSocket; * means all pages"),
  graceMs: timeFlag(`how long a shutdown waits for calls in flight (default ${timeText(DEFAULT_GRACE_MS)})`, {
    zero: true,
  }),
  workers: workersFlag("processes that share the port, each with its own limits; auto: one per core (default 1)"),
  tap: toggle("let clients watch all calls, for client.ts --tap"),
  logLevel: choiceFlag("how much is logged on stderr (default info)", LOG_LEVELS),
  logFormat: choiceFlag("how a line of the log looks (default text)", LOG_FORMATS),
  help: ABOUT.help,
};

type FlagName = keyof typeof SERVICE_FLAGS;

/** Where and how to serve. */
export interface ServiceSettings {
  readonly hostname: string;
  readonly port: number;
  readonly path?: string;
  /** A socket that already listens, instead of an address or a path. */
  readonly fd?: number;
  /** The file mode of the socket, which decides who may connect. */
  readonly mode?: number;
  readonly group?: string | number;
  /** The files of the certificate, its key, and the authority; without any, the service's own code decides on TLS. */
  readonly files: { readonly cert?: string; readonly key?: string; readonly ca?: string };
  /** The proxies whose connections begin with a header. */
  readonly proxyProtocolFrom?: readonly string[];
  /** The web pages that may call. */
  readonly webOrigins?: readonly string[];
  readonly limits: Partial<Limits>;
  /** Whether clients may watch calls. */
  readonly tap?: boolean;
  readonly log: Omit<LogStyle, "worker">;
  readonly graceMs: number;
  readonly workers: number;
  /** The name for an error: that of the variable if the reader has set a variable and no flag, else that of the flag. */
  readonly nameOf: (setting: FlagName, together?: readonly FlagName[]) => string;
}

/**
 * Finds the settings of a service.
 *
 * @param args The arguments of the command line.
 * @param options The options in code.
 * @param more Flags that only this program has.
 * @returns The settings, and the value of each flag that was given, also by the environment.
 * @throws {UsageError} If a flag or a variable is invalid, or they cannot be combined.
 */
export function readSettings<More extends Flags = Record<never, never>>(
  args: readonly string[],
  options: RunOptions = {},
  more: More = {} as More,
): { settings: ServiceSettings; flags: FlagValues<More> & { readonly help?: boolean } } {
  // Typed without `more`: a generic type would make the types of the other flags unknown.
  const known: typeof SERVICE_FLAGS & typeof LIMIT_FLAGS = { ...SERVICE_FLAGS, ...LIMIT_FLAGS, ...more };
  const { flags, words } = readArguments(args, known);
  if (words.length > 0) throw new UsageError(`unexpected argument "${words[0]}"`);
  // Help is shown even if the environment has invalid values.
  const environment: FlagValues<typeof known> = flags.help ? {} : readEnvironment(known);
  const given = { ...options, ...environment, ...flags };
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, cert, key, ca, graceMs = DEFAULT_GRACE_MS } = given;
  const place = [flags, environment, { ...options, unix: options.path }].find(saysWhere) ?? {};
  const { fd, unix: path } = place;
  const nameOf: ServiceSettings["nameOf"] = (setting, together = [setting]) => {
    const isIn = (source: typeof environment) => together.some((name) => source[name] !== undefined);
    return isIn(environment) && !isIn(flags) ? variableOf(setting) : flagOf(setting);
  };
  const ways = (["fd", "unix", "hostname", "port"] as const).filter((name) => place[name] !== undefined);
  if (ways.length > 1 && (fd ?? path) !== undefined) {
    const [first, second] = ways.map(place === flags ? flagOf : variableOf); // the options in code are checked before
    throw new UsageError(`${first} cannot be used with ${second}`);
  }
  const access = place === flags ? flags : { ...environment, ...flags };
  if (path === undefined && (access.unixMode ?? access.unixGroup) !== undefined) {
    const [mode, group, unix] = (["unixMode", "unixGroup", "unix"] as const).map((name) =>
      nameOf(name, ["unixMode", "unixGroup"])
    );
    throw new UsageError(`${mode} and ${group} need ${unix}`);
  }
  const settings: ServiceSettings = {
    hostname,
    port,
    path,
    fd,
    ...path !== undefined && { mode: given.unixMode ?? options.mode, group: given.unixGroup ?? options.group },
    files: { cert, key, ca },
    proxyProtocolFrom: given.proxyProtocolFrom,
    tap: given.tap,
    webOrigins: given.webOrigin ?? options.webOrigins,
    log: { logFormat: given.logFormat, logLevel: given.logLevel },
    limits: Object.fromEntries(LIMIT_NAMES.map((name) => [name, given[name]])),
    graceMs,
    workers: given.workers === "auto" ? oneForEachCore() : given.workers ?? 1,
    nameOf,
  };
  checkCombination(settings, options);
  return { settings, flags: { ...environment, ...flags } as FlagValues<More> & { help?: boolean } };
}

/** Whether these settings say where to listen: a port from the command line overrides a path from the environment. */
function saysWhere({ hostname, port, unix, fd }: Where): boolean {
  return (hostname ?? port ?? unix ?? fd) !== undefined;
}

interface Where {
  readonly hostname?: string;
  readonly port?: number;
  readonly unix?: string;
  readonly fd?: number;
}

function checkCombination({ path, fd, files, workers, nameOf }: ServiceSettings, { tls }: RunOptions): void {
  const { cert, key, ca } = files;
  const hasFiles = (cert ?? key ?? ca) !== undefined;
  if (hasFiles && (cert === undefined || key === undefined)) {
    const [first, second] = (["cert", "key"] as const).map((name) => nameOf(name, ["cert", "key", "ca"]));
    throw new UsageError(`TLS needs both ${first} and ${second}`);
  }
  if (fd !== undefined && workers > 1) throw new UsageError(`${nameOf("workers")} cannot be used with ${nameOf("fd")}`);
  if (path === undefined) return;
  if (hasFiles || tls !== undefined) throw new UsageError(`${nameOf("unix")} cannot be used with TLS`);
  if (workers === 1) return;
  throw new UsageError(`${nameOf("workers")} cannot be used with ${nameOf("unix")}: only a port can be shared`);
}

function modeFlag(help: string): Flag<number> {
  const read = (text: string) => /^0?[0-7]{3}$/.test(text) ? parseInt(text, 8) : undefined;
  return valueFlag("MODE", help, read, "a mode is three octal digits, such as 0660");
}

function groupFlag(help: string): Flag<string> {
  return valueFlag("GROUP", help, (text) => GROUP.is(text) ? text : undefined, `it must ${GROUP.must}`);
}

function proxiesFlag(help: string): Flag<readonly string[]> {
  return listFlag(help, isProxyName, "name proxies as 10.0.0.7, 10.0.0.0/8 or unix, with commas between");
}

function originsFlag(help: string): Flag<readonly string[]> {
  return listFlag(help, isOrigin, "name origins as a browser does: https://app.example, http://localhost:8000");
}

/** Several names, separated by commas or each with its own flag. */
function listFlag(help: string, isName: (text: string) => boolean, form: string): Flag<readonly string[]> {
  return {
    takes: "LIST",
    help,
    read(text, flag) {
      const names = text.split(",").map((name) => name.trim());
      const wrong = names.find((name) => !isName(name));
      if (wrong === undefined) return names;
      throw new UsageError(`${flag} ${wrong}: ${form}`);
    },
    join: (before, next) => [...before, ...next],
  };
}

function workersFlag(help: string): Flag<number> {
  const read = (text: string) => text === "auto" ? oneForEachCore() : wholeNumber(text, 1, MAX_WORKERS);
  return valueFlag("COUNT", help, read, `workers are a whole number from 1 to ${MAX_WORKERS}, or auto`);
}

function oneForEachCore(): number {
  return Math.min(navigator.hardwareConcurrency, MAX_WORKERS);
}
