/**
 * The sockets of Deno, for a server: TCP and unix sockets.
 *
 * In: an address, or a path. Out: a source of connections. Refused: an address in use, by the runtime's error.
 */

import type { Acceptor } from "./acceptor.ts";
import { addressText } from "./address.ts";
import type { ServerNetwork } from "./listen.ts";
import { type SocketTransport, socketTransport } from "./deno_network.ts";
import { closeQuietly } from "./transport.ts";
import { listenUnix, type UnixSystem } from "./unix.ts";

const { chmod, chown, lstat, lstatSync, mkdir, readTextFile, remove, removeSync, rename } = Deno;

/** The files and unix sockets of Deno. */
export const denoUnix: UnixSystem<Deno.UnixConn> = {
  ...{ chmod, chown, lstat, lstatSync, mkdir, readTextFile, remove, removeSync, rename },
  listen: (path) => Deno.listen({ transport: "unix", path }),
  knock: async (path) => (await Deno.connect({ transport: "unix", path })).close(),
};

/** The sockets of Deno. */
export const denoServerNetwork: ServerNetwork = {
  listen(place) {
    checkReusePort(place);
    const listener = Deno.listen(place);
    return new SocketAcceptor(listener, listener.addr);
  },
  async listenUnix(path, access) {
    return new SocketAcceptor(await listenUnix(path, access, denoUnix), { transport: "unix", path });
  },
  // If the address is not allowed, Node's listener would throw outside the call. It also does not resolve names.
  hostOf(place) {
    checkReusePort(place);
    const first = Deno.listen(place);
    const { hostname } = first.addr;
    first.close();
    if (hostname !== place.hostname) Deno.listen({ ...place, hostname }).close();
    return hostname;
  },
};

/** Without the flag, the runtime ends the process. */
function checkReusePort({ reusePort }: { readonly reusePort: boolean }): void {
  if (!reusePort || "listenDatagram" in Deno) return;
  throw new TypeError("Cannot use reusePort: run the program with --unstable-net");
}

/** One of Deno's own listeners. */
type DenoListener = Pick<Acceptor, "hide" | "close"> & { accept(): Promise<Deno.Conn> };

/** Accepts Deno's own sockets. */
class SocketAcceptor implements Acceptor {
  readonly hostname: string;
  readonly port: number;
  readonly address: string;
  readonly handshakes = 0;
  readonly #listener: DenoListener;

  constructor(listener: DenoListener, addr: Deno.Addr) {
    this.#listener = listener;
    this.hostname = "path" in addr ? addr.path : "hostname" in addr ? addr.hostname : "";
    this.port = "port" in addr ? addr.port : 0;
    this.address = addressText(addr);
  }

  async accept(): Promise<SocketTransport> {
    const conn = await this.#listener.accept();
    try {
      return socketTransport(conn);
    } catch (error) {
      closeQuietly(conn);
      // The client left before its socket was set up. The listener still works.
      throw error instanceof Deno.errors.BadResource ? new Deno.errors.NotConnected(error.message) : error;
    }
  }

  hide(): void {
    this.#listener.hide?.();
  }

  close(): void {
    closeQuietly(this.#listener);
  }
}
