/** Servers with certificates of their own, for tests of TLS. */

import { assertRejects } from "@std/assert";
import { connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import type { ServerTls } from "../../types.ts";
import { concat } from "../support/wire.ts";
import { type Certificate, Certificates } from "./certificates.ts";
import { testWith } from "./programs.ts";

export const PONG = { res: "PONG" };

/** Two authorities, a server that one of them vouches for, and a client. */
export class World implements AsyncDisposable {
  private constructor(
    readonly certificates: Certificates,
    readonly authority: Certificate,
    readonly stranger: Certificate,
    readonly server: Certificate,
    readonly ada: Certificate,
  ) {}

  static async begin(): Promise<World> {
    const certificates = await Certificates.begin();
    const [authority, stranger] = await Promise.all([
      certificates.selfSigned({ subject: "/CN=authority" }),
      certificates.selfSigned({ subject: "/CN=stranger" }),
    ]);
    const [server, ada] = await Promise.all([
      certificates.signedBy(authority),
      certificates.signedBy(authority, { subject: "/O=Analytical/CN=ada" }),
    ]);
    return new World(certificates, authority, stranger, server, ada);
  }

  /** What a server is given: its certificate, and for mutual TLS the authority. */
  serverTls(mutual: boolean): ServerTls {
    const { cert, key } = this.server;
    return mutual ? { cert, key, ca: this.authority.cert } : { cert, key };
  }

  /** A client that trusts the authority, and shows its own certificate if it is to. */
  client(port: number, mutual: boolean, options: ConnectOptions = {}): ConnectOptions {
    const ca = this.authority.cert;
    return {
      port,
      tls: mutual ? { ca, cert: this.ada.cert, key: this.ada.key } : { ca },
      timeoutMs: 5_000,
      ...options,
    };
  }

  /** A socket of the runtime's own, that speaks TLS and nothing else. */
  raw(port: number, mutual: boolean): Promise<Deno.TlsConn> {
    const { cert, key } = this.ada;
    const caCerts = [this.authority.cert];
    return Deno.connectTls({ hostname: "127.0.0.1", port, caCerts, ...(mutual ? { cert, key } : {}) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.certificates[Symbol.asyncDispose]();
  }
}

export function tlsTest(name: string, run: (world: World) => Promise<void>): void {
  testWith(["openssl"], name, async () => {
    await using world = await World.begin();
    await run(world);
  });
}

/** A test over TLS, and again over mutual TLS. */
export function bothWays(name: string, run: (world: World, mutual: boolean) => Promise<void>): void {
  for (const mutual of [false, true]) {
    tlsTest(`${mutual ? "mutual TLS" : "TLS"}: ${name}`, (world) => run(world, mutual));
  }
}

/** What a call fails with, be it for want of a connection. */
export async function failure(options: ConnectOptions): Promise<string> {
  const error = await assertRejects(async () => {
    await using client = await connect(options);
    await client.reply("PING");
  }, RpcError);
  return error.message;
}

export async function readAll(conn: Deno.Conn): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(64 * 1024);
  for (let size = await conn.read(buffer); size !== null; size = await conn.read(buffer)) {
    chunks.push(buffer.slice(0, size));
  }
  return concat(...chunks);
}
