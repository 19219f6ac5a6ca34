/**
 * Accepts connections behind proxies: one of a named proxy begins with a header of the PROXY protocol, which says who is
 * behind it. Others are given on as they come.
 *
 * In: an acceptor of sockets. Out: the same connections, with the client's address as their peer. Refused, and reported:
 * a connection of a named proxy without a whole and valid header within the time.
 */

import type { Acceptor, Refusal } from "./acceptor.ts";
import type { Clock } from "./clock.ts";
import { headerIsLate, Proxies, ProxyHeaderError, readProxyHeader } from "./proxy_header.ts";
import { closeTransport, type Transport } from "./transport.ts";

/** A transport of a socket. */
export interface AddressedTransport extends Transport {
  readonly peer: string;
  /** The address at the other end of the socket; `undefined` on a unix socket. */
  readonly remoteHostname: string | undefined;
}

/** An acceptor of sockets, whose peers are known by address. */
export interface SocketSource extends Acceptor {
  accept(): Promise<AddressedTransport>;
}

/** Options of the acceptor. */
export interface ProxyOptions {
  /** The proxies whose header counts. */
  readonly proxyProtocolFrom: readonly string[];
  /** The time limit of a header. */
  readonly handshakeTimeoutMs: number;
  /** The largest number of connections whose header is not whole. One more ends the oldest. */
  readonly maxConnections: number;
  readonly clock: Clock;
  /** Told why a connection is refused. */
  onRefused(refusal: Refusal): void;
}

/** Accepts the connections whose header is whole. */
export class ProxyAcceptor implements Acceptor {
  readonly #source: SocketSource;
  readonly #proxies: Proxies;
  readonly #options: ProxyOptions;
  /** Connections whose header is not whole, the oldest first, each with what ends it. */
  readonly #unread = new Map<Transport, (reason: string) => void>();
  readonly #ready: Transport[] = [];
  /** The next connection of the source; only one is asked for at a time. */
  #next: Promise<void> | undefined;
  #onReady = () => {};
  #closed = false;

  constructor(source: SocketSource, options: ProxyOptions) {
    this.#source = source;
    this.#options = options;
    this.#proxies = new Proxies(options.proxyProtocolFrom);
  }

  get hostname(): string {
    return this.#source.hostname;
  }

  get port(): number {
    return this.#source.port;
  }

  get address(): string {
    return this.#source.address;
  }

  get handshakes(): number {
    return this.#unread.size;
  }

  async accept(): Promise<Transport> {
    while (true) {
      const ready = this.#ready.shift();
      if (ready !== undefined) return ready;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#onReady = resolve;
      await Promise.race([promise, this.#next ??= this.#takeNext()]);
    }
  }

  hide(): void {
    this.#source.hide?.();
  }

  close(): void {
    this.#closed = true;
    this.#source.close();
    for (const end of this.#unread.values()) end("the server has ended");
    for (const transport of this.#ready) closeTransport(transport);
  }

  #takeNext(): Promise<void> {
    const next = this.#source.accept().then((transport) => {
      if (this.#proxies.has(transport.remoteHostname)) void this.#readHeader(transport);
      else this.#ready.push(transport);
    }).finally(() => this.#next = undefined);
    next.catch(() => {}); // if nobody waits just now, the next `accept()` meets the same error
    return next;
  }

  async #readHeader(transport: AddressedTransport): Promise<void> {
    const { clock, handshakeTimeoutMs, maxConnections, onRefused } = this.#options;
    const [oldest] = this.#unread.values();
    if (this.#unread.size >= maxConnections) oldest("too many connections of proxies wait for theirs");
    const ended = Promise.withResolvers<never>();
    const end = (reason: string) => ended.reject(new ProxyHeaderError(reason));
    const timer = clock.setTimer(() => end(headerIsLate(handshakeTimeoutMs)), handshakeTimeoutMs, false);
    this.#unread.set(transport, end);
    try {
      const client = await Promise.race([readProxyHeader(transport), ended.promise]);
      if (client === null) closeTransport(transport);
      else this.#ready.push(client === undefined ? transport : Object.assign(transport, { peer: client }));
      this.#onReady();
    } catch (error) {
      closeTransport(transport);
      // Any other error means that it has left.
      if (this.#closed || !(error instanceof ProxyHeaderError)) return;
      onRefused({ event: "proxy_header", reason: error.message, peer: transport.peer });
    } finally {
      clock.clearTimer(timer);
      this.#unread.delete(transport);
    }
  }
}
