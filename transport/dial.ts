/**
 * Connects a client to a server, with a time limit, over the sockets of the runtime.
 *
 * In: an address, and the {@linkcode Network} of the runtime. Out: a transport. Refused: an address that cannot be reached, by a `CONNECTION_LOST` that says what
 * to do. A missing permission is thrown unchanged, because it is the program's mistake and not a network failure.
 */

import { RpcError } from "../errors.ts";
import { addressText, type ServerPlace, withoutBrackets } from "./address.ts";
import type { Clock } from "./clock.ts";
import { isDenied, isNamed } from "./runtime.ts";
import { askTls, type ClientTls, reasonOf, type TlsSource } from "./tls.ts";
import { closeTransport, type Transport } from "./transport.ts";

/** The time limit of one dial. Without it, a host that drops packets would block a caller for two minutes. */
const DIAL_TIMEOUT_MS = 10_000;

/** The address of a server, and whether to use TLS. */
export interface Address extends ServerPlace {
  /** Uses TLS. With a URL, its scheme decides on that, and these are its options. */
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
   * @returns The connection; of TLS, its handshake done.
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
    const hostname = withoutBrackets(address.hostname);
    const tls = given.tls ? await askTls(given.tls) : url?.startsWith("wss:") ? {} : undefined;
    signal.throwIfAborted();
    if (url === undefined) return await network.open({ hostname, port, path, tls }, signal);
    // Loaded only if needed. Not the runtime's own WebSocket, which in Deno leaves Nagle's algorithm on: a request waits up to
    // 40 ms for an earlier one's acknowledgement.
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
    path === undefined ? { transport: "tcp", hostname: withoutBrackets(hostname), port } : { transport: "unix", path },
  );
}

/** Makes a connection; the signal aborts when the connection is no longer needed. */
export type Dial = (signal: AbortSignal) => Promise<Transport>;

/**
 * Dials with a time limit, even if `dial` ignores its signal.
 *
 * @param dial Makes the connection.
 * @param clock The clock.
 * @param wanted Aborted when the connection is no longer needed or takes too long.
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
  // A `dial` that throws synchronously counts as a failed dial.
  const dialed = (async () => await dial(signal))();
  try {
    return checked(await Promise.race([dialed, unwanted]));
  } catch (error) {
    // Close a connection that comes too late.
    if (signal.aborted) dialed.then(checked).then(closeTransport).catch(ignore);
    throw error;
  } finally {
    clock.clearTimer(timer);
  }
}

/** Checks the result of `dial`, which may be a user's function. */
function checked(transport: Transport): Transport {
  if (typeof transport?.read === "function" && typeof transport.write === "function") return transport;
  throw new TypeError(
    "Cannot use the result of dial(): it must be a transport; fromStreams() makes one from a pair of streams",
  );
}

function ignore(): void {}

/** The error for a failed dial. */
export function unreachable(address: string, cause: unknown): RpcError {
  const reason = isNamed(cause, "ConnectionRefused")
    ? "connection refused; is the server running?"
    : isNamed(cause, "NotFound")
    ? "there is no such socket; is the server running?"
    : reasonOf(cause);
  return new RpcError("CONNECTION_LOST", `cannot reach ${address}: ${reason}`, { retryable: true, cause });
}
