/**
 * Finds the servers behind a name in the DNS: all addresses of a host, or the hosts of a service (SRV).
 *
 * In: a name. Out: a function that finds its servers, `host:port` each, each time it is called. Refused: a name without
 * servers, by a `CONNECTION_LOST` that says what to do. A missing permission is thrown as such, because it is the
 * program's mistake and not a network failure.
 */

import { RpcError } from "../errors.ts";
import { checkOptions, DEFAULT_PORT, type OptionKind } from "../limits.ts";
import { DIAL_PORT, HOSTNAME } from "./address.ts";
import { isDenied, isNamed, systemError } from "./runtime.ts";
import { addressText } from "./address.ts";
import { reasonOf } from "./tls.ts";

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
   * The name of a service, such as `_packline._tcp.example.com`. Its SRV records are the servers, with their ports; only
   * those of the best priority. Weights are ignored, because a client sees for itself which server is less busy.
   */
  service?: string;
  /** The name server to ask, in place of the system's. */
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
  },
};

/**
 * Makes a function that finds servers by name in the DNS, for `connect({ servers })`. The program needs `--allow-net` for
 * the name server, too. With TLS, a certificate must hold what the servers go by: their addresses, or the hosts of the
 * service.
 *
 * @param options The host and its port, or the service.
 * @returns A function that resolves with the servers of now, `host:port` each. It rejects with an `RpcError`
 * `CONNECTION_LOST` (retryable), if the name has no servers or the name server cannot be reached; and with
 * `Deno.errors.NotCapable`, if the program may not ask the name server.
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

/** The same, by the look-ups of any runtime. */
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
  const addresses = await resolveDns(hostname, type, { nameServer });
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

/** The servers that the lookups find, sorted. One that fails does not matter if another finds some. */
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
  // The runtime does not tell an unknown name from a name server that has failed.
  const reason = failure === undefined
    ? `the name server has no ${what} for this name; is the name right?`
    : `the lookup failed: ${reasonOf(failure).replace("proto error: ", "")}`;
  throw new RpcError("CONNECTION_LOST", `cannot find the servers of ${name}: ${reason}`, {
    retryable: true,
    cause: failure ?? errors[0],
  });
}
