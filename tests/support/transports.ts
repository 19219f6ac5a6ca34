/**
 * Runs a test over each transport of a server.
 *
 * In: a test. Out: the same test over TCP and TLS, and over a unix socket on request. TLS needs openssl, for a
 * certificate that each test file creates once.
 */

import type { ConnectOptions } from "../../client.ts";
import type { ClientTls } from "../../types.ts";
import type { ServeOptions } from "../../server.ts";
import { type Certificate, Certificates } from "../production/certificates.ts";
import { Folder, type Package, testWith } from "../production/programs.ts";

/** Where a server is, as a client's options say it. */
export type Address = Pick<ConnectOptions, "port" | "path" | "url"> & { tls?: ClientTls };

/** What a server listens with, and how it is reached; disposed with the server. */
export interface Place extends AsyncDisposable {
  readonly serve: Pick<ServeOptions, "port" | "path" | "tls" | "webOrigins">;
  readonly tls?: ClientTls;
  /** What a server's command line has for it, beside a port. */
  readonly args: readonly string[];
}

/** One way to a server. */
export interface Transport {
  readonly name: string;
  /** What it needs of this machine. */
  readonly packages: readonly Package[];
  /** A place for one server. */
  place(): Promise<Place>;
}

/** A certificate for this machine, its key, and the authority that has signed it. */
export interface TestTls extends Certificate {
  readonly ca: string;
}

let testTls: Promise<TestTls> | undefined;

/** Makes a certificate the first time it is asked for. Its files are there until the process ends. */
export function makeTestTls(): Promise<TestTls> {
  return testTls ??= (async () => {
    const certificates = await Certificates.begin();
    addEventListener("unload", () => Deno.removeSync(certificates.folder, { recursive: true }));
    const authority = await certificates.selfSigned({ subject: "/CN=authority" });
    return { ...await certificates.signedBy(authority), ca: authority.cert };
  })();
}

async function nothing(): Promise<void> {}

/** Bytes as they are. */
export const TCP: Transport = {
  name: "TCP",
  packages: [],
  place: () => Promise.resolve({ serve: { port: 0 }, args: [], [Symbol.asyncDispose]: nothing }),
};

/** Encrypted. */
export const TLS: Transport = {
  name: "TLS",
  packages: ["openssl"],
  async place() {
    const { cert, key, certPath, keyPath, ca } = await makeTestTls();
    return {
      serve: { port: 0, tls: { cert, key } },
      tls: { ca },
      args: ["--cert", certPath, "--key", keyPath],
      [Symbol.asyncDispose]: nothing,
    };
  },
};

/** A socket in a folder of its own. */
export const UNIX: Transport = {
  name: "unix",
  packages: [],
  async place() {
    const folder = await Folder.make();
    const path = `${folder.path}/socket`;
    return { serve: { path }, args: ["--unix", path], [Symbol.asyncDispose]: () => folder[Symbol.asyncDispose]() };
  },
};

/** A WebSocket on the port of one of these. */
function webSocketOver(below: Transport): Transport {
  return {
    name: `WebSocket over ${below.name}`,
    packages: below.packages,
    async place() {
      const { serve, args, ...place } = await below.place();
      return { ...place, serve: { ...serve, webOrigins: [] }, args: [...args, "--web-origin", "https://app.example"] };
    },
  };
}

/** The framing of RFC 6455. */
export const WEB_SOCKET: Transport = webSocketOver(TCP);

/** The same, encrypted. */
export const SECURE_WEB_SOCKET: Transport = webSocketOver(TLS);

/** Where a client finds a server in a place, by its port. */
export function addressIn({ serve: { path, webOrigins }, tls }: Place, port: number): Address {
  if (webOrigins !== undefined) return { url: `${tls ? "wss" : "ws"}://127.0.0.1:${port}/`, tls };
  return path === undefined ? { port, tls } : { path };
}

/**
 * A test over each of some transports.
 *
 * @param name What holds.
 * @param run The test, which hands the transport to `withServer()`.
 * @param transports TCP, TLS and WebSocket, unless others are named.
 */
export function overEach(
  name: string,
  run: (transport: Transport) => Promise<void>,
  transports: readonly Transport[] = [TCP, TLS, WEB_SOCKET],
): void {
  for (const transport of transports) {
    testWith(transport.packages, `${name} (${transport.name})`, () => run(transport));
  }
}
