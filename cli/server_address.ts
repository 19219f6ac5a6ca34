/**
 * Finds the server that the flags or the environment specify, and connects to it.
 *
 * In: flags; `PACKLINE_URL`, if they do not say where the server is and the program may read the variable. Out: an
 * address, or a connection. Refused: conflicting flags and an invalid URL, by a `UsageError`; a file that cannot be
 * read, by an `InputError`; a server that cannot be reached, or without permission, by a `CONNECTION_LOST` that says
 * what to do.
 */

import { RpcError } from "../errors.ts";
import { DEFAULT_HOSTNAME, DEFAULT_PORT } from "../limits.ts";
import { denoNetwork } from "../transport/deno_network.ts";
import { type Address, dialAddress, parseServer, textOf, WEB_SOCKET_URL } from "../transport/address.ts";
import type { Transport } from "../transport/transport.ts";
import { type ClientTls, tlsProblem } from "../transport/tls.ts";
import { type Flag, type FlagValues, toggle, UsageError } from "./arguments.ts";
import { hostnameFlag, pathFlag, portFlag } from "./flags.ts";
import { InputError } from "./input_file.ts";
import { readPem } from "./pem.ts";
import { environment, isGranted, withFlags } from "./permission.ts";

const URL_VARIABLE = "PACKLINE_URL";

