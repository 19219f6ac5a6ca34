/**
 * The sockets of Node, which Bun has too: TCP, TLS and unix sockets, for a client and for a server; and DNS look-ups.
 *
 * In: an address, or a path. Out: a transport, a source of connections. Refused: an address that cannot be reached or
 * is in use, by the runtime's error.
 */

import { Resolver } from "node:dns/promises";
import { lstatSync, type Stats, unlinkSync } from "node:fs";
import { chmod, chown, lstat, mkdir, readFile, rename, rmdir, unlink } from "node:fs/promises";
import { connect } from "node:net";
import process from "node:process";
import { addressText, type CheckedAddress, type DnsOptions, type Network, type ResolveDns } from "./address.ts";
import type { ServerNetwork } from "./listen.ts";
import { NodeAcceptor } from "./node_acceptor.ts";
import type { AddressedTransport } from "./proxy_preamble.ts";
import { messageOf, systemError } from "./runtime.ts";
import { nodeTransport } from "./node_transport.ts";
import { dialTls, EACH_ADDRESS, untilOpen } from "./tls_socket.ts";
import type { Transport } from "./transport.ts";
import { listenUnix, type UnixSystem } from "./unix.ts";

/** The sockets of Node, for a client. */
export const nodeNetwork: Network = { open };

async function open({ hostname, port, path, tls }: CheckedAddress, signal: AbortSignal): Promise<Transport> {
  if (path !== undefined) return await dial({ path }, signal, `unix:${path}`);
  if (tls !== undefined) return await dialTls({ hostname, port }, tls, signal);
  return await dial({ host: hostname, port }, signal);
}

async function dial(to: { path: string } | { host: string; port: number }, signal: AbortSignal, peer?: string) {
  if ("path" in to) checkLength(to.path);
  const socket = connect({ ...to, ...EACH_ADDRESS, allowHalfOpen: true });
  await untilOpen(socket, "connect", signal);
  return nodeTransport(socket, { peer });
}

/** The longest path of a unix socket, in bytes. Node 20 silently cuts a longer path, and so uses another socket. */
const MAX_PATH_BYTES = process.platform === "linux" ? 107 : 103;

function checkLength(path: string): void {
  if (new TextEncoder().encode(path).length <= MAX_PATH_BYTES) return;
  throw Object.assign(new Error(`a path may have ${MAX_PATH_BYTES} bytes`), { code: "EINVAL" });
}

/** The sockets of Node, for a server. */
export const nodeServerNetwork: ServerNetwork = {
  listen: ({ hostname, ...place }, clock) => NodeAcceptor.listen({ ...place, host: hostname }, clock),
  async listenUnix(path, access, clock) {
    const listen = (hidden: string) => {
      checkLength(hidden);
      return NodeAcceptor.listen({ path: hidden }, clock);
    };
    const listener = await listenUnix<AddressedTransport>(path, access, { ...files, listen });
    return { ...listener, hostname: path, port: 0, address: `unix:${path}`, handshakes: 0 };
  },
  hostOf: ({ hostname }) => hostname,
};

/** The file functions of Node, by their names in Deno. */
const files: Omit<UnixSystem<unknown>, "listen"> = {
  ...{ chmod, mkdir, rename },
  chown: (path, _uid, gid) => chown(path, -1, gid),
  lstat: async (path) => factsOf(await lstat(path)),
  lstatSync: (path) => factsOf(lstatSync(path)),
  readTextFile: (path) => readFile(path, "utf8"),
  remove: async (path) => (await lstat(path)).isDirectory() ? await rmdir(path) : await unlink(path),
  removeSync: unlinkSync,
  knock: async (path) => (await dial({ path }, new AbortController().signal)).close(),
};

function factsOf(stats: Stats) {
  return { dev: stats.dev, ino: stats.ino, isSocket: stats.isSocket(), isDirectory: stats.isDirectory() };
}

const DNS_PORT = 53;

/** Looks up a name in the DNS, as `Deno.resolveDns()` does. */
export const resolveDns = async function (
  name: string,
  type: "A" | "AAAA" | "SRV",
  { nameServer }: Pick<DnsOptions, "nameServer">,
): Promise<unknown[]> {
  const resolver = new Resolver();
  if (nameServer !== undefined) {
    resolver.setServers([
      addressText({ transport: "udp", hostname: nameServer.ipAddr, port: nameServer.port ?? DNS_PORT }),
    ]);
  }
  try {
    if (type === "A") return await resolver.resolve4(name);
    if (type === "AAAA") return await resolver.resolve6(name);
    return (await resolver.resolveSrv(name)).map(({ name: target, ...record }) => ({ ...record, target }));
  } catch (error) {
    const isMissing = ["ENODATA", "ENOTFOUND"].includes((error as { code: string }).code);
    throw isMissing ? systemError("NotFound", messageOf(error), { cause: error }) : error;
  }
} as ResolveDns;
