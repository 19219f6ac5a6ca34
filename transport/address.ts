/**
 * Host names, addresses and ports: one form for listening and for dialing.
 *
 * In: what a user gives: `localhost`, `127.0.0.1`, `::1`, `[::1]`. Out: the same without brackets, which some of the
 * runtime's interfaces reject. Refused: invalid names and ports, by the kinds below, which `checkOptions` uses.
 */

import type { OptionKind } from "../limits.ts";

const MAX_PORT = 65_535;

/** The address of a socket, as Deno has it. */
type SocketAddress =
  | { readonly transport: string; readonly hostname: string; readonly port: number }
  | { readonly transport: string; readonly path?: string };

/** A name or an address. The runtime would read `null` as all interfaces of the machine. */
export const HOSTNAME: OptionKind = { is: isText, must: "be a name or an address, such as 127.0.0.1 or localhost" };

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

/** A port to dial. */
export const DIAL_PORT: OptionKind = {
  is: (value) => isPort(value, 1),
  must: `be a whole number from 1 to ${MAX_PORT}`,
};

/** An address without its brackets: `::1` for `[::1]`. Other text is returned unchanged. */
export function withoutBrackets(hostname: string): string {
  return /^\[.*\]$/.test(hostname) ? hostname.slice(1, -1) : hostname;
}

/** A server as text: `db.internal:1235`, `[::1]:1235`, `unix:/run/db.sock`. Without a port it has the given one. */
export function parseServer(text: string, defaultPort: number): { hostname: string; port: number; path?: string } {
  if (text.startsWith("unix:") && PATH.is(text.slice(5))) return { hostname: "", port: 0, path: text.slice(5) };
  const [, hostname, port = `${defaultPort}`] = /^(\[[^\[\]]+\]|[^:/\[\]\s]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (hostname !== undefined && isPort(Number(port), 1)) return { hostname, port: Number(port) };
  throw new TypeError(
    `Cannot use ${JSON.stringify(text)} as a server: it must be like "localhost:1235", "[::1]:1235" or "unix:/path"`,
  );
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

function isPort(value: unknown, least: number): boolean {
  return Number.isInteger(value) && value as number >= least && value as number <= MAX_PORT;
}
