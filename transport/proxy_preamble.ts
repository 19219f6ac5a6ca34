/**
 * The preamble of a connection from a named proxy: it sends the client's address in a header of the PROXY protocol.
 * Other connections have no preamble.
 *
 * In: a socket. Out: the same socket, with the client's address as its peer. Refused: a header that is not complete and
 * valid in time.
 */

import { headerIsLate, Proxies, ProxyHeaderError, readProxyHeader } from "./proxy_header.ts";
import type { Preamble, PreambleEnd } from "./preamble_acceptor.ts";
import type { Transport } from "./transport.ts";

/** A transport of a socket. */
export interface AddressedTransport extends Transport {
  readonly peer: string;
  /** The address at the other end of the socket; `undefined` on a unix socket. */
  readonly remoteHostname: string | undefined;
}

/** Reads the headers of proxies. */
export class ProxyPreamble implements Preamble<AddressedTransport> {
  readonly event = "proxy_header";
  readonly #proxies: Proxies;
  readonly #reasons: Readonly<Record<PreambleEnd, string>>;

  /**
   * @param named The proxies whose headers are trusted.
   * @param timeoutMs The time limit of a header.
   */
  constructor(named: readonly string[], timeoutMs: number) {
    this.#proxies = new Proxies(named);
    this.#reasons = {
      late: headerIsLate(timeoutMs),
      crowded: "too many connections of proxies wait for theirs",
      closed: "the server has ended",
    };
  }

  run(transport: AddressedTransport, ended: Promise<PreambleEnd>): Promise<Transport | null> | undefined {
    return this.#proxies.has(transport.remoteHostname) ? this.#read(transport, ended) : undefined;
  }

  async #read(transport: AddressedTransport, ended: Promise<PreambleEnd>): Promise<Transport | null> {
    const inTime = ended.then((why) => Promise.reject(new ProxyHeaderError(this.#reasons[why])));
    const client = await Promise.race([readProxyHeader(transport), inTime]);
    if (client === null) return null;
    return client === undefined ? transport : Object.assign(transport, { peer: client });
  }
}
