/**
 * How a client gets a connection: one dial, over TCP, TLS or a unix socket, and how long to wait after one that failed.
 *
 * In: an address. Out: its transport. Refused: an address that cannot be reached, by a `CONNECTION_LOST` that says
 * what to do about it. A missing permission passes through as it is: it is the program's matter, not the network's.
 */

import { RpcError } from "../errors.ts";
import { withoutBrackets } from "./address.ts";
import type { Clock } from "./clock.ts";
import { isDenied } from "./runtime.ts";
import { addressText, socketTransport } from "./tcp.ts";
import { type ClientTls, reasonOf, tlsProblem } from "./tls.ts";
import { closeQuietly, closeTransport, type Transport } from "./transport.ts";

/** How long one dial may take. A host that drops packets would otherwise hold a caller for two minutes. */
const DIAL_TIMEOUT_MS = 10_000;

/** Where a server is, and how it is spoken to. */
export interface Address {
  /** The name or address. */
  readonly hostname: string;
  /** The port. */
  readonly port: number;
  /** A unix socket, in place of both. */
  readonly path?: string;
  /** Speaks TLS. */
  readonly tls?: ClientTls;
}

/**
 * Dials.
 *
 * @param address Where to.
 * @param signal Ends the attempt.
 * @returns The connection.
 * @throws {RpcError} `CONNECTION_LOST`, retryable: nothing has been sent.
 * @throws {Deno.errors.NotCapable} If the program may not do that.
 */
export async function dialAddress(address: Address, signal: AbortSignal): Promise<Transport> {
  const problem = address.tls && tlsProblem(address.tls);
  if (problem !== undefined) {
    throw new RpcError("CONNECTION_LOST", `cannot reach ${textOf(address)}: ${problem}`, { retryable: true });
  }
  try {
    return await open(address, signal);
  } catch (error) {
    if (isDenied(error)) throw error;
    throw unreachable(textOf(address), signal.aborted ? signal.reason : error);
  }
}

async function open({ port, path, tls, ...address }: Address, signal: AbortSignal): Promise<Transport> {
  const hostname = withoutBrackets(address.hostname);
  if (path !== undefined) return socketTransport(await Deno.connect({ transport: "unix", path }));
  if (tls === undefined) return socketTransport(await Deno.connect({ hostname, port, signal }));
  if (tls.cert !== undefined) {
    const { dialWithCertificate } = await import("./tls_socket.ts");
    return Object.assign(await dialWithCertificate({ hostname, port }, tls, signal));
  }
  // Not by `Deno.connectTls`: it leaves Nagle's algorithm on, by which a request waits for an earlier one to be acknowledged.
  const conn = await Deno.connect({ hostname, port, signal });
  conn.setNoDelay(true);
  const secured = await Deno.startTls(conn, { hostname, caCerts: tls.ca === undefined ? undefined : [tls.ca] });
  const abandon = () => closeQuietly(secured);
  signal.addEventListener("abort", abandon, { once: true });
  try {
    // Now, and not with the first call: what is wrong with a certificate is said here.
    await secured.handshake();
    return socketTransport(secured);
  } catch (error) {
    closeQuietly(secured);
    throw error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}

/** An address for people. */
export function textOf({ hostname, port, path }: Address): string {
  return addressText(
    path === undefined ? { transport: "tcp", hostname: withoutBrackets(hostname), port } : { transport: "unix", path },
  );
}

/** Makes a connection; the signal says that nobody wants it any more. */
export type Dial = (signal: AbortSignal) => Promise<Transport>;

/**
 * Dials, for so long and no longer, also where the dial knows nothing of signals.
 *
 * @param dial What makes the connection.
 * @param clock Whose time.
 * @param wanted Aborted when nobody wants the connection any more, or when it takes too long.
 * @returns The connection.
 */
export async function dialInTime(dial: Dial, clock: Clock, wanted: AbortController): Promise<Transport> {
  const timer = clock.setTimer(
    () => wanted.abort(new Error(`no answer within ${DIAL_TIMEOUT_MS} ms`)),
    DIAL_TIMEOUT_MS,
    true,
  );
  const { signal } = wanted;
  const { promise: unwanted, reject } = Promise.withResolvers<never>();
  signal.addEventListener("abort", () => reject(signal.reason), { once: true });
  // A dial that throws, and makes no promise, is one that failed all the same.
  const dialed = Promise.try(dial, signal);
  try {
    return checked(await Promise.race([dialed, unwanted]));
  } catch (error) {
    // What comes too late is closed.
    if (signal.aborted) dialed.then(checked).then(closeTransport).catch(ignore);
    throw error;
  } finally {
    clock.clearTimer(timer);
  }
}

/** A dial is a user's function, and may give anything. */
function checked(transport: Transport): Transport {
  if (typeof transport?.read === "function" && typeof transport.write === "function") return transport;
  throw new TypeError(
    "Cannot use what dial() gave: it must be a transport; fromStreams() makes one of a pair of streams",
  );
}

function ignore(): void {}

/** The error of a dial that failed. */
export function unreachable(address: string, cause: unknown): RpcError {
  const reason = cause instanceof Deno.errors.ConnectionRefused
    ? "connection refused; is the server running?"
    : cause instanceof Deno.errors.NotFound
    ? "there is no such socket; is the server running?"
    : reasonOf(cause);
  return new RpcError("CONNECTION_LOST", `cannot reach ${address}: ${reason}`, { retryable: true, cause });
}
