/**
 * The sockets of Deno, for a client: TCP, TLS and unix sockets.
 *
 * In: an address. Out: a transport. Refused: what cannot be reached, by the runtime's error.
 */

import type { CheckedAddress, Network } from "./dial.ts";
import { socketTransport } from "./tcp.ts";
import { closeQuietly, type Transport } from "./transport.ts";

/** The sockets of Deno. */
export const denoNetwork: Network = { open };

async function open({ hostname, port, path, tls }: CheckedAddress, signal: AbortSignal): Promise<Transport> {
  if (path !== undefined) return socketTransport(await Deno.connect({ transport: "unix", path }));
  if (tls === undefined) return socketTransport(await Deno.connect({ hostname, port, signal }));
  if (tls.cert !== undefined) {
    const { dialTls } = await import("./tls_socket.ts");
    return await dialTls({ hostname, port }, tls, signal);
  }
  // Not `Deno.connectTls`: it leaves Nagle's algorithm on, so requests wait for the acknowledgement of earlier ones.
  const conn = await Deno.connect({ hostname, port, signal });
  conn.setNoDelay(true);
  const secured = await Deno.startTls(conn, { hostname, caCerts: tls.ca === undefined ? undefined : [tls.ca] });
  const abandon = () => closeQuietly(secured);
  signal.addEventListener("abort", abandon, { once: true });
  try {
    // Shake hands now, so that a problem with a certificate is reported here and not by the first call.
    await secured.handshake();
    return socketTransport(secured);
  } catch (error) {
    closeQuietly(secured);
    throw error;
  } finally {
    signal.removeEventListener("abort", abandon);
  }
}
