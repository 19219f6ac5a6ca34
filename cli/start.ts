/**
 * Starts a service: a server in this process, or several workers.
 *
 * In: the service and its settings. Out: the running server or workers. Refused, by a {@linkcode StartError} that says
 * why and what to do: an address it cannot listen on, an unusable certificate, workers that cannot be started.
 */

import { openServer, partOf, SERVER_OPTIONS } from "../handlers/open_server.ts";
import type { ShutdownReport } from "../handlers/server.ts";
import type { ServerOptions } from "../handlers/server_state.ts";
import { validityProblem } from "../transport/certificate.ts";
import { systemClock } from "../transport/clock.ts";
import { dialAddress, plainHost, textOf } from "../transport/address.ts";
import { denoNetwork } from "../transport/deno_network.ts";
import { denoServerNetwork } from "../transport/deno_server_network.ts";
import { askServerTls, type ServerTls, tlsProblem, type TlsSource } from "../transport/tls.ts";
import { closeTransport } from "../transport/transport.ts";
import { permissionsToListen } from "../transport/unix.ts";
import { readPem } from "./pem.ts";
import { isGranted, withFlags } from "./permission.ts";
import { Renewal, type RenewalEvent } from "./renewal.ts";
import type { RunOptions } from "./run_options.ts";
import type { ServiceSettings } from "./service_flags.ts";
import { logEvent } from "./service_log.ts";
import { RUNTIME, startProcess, type WorkerProgram, type WorkerTask } from "./worker_process.ts";

/** How long an answer from this machine may take. */
const TRIAL_MS = 1_000;

/** The server cannot listen. The text says why and what to do. */
export class StartError extends Error {
  /** Always `"StartError"`. */
  override readonly name = "StartError";
}

/** A running server, or several running workers. */
interface Running {
  readonly address: string;
  readonly workers: number;
  /** Whether all workers listen, once that is known; `false` after a shutdown. Rejects if they cannot listen. */
  readonly listening?: Promise<boolean>;
  shutdown(options: { graceMs: number }): Promise<ShutdownReport>;
  /** The certificates, if they can be renewed. */
  readonly renewal?: Renewal;
  /** Kills the processes that would outlive this one. */
  kill?(): void;
}

/**
 * Starts to listen.
 *
 * @param options The service as its code describes it.
 * @param settings Where and how to serve.
 * @param program What to start as a worker.
 * @returns The running server or workers.
 * @throws {StartError} If it cannot listen.
 * @throws {InputError} If a file of the certificate cannot be read.
 * @throws {TypeError | RangeError} If the options are a mistake of the program.
 */
export async function start(options: RunOptions, settings: ServiceSettings, program: WorkerProgram): Promise<Running> {
  const { hostname, port, path, mode, group, fd, proxyProtocolFrom, webOrigins, limits, tap, log, workers } = settings;
  const server = openServer({ ...serverOptionsOf(options), ...limits, ...log, webOrigins, tap }, denoServerNetwork);
  const fromFiles = await tlsOf(settings);
  const address = fd === undefined ? textOf({ hostname, port, path }) : `file descriptor ${fd}`;
  try {
    const renewal = await renewalOf(fromFiles ?? options.tls, log);
    const tls = renewal === undefined ? options.tls as ServerTls | undefined : () => renewal.current;
    if (workers > 1) {
      const task = { ...limits, ...log, tap, hostname, port, tls, proxyProtocolFrom, webOrigins };
      const started = await startWorkers(workers, task, program);
      renewal?.start((tls) => started.renew(tls));
      return Object.assign(started, { renewal });
    }
    const { reusePort } = options;
    const socket = fd === undefined ? { path, mode, group } : { fd };
    const place = (fd ?? path) === undefined ? { hostname, port, reusePort } : socket;
    const listener = await server.listen({ ...place, tls, proxyProtocolFrom });
    renewal?.start(() => server.renew());
    return Object.assign(server, { address: listener.address, workers, renewal });
  } catch (error) {
    if (error instanceof StartError) throw error;
    if (error instanceof Deno.errors.NotCapable) {
      // With TLS, a name and its address both need permission.
      const missing = error.message.match(/net access to "([^"]+)"/)?.[1] ?? address;
      const addresses = [...new Set([address, missing])].join(",");
      const needed = path === undefined ? `--allow-net=${addresses}` : permissionsToListen(absolute(path), group);
      throw new StartError(`no permission to listen on ${address}; ${withFlags(needed)}`);
    }
    throw new StartError(`cannot listen on ${address}: ${reasonOf(error, path)}`);
  }
}

/** The options of a server, without those for its listener and its program. */
export function serverOptionsOf(options: RunOptions): ServerOptions {
  return partOf<ServerOptions>(options, SERVER_OPTIONS);
}

/** The renewal of the certificates, if they come from a function, which can be called again. */
async function renewalOf(
  source: TlsSource<ServerTls> | undefined,
  log: ServiceSettings["log"],
): Promise<Renewal | undefined> {
  if (typeof source !== "function") return undefined;
  const first = await askServerTls(source, systemClock);
  const note = (message: string, event: RenewalEvent) => void logEvent({ event, message }, log);
  return new Renewal({ ask: source, first, clock: systemClock, note });
}

