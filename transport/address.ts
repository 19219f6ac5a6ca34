/**
 * The addresses of servers, as text and in the DNS (all addresses of a host, or the hosts of a service by SRV), and how
 * to connect to one with a time limit, over the sockets of the runtime.
 *
 * In: a user's address: `localhost`, `127.0.0.1`, `::1`, `[::1]`, a URL, a name; the {@linkcode Network} of the
 * runtime. Out: the address as all of the runtime's interfaces take it; a function that finds
 * servers, each as `host:port`; a transport. Refused: invalid names and ports, by the kinds below, which `checkOptions`
 * uses; a name without servers, and an address that cannot be reached, by a `CONNECTION_LOST` that says what to do. A
 * missing permission is thrown unchanged, because it is the program's mistake and not a network failure.
 */

import { RpcError } from "../errors.ts";
import { checkOptions, DEFAULT_PORT, type OptionKind } from "../limits.ts";
import type { Clock, Timer } from "./clock.ts";
import { isDenied, isNamed, systemError } from "./runtime.ts";
import { askTls, type ClientTls, reasonOf, type TlsSource } from "./tls.ts";
import { checkTransport, closeTransport, type Transport } from "./transport.ts";

/** The largest port. */
export const MAX_PORT = 65_535;

/** The address of a socket, as Deno has it. */
type SocketAddress =
  | { readonly transport: string; readonly hostname: string; readonly port: number }
  | { readonly transport: string; readonly path?: string };

/**
 * A name or an address. The runtime would read `null` as all interfaces of the machine, and would take a name with a
 * port for one that cannot be reached now.
 */
export const HOSTNAME: OptionKind = {
  is: (value) => isText(value) && isHost(value as string),
  must: "be a name or an address, such as 127.0.0.1 or localhost",
};

/** The path of a unix socket. */
export const PATH: OptionKind = { is: isText, must: "be the path of a unix socket" };

/** A port to listen on. */
export const LISTEN_PORT: OptionKind = {
  is: (value) => isPort(value, 0),
  must: `be a whole number from 0 to ${MAX_PORT}`,
};

/** A file descriptor beyond stdin, stdout and stderr. */
export const FD: OptionKind = {
  is: (value) => Number.isInteger(value) && value as number >= 3,
  must: "be a file descriptor of at least 3",
};

/** The URL of a WebSocket. */
export const WEB_SOCKET_URL: OptionKind = {
  is: (value) => typeof value === "string" && webSocketPlace(value) !== undefined,
  must: 'be the URL of a WebSocket, such as "wss://app.example/rpc", without a user, a password or a fragment',
};

/** A port to dial. */
export const DIAL_PORT: OptionKind = {
  is: (value) => isPort(value, 1),
  must: `be a whole number from 1 to ${MAX_PORT}`,
};

/**
 * A host as the runtime takes it: an address without its brackets (`::1` for `[::1]`), and a name with other letters as
 * the DNS has it (`xn--mnchen-3ya.example` for `münchen.example`), as in a URL. Other text is returned unchanged.
 */