/** The port is optional. A user name is refused. A path or a query is allowed only for a WebSocket. */
const TCP_URL = /^packline(s?):\/\/([^\s/?#@:[\]]+|\[[^\]]+\])(?::(\d+))?\/?$/i;
const UNIX_URL = /^unix:(?:\/\/(?=\/))?(.+)$/is;

/** The user and the password of a URL. */
const USER = /(?<=^[^/]*\/\/)[^/@]*@/;

/** The location of a server. */
interface Place {
  readonly hostname?: string;
  readonly port?: number;
  readonly unix?: string;
  readonly tls?: boolean;
  /** The URL of a WebSocket, instead of a TCP address or a unix socket. */
  readonly webSocket?: string;
  readonly advice?: string;
}

const PORT_FLAG = portFlag("the server's port", 1);

/** The flags for the server's address. */
export const ADDRESS_FLAGS = {
  // The short names are those of redis-cli.
  hostname: { ...hostnameFlag("the server's name or address"), short: "h" },
  port: { ...PORT_FLAG, short: "p" },
  url: urlFlag(`packline://HOST:PORT, packlines:// (TLS), ws://, wss:// or unix:PATH (default $${URL_VARIABLE})`),
  unix: pathFlag("the server's unix socket, instead of a name and port"),
  tls: toggle("use TLS; implied by --ca, --cert and --key"),
  ca: pathFlag("PEM file with the authority to trust"),
  cert: pathFlag("PEM file with the client's certificate, if the server requires one"),
  key: pathFlag("PEM file with its private key"),
};

/** Where the server is. */
export interface GivenAddress extends Address {
  /** Advice for the case that it cannot be reached. */
  readonly advice?: string;
}

/** The address from the flags. */
export function addressOf(flags: FlagValues<typeof ADDRESS_FLAGS>): GivenAddress {
  const { ca, cert, key } = flags;
  const { hostname = DEFAULT_HOSTNAME, port = DEFAULT_PORT, unix: path, tls, webSocket, advice } = placeOf(flags);
  const withTls = flags.tls || tls || ca !== undefined || cert !== undefined || key !== undefined;
  if ((cert === undefined) !== (key === undefined)) throw new UsageError("--cert and --key must be given together");
  if (path !== undefined && withTls) throw new UsageError("a unix socket cannot be used with TLS");
  if (webSocket !== undefined) {
    if (withTls && !tls) throw new UsageError("a WebSocket with TLS has a URL that begins with wss://");
    return { ...parseServer(webSocket, port), tls: withTls ? renewedTls(flags) : undefined };
  }
  return { hostname, port, path, tls: withTls ? renewedTls(flags) : undefined, advice };
}

function placeOf({ url, hostname, port, unix }: FlagValues<typeof ADDRESS_FLAGS>): Place {
  const parts = { hostname, port, unix };
  const [given] = Object.entries(parts).find(([, value]) => value !== undefined) ?? [];
  if (url !== undefined && given !== undefined) throw new UsageError(`--url cannot be used with --${given}`);
  if (unix !== undefined && given !== "unix") throw new UsageError(`--unix cannot be used with --${given}`);
  return url ?? (given === undefined ? placeInEnvironment() : parts);
}

function placeInEnvironment(): Place {
  // Whether the variable is set cannot be known, so only a failure mentions it.
  if (!isGranted({ name: "env", variable: URL_VARIABLE })) {
    return { advice: ` (to use ${URL_VARIABLE}, ${withFlags(`--allow-env=${URL_VARIABLE}`)})` };
  }
  const text = environment(URL_VARIABLE);
  return text ? readUrl(text, URL_VARIABLE) : {};
}

function urlFlag(help: string): Flag<Place> {
  return { takes: "URL", short: "u", help, read: readUrl };
}

function readUrl(text: string, from: string): Place {
  const [, unix] = UNIX_URL.exec(text) ?? [];
  if (unix !== undefined) return { unix };
  const [, secure, hostname, port] = TCP_URL.exec(text) ?? [];
  if (hostname === undefined && WEB_SOCKET_URL.is(text)) return { webSocket: text, tls: /^wss:/i.test(text) };
  if (hostname === undefined) {
    const form = "a URL is packline://HOST:PORT, packlines://HOST:PORT, wss://HOST/PATH or unix:PATH";
    const advice = USER.test(text) ? "; a token is sent with --meta, not in the URL" : "";
    throw new UsageError(`${from} ${text.replace(USER, "…@")}: ${form}${advice}`);
  }
  return {
    hostname,
    port: port === undefined ? undefined : PORT_FLAG.read(port, `${from} ${text}: port`),
    tls: secure !== "",
  };
}

/** The files are read at each dial, and once now, so that a mistake in the flags is reported first. */
function renewedTls(flags: FlagValues<typeof ADDRESS_FLAGS>): () => ClientTls {
  readTls(flags);
  return () => readTls(flags);
}

function readTls(flags: FlagValues<typeof ADDRESS_FLAGS>): ClientTls {
  const names = ["ca", "cert", "key"] as const;
  const tls = readPem(flags, names);
  const problem = tlsProblem(tls);
  if (problem === undefined) return tls;
  const given = names.filter((name) => flags[name] !== undefined).map((name) => `--${name} ${flags[name]}`);
  throw new InputError(`cannot use ${given.join(", ")}: ${problem}`);
}

/**
 * Asks the user for missing permissions, if there is a terminal. Done first, because a prompt would disturb timing and
 * line editing.
 */
export async function askPermission(address: Address): Promise<void> {
  const { path } = address;
  try {
    await Deno.permissions.request({ name: "net", host: permitted(address) });
  } catch (error) {
    // The dial reports an invalid host name.
    if (!(error instanceof URIError)) throw error;
  }
  if (path === undefined) return;
  for (const name of ["read", "write"] as const) await Deno.permissions.request({ name, path });
}

/** The host and port as a permission names them, also for a URL. */
function permitted({ hostname, port, path }: Address): string {
  return textOf({ hostname, port, path });
}

/** How the library's error names the option for the authority. */
const OPTION_CA = /\bas ca$/;

/** Connects; errors name missing permissions, and flags instead of options. */
export async function dialOrExplain(address: GivenAddress, signal: AbortSignal): Promise<Transport> {
  const { path, advice = "" } = address;
  try {
    return await dialAddress(denoNetwork, address, signal);
  } catch (error) {
    if (error instanceof RpcError) {
      const { err, msg } = error.toJSON();
      const text = msg && msg.replace(OPTION_CA, "with --ca") + advice;
      throw new RpcError(err, text, { retryable: error.retryable, cause: error.cause });
    }
    if (!(error instanceof Deno.errors.NotCapable)) throw error;
    const flags = path === undefined
      ? `--allow-net=${permitted(address)}`
      : `--allow-net=unix:${path} --allow-read=${path} --allow-write=${path}`;
    throw new RpcError("CONNECTION_LOST", `no permission to reach ${textOf(address)}; ${withFlags(flags)}${advice}`);
  }
}