/** Starts workers, if the platform and the permissions allow it. Does not wait until they listen. */
async function startWorkers(
  count: number,
  task: Omit<WorkerTask, "tls"> & { readonly tls?: ServerTls | (() => ServerTls) },
  program: WorkerProgram,
): Promise<Running & { renew(tls: ServerTls): void }> {
  if (Deno.build.os !== "linux") {
    throw new StartError("cannot start workers: only Linux distributes the connections of a shared port");
  }
  if (Deno.build.standalone) {
    throw new StartError("cannot start workers: this server is compiled; start several behind a load balancer");
  }
  // Without the flag, sharing a port ends the process with an error of the runtime.
  if (!("listenDatagram" in Deno)) throw new StartError(`cannot share a port; ${withFlags("--unstable-net")}`);
  if (!isGranted({ name: "run", command: RUNTIME })) {
    throw new StartError(`no permission to start workers; ${withFlags(`--allow-run=${RUNTIME}`)}`);
  }
  // The resolved address, so that workers may listen on nothing else.
  const hostname = await resolveFree(plainHost(task.hostname), task.port);
  const { Workers } = await import("./workers.ts");
  const workers = new Workers({
    count,
    port: task.port,
    start(number, port, events) {
      const tls = typeof task.tls === "function" ? task.tls() : task.tls;
      return startProcess(number, { ...task, hostname, port, tls }, events, program);
    },
    clock: systemClock,
    note: (message, event, worker) => void logEvent({ event, message, worker }, task),
  });
  const listening = workers.start().catch((error: Error) => {
    throw new StartError(`cannot start workers: ${error.message}`);
  });
  return Object.assign(workers, { workers: count, listening });
}

/**
 * Finds the address of a name, and checks that this process may listen there and that no other server does: a shared
 * port would hide the other server. It does not listen itself, because clients that connect at that moment would be
 * lost.
 */
async function resolveFree(hostname: string, port: number): Promise<string> {
  if (port !== 0 && await isTaken(hostname, port)) throw new Deno.errors.AddrInUse();
  try {
    // Nobody connects to a UDP socket. It is bound like a TCP socket, and needs the same permission.
    const socket = (Deno as unknown as Datagrams).listenDatagram({
      hostname,
      port,
      transport: "udp",
      reuseAddress: true,
    });
    socket.close();
    return socket.addr.hostname;
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) return hostname; // by another service, over UDP
    throw error;
  }
}

/** The part of `--unstable-net` that is used here. */
interface Datagrams {
  listenDatagram(
    options: { hostname: string; port: number; transport: "udp"; reuseAddress: boolean },
  ): { addr: Deno.NetAddr; close(): void };
}

/** Whether a server listens at an address. */
async function isTaken(hostname: string, port: number): Promise<boolean> {
  const late = AbortSignal.timeout(TRIAL_MS);
  try {
    closeTransport(await dialAddress(denoNetwork, { hostname, port }, late));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
    return late.aborted; // a server that does not answer is full
  }
}

/** Why it cannot listen on an address, and what to do. */
function reasonOf(error: unknown, path: string | undefined): string {
  if (!(error instanceof Error)) return String(error);
  if (path === undefined) {
    return error instanceof Deno.errors.AddrInUse
      ? "the port is in use; choose another with --port, 0 for any that is free"
      : error.message.replace(/^Cannot listen on file descriptor \d+: /, "");
  }
  if (error instanceof Deno.errors.NotFound) return `there is no folder ${folderOf(path)}`;
  if (error instanceof Deno.errors.PermissionDenied) return `this user may not write in ${folderOf(path)}`;
  return error.message;
}

/** Returns a function that reads the certificate files, if there are any. Checks once now that they can be used. */
async function tlsOf(settings: ServiceSettings): Promise<(() => ServerTls) | undefined> {
  const { files, log } = settings;
  if (files.cert === undefined) return undefined;
  // The server starts anyway: some clients do not check, and others report it.
  const untimely = validityProblem(readTls(settings).cert);
  if (untimely !== undefined) {
    const message = `the certificate in ${files.cert} ${untimely}: clients that check it will not connect`;
    await logEvent({ event: "certificate", message }, log);
  }
  return () => readTls(settings);
}

function readTls({ files, nameOf }: ServiceSettings): ServerTls {
  const tls = readPem(files, ["cert", "key", "ca"], nameOf) as ServerTls;
  const problem = tlsProblem(tls);
  if (problem === undefined) return tls;
  const { cert, key, ca } = files;
  throw new StartError(`cannot use ${[cert, key, ca].filter(Boolean).join(", ")} for TLS: ${problem}`);
}

/** The folder of a socket's file. */
function folderOf(path: string): string {
  return absolute(path).replace(/\/[^/]*$/, "") || "/";
}

/** An absolute path, for permissions. */
function absolute(path: string): string {
  return path.startsWith("/") ? path : `${Deno.cwd()}/${path}`;
}