export function plainHost(hostname: string): string {
  if (/^\[.*\]$/.test(hostname)) return hostname.slice(1, -1);
  const url = `ws://${hostname}`;
  const isForeign = /[^\0-\x7f]/.test(hostname) && !/[/?#@:\\]/.test(hostname) && URL.canParse(url);
  return isForeign ? new URL(url).hostname : hostname;
}

/** Where a server is. */
export interface ServerPlace {
  /** The name or address. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
  /** The path of a unix socket, instead of a name and port. */
  readonly path?: string;
  /** The URL of a WebSocket, which includes the name and the port. */
  readonly url?: string;
}

/**
 * A server as text: `db.internal:1235`, `[::1]:1235`, `unix:/run/db.sock`, `wss://app.example/rpc`. Without a port, it
 * gets the default port, or the port of its URL's scheme.
 */
export function parseServer(text: string, defaultPort: number): ServerPlace {
  const place = webSocketPlace(text);
  if (place !== undefined) return place;
  if (text.startsWith("unix:") && PATH.is(text.slice(5))) return { hostname: "", port: 0, path: text.slice(5) };
  const [, hostname, port = `${defaultPort}`] = /^(\[[^\[\]]+\]|[^:/\[\]\s]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (HOSTNAME.is(hostname) && isPort(Number(port), 1)) return { hostname, port: Number(port) };
  throw new TypeError(
    `Cannot use ${
      JSON.stringify(text)
    } as a server: it must be like "localhost:1235", "[::1]:1235", "unix:/path" or "wss://host/path"`,
  );
}

/**
 * The place of a WebSocket; `undefined` if the text is not a valid URL of one. Fragments are refused because they are
 * never sent, and passwords because a token belongs in `meta`.
 */
export function webSocketPlace(text: string): ServerPlace | undefined {
  const url = /^wss?:\/\/[^#]+$/i.test(text) && URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || url.username !== "" || url.password !== "") return undefined;
  const port = url.port === "" ? url.protocol === "wss:" ? 443 : 80 : Number(url.port);
  return isPort(port, 1) ? { hostname: plainHost(url.hostname), port, url: url.href } : undefined;
}

/** A readable address: `127.0.0.1:1235`, `[::1]:1235`, or a path, which a client of a unix socket does not have. */
export function addressText(address: SocketAddress): string {
  if (!("hostname" in address)) return "path" in address && address.path ? `unix:${address.path}` : address.transport;
  const hostname = address.hostname.includes(":") ? `[${address.hostname}]` : address.hostname;
  return `${hostname}:${address.port}`;
}

function isText(value: unknown): boolean {
  return typeof value === "string" && value !== "" && !value.includes("\0");
}

/** Whether a text may be a name or an address, and has no port or scheme: only an address of IPv6 has colons. */
function isHost(text: string): boolean {
  const bare = plainHost(text);
  if (!bare.includes(":")) return !/[\s/[\]@?#]/.test(bare);
  return /^[\da-f:.]+(%[^\s/[\]]+)?$/i.test(bare) && URL.canParse(`http://[${bare.replace(/%.*/, "")}]`);
}

function isPort(value: unknown, least: number): boolean {
  return Number.isInteger(value) && value as number >= least && value as number <= MAX_PORT;
}

/** The time limit of one dial. Without it, a host that drops packets would block a caller for two minutes. */
const DIAL_TIMEOUT_MS = 10_000;

/** How often a dial looks whether anybody still waits for it. */
const LOOK_MS = 2_000;

/** The address of a server, and whether to use TLS. */
export interface Address extends ServerPlace {
  /** Uses TLS. With a URL, its scheme decides whether to use TLS, and these are the options. */
  readonly tls?: TlsSource<ClientTls>;
}

/** An address, with its hostname without brackets, and the checked options of TLS. */
export interface CheckedAddress extends ServerPlace {
  readonly tls?: ClientTls;
}

/** The sockets of a runtime, for a client. */
export interface Network {
  /**
   * Opens a connection.
   *
   * @param address The address, without a URL.
   * @param signal Ends the attempt.
   * @returns The connection, after its TLS handshake if it has one.
   */
  open(address: CheckedAddress, signal: AbortSignal): Promise<Transport>;
}

/**
 * Connects to an address.
 *
 * @param network The sockets.
 * @param address The address.
 * @param signal Ends the attempt.
 * @returns The connection.
 * @throws {RpcError} `CONNECTION_LOST`, retryable: nothing has been sent.
 * @throws {Deno.errors.NotCapable} If the program lacks the permission.
 */
export async function dialAddress(network: Network, address: Address, signal: AbortSignal): Promise<Transport> {
  try {
    const { url, path, port, ...given } = address;
    const hostname = plainHost(address.hostname);
    const tls = given.tls ? await askTls(given.tls) : url?.startsWith("wss:") ? {} : undefined;
    signal.throwIfAborted();
    if (url === undefined) return await network.open({ hostname, port, path, tls }, signal);
    // Loaded only if needed. This is not the runtime's own WebSocket, because Deno's leaves Nagle's algorithm on: a
    // request waits up to 40 ms for the acknowledgement of an earlier one.
    const { dialWebSocket } = await import("./web_socket.ts");
    return await dialWebSocket(url, network.open({ hostname, port, tls }, signal), signal);
  } catch (error) {
    if (isDenied(error)) throw error;
    throw unreachable(textOf(address), signal.aborted ? signal.reason : error);
  }
}

/** A readable address. */
export function textOf({ hostname, port, path, url }: ServerPlace): string {
  if (url !== undefined) return url;
  return addressText(
    path === undefined ? { transport: "tcp", hostname: plainHost(hostname), port } : { transport: "unix", path },
  );
}

/** Makes a connection; the signal aborts when the connection is no longer needed. */
export type Dial = (signal: AbortSignal) => Promise<Transport>;

/**
 * Dials with a time limit, even if `dial` ignores its signal. The limit does not keep the process alive: whoever waits
 * for the connection does. But a socket that opens also does, and Deno has no way to change that. So a dial that nobody
 * waits for is given up early, though not at once: the next caller may come soon.
 *
 * @param dial Makes the connection.
 * @param clock The clock.
 * @param wanted Aborted when the connection is no longer needed or takes too long.
 * @param isAwaited Whether anybody waits for the connection.
 * @returns The connection.
 */
export async function dialInTime(
  dial: Dial,
  clock: Clock,
  wanted: AbortController,
  isAwaited: () => boolean,
): Promise<Transport> {
  let timer: Timer | undefined;
  const look = (ms: number) => {
    timer = clock.setTimer(
      () => {
        if (ms < DIAL_TIMEOUT_MS && isAwaited()) look(ms + LOOK_MS);
        else wanted.abort(new Error(`no answer within ${ms} ms`));
      },
      LOOK_MS,
      false,
    );
  };
  look(LOOK_MS);
  const { signal } = wanted;
  const { promise: unwanted, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  // A `dial` that throws synchronously counts as a failed dial.
  const dialed = (async () => await dial(signal))();
  try {
    return checkTransport(await Promise.race([dialed, unwanted]), "the result of dial()");
  } catch (error) {
    // Close a connection that comes too late, or that cannot be used.
    dialed.then(closeTransport, ignore);
    throw error;
  } finally {
    clock.clearTimer(timer as Timer);
  }
}

function ignore(): void {}

/** The error for a failed dial. */
export function unreachable(address: string, cause: unknown): RpcError {
  const reason = isNamed(cause, "ConnectionRefused")
    ? "connection refused; is the server running?"
    : isNamed(cause, "NotFound")
    ? "there is no such socket; is the server running?"
    : isNamed(cause, "WouldBlock")
    ? "too many clients wait for the server; is it busy?"
    : address.startsWith("unix:") && codeOf(cause) === "EINVAL"
    ? "the path is too long: the system allows 107 bytes (Linux) or 103 (macOS)"
    : address.startsWith("unix:") && codeOf(cause) === "EACCES"
    ? "this user may not open it; the server's mode and group (--unix-mode, --unix-group) say who may"
    : reasonOf(cause);
  return new RpcError("CONNECTION_LOST", `cannot reach ${address}: ${reason}`, { retryable: true, cause });
}

function codeOf(error: unknown): unknown {
  return (error as { code?: unknown } | undefined)?.code;
}

/** What to look up: the addresses of a host, or the hosts of a service. */
export interface DnsOptions {
  /** The name of a host. Each of its addresses (A and AAAA records) is a server. */
  hostname?: string;
  /**
   * The port of the servers of a host.
   *
   * @default {1235}
   */
  port?: number;
  /**
   * The name of a service, such as `_packline._tcp.example.com`. Its SRV records are the servers, with their ports.
   * Only records with the best priority count. Weights are ignored, because a client knows which server is less busy.
   */
  service?: string;
  /** The name server to use instead of the system's. */
  nameServer?: { ipAddr: string; port?: number };
}

/** The look-ups of a runtime, as Deno has them. A name without such records rejects with `NotFound`. */
export interface ResolveDns {
  (name: string, type: "A" | "AAAA", options: Pick<DnsOptions, "nameServer">): Promise<string[]>;
  (
    name: string,
    type: "SRV",
    options: Pick<DnsOptions, "nameServer">,
  ): Promise<{ priority: number; target: string; port: number }[]>;
}

const DNS_OPTIONS: Record<keyof DnsOptions, OptionKind> = {
  hostname: HOSTNAME,
  port: DIAL_PORT,
  service: { is: HOSTNAME.is, must: "be the name of a service, such as _packline._tcp.example.com" },
  nameServer: {
    is: (value) => HOSTNAME.is((value as DnsOptions["nameServer"])?.ipAddr),
    must: 'be an object such as { ipAddr: "10.0.0.2", port: 53 }',
    within: { ipAddr: HOSTNAME, port: DIAL_PORT },
  },
};

/**
 * Makes a function that finds servers by name in the DNS, for `connect({ servers })`. The program also needs
 * `--allow-net` for the name server. With TLS, a certificate must contain the addresses of the servers, or the hosts of
 * the service.
 *
 * @param options The host and its port, or the service.
 * @returns A function that resolves with the current servers, each as `host:port`. It rejects with an `RpcError`
 * `CONNECTION_LOST` (retryable) if the name has no servers or the name server cannot be reached, and with
 * `Deno.errors.NotCapable` if the program has no permission for the name server.
 * @throws {TypeError} If the options name neither a host nor a service, or both.
 * @throws {RangeError} If the port is out of range.
 *
 * @example Every address of a name is a server
 * ```ts
 * import { connect, dnsServers } from "../mod.ts";
 *
 * const servers = dnsServers({ hostname: "api.internal", port: 1235 });
 * await using client = await connect({ servers, lazy: true });
 * ```
 */
export function dnsServers(options: DnsOptions): () => Promise<string[]> {
  return serversByName(options, Deno.resolveDns);
}

/** Like `dnsServers()`, with the look-ups of any runtime. */
export function serversByName(options: DnsOptions, resolveDns: ResolveDns): () => Promise<string[]> {
  checkOptions(options, DNS_OPTIONS);
  const { hostname, port, service } = options;
  if (service !== undefined && hostname === undefined && port === undefined) {
    return () => found(service, "SRV records", [hostsOf(service, options, resolveDns)]);
  }
  if (hostname === undefined || service !== undefined) {
    throw new TypeError(
      `Cannot look up servers: it takes either a hostname and a port, or a service, whose records hold the ports`,
    );
  }
  const lookup = (type: "A" | "AAAA") => addressesOf(hostname, type, options, resolveDns);
  return () => found(hostname, "addresses (A or AAAA records)", [lookup("A"), lookup("AAAA")]);
}

async function addressesOf(
  hostname: string,
  type: "A" | "AAAA",
  { port = DEFAULT_PORT, nameServer }: DnsOptions,
  resolveDns: ResolveDns,
): Promise<string[]> {
  const addresses = await resolveDns(plainHost(hostname), type, { nameServer });
  return addresses.map((address) => addressText({ transport: "tcp", hostname: address, port }));
}

async function hostsOf(service: string, { nameServer }: DnsOptions, resolveDns: ResolveDns): Promise<string[]> {
  const records = await resolveDns(service, "SRV", { nameServer });
  const best = Math.min(...records.map(({ priority }) => priority));
  return records
    // The host "." says that there is no such service.
    .filter(({ priority, target }) => priority === best && target !== ".")
    .map(({ target, port }) => addressText({ transport: "tcp", hostname: target.replace(/\.$/, ""), port }));
}

/** The servers that the lookups find, sorted. A lookup that fails does not matter if another one finds servers. */
async function found(name: string, what: string, lookups: Promise<string[]>[]): Promise<string[]> {
  const outcomes = await Promise.allSettled(lookups);
  const servers = outcomes.flatMap((outcome) => outcome.status === "fulfilled" ? outcome.value : []);
  if (servers.length > 0) return [...new Set(servers)].sort();
  const errors = outcomes.flatMap((outcome) => outcome.status === "rejected" ? [outcome.reason] : []);
  const failure = errors.find((error) => !isNamed(error, "NotFound"));
  if (isDenied(failure)) {
    const text = `Cannot look up ${name}: the program may not ask the name server; run it with --allow-net`;
    throw systemError("NotCapable", text, { cause: failure });
  }
  // The runtime does not distinguish an unknown name from a name server that has failed.
  const reason = failure === undefined
    ? `the name server has no ${what} for this name; is the name right?`
    : `the lookup failed: ${reasonOf(failure).replace("proto error: ", "")}`;
  throw new RpcError("CONNECTION_LOST", `cannot find the servers of ${name}: ${reason}`, {
    retryable: true,
    cause: failure ?? errors[0],
  });
}
