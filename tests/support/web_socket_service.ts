/** A service that is called over WebSockets in every way; and what a browser sends, in the hand of a test. */

import { assertEquals, assertMatch, assertRejects } from "@std/assert";
import { type Client, command, RpcError, unchecked } from "../../mod.ts";
import { demoCommands } from "../../cli/demo_commands.ts";
import { settle } from "./peers.ts";

/** The origin that may. */
export const PAGE = "https://app.example";
/** The mask of frames that a test writes. */
export const MASK = Uint8Array.of(1, 2, 3, 4);
export const MIB = 1024 * 1024;

/** The request of a browser. */
export function upgradeOf(headers: Partial<Record<string, string>> = {}): string {
  const all = {
    Host: "127.0.0.1",
    Upgrade: "websocket",
    Connection: "Upgrade",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
    ...headers,
  };
  return `GET /rpc HTTP/1.1\r\n${Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
}

/** A socket in the hand of a test. */
export class Raw implements Disposable {
  #received = new Uint8Array(0);

  private constructor(readonly conn: Deno.TcpConn) {}

  static async connect(port: number): Promise<Raw> {
    return new Raw(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  async send(what: string | Uint8Array): Promise<void> {
    const bytes = typeof what === "string" ? new TextEncoder().encode(what) : what;
    for (let at = 0; at < bytes.length;) at += await this.conn.write(bytes.subarray(at));
  }

  /** What comes up to the end. */
  async readToEnd(): Promise<Uint8Array> {
    while (await this.#readMore().catch(() => false));
    return this.#received.slice();
  }

  /** The next bytes, as text. */
  async readText(bytes: number): Promise<string> {
    while (this.#received.length < bytes && await this.#readMore());
    return new TextDecoder().decode(this.#received.subarray(0, bytes));
  }

  /** The head of an answer of HTTP; what comes behind it is kept. */
  async readHead(): Promise<string> {
    while (true) {
      const text = new TextDecoder("latin1").decode(this.#received);
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0) {
        this.#received = this.#received.slice(end + 4);
        return text.slice(0, end);
      }
      if (!await this.#readMore()) return `ended after: ${text}`;
    }
  }

  async #readMore(): Promise<boolean> {
    const buffer = new Uint8Array(4096);
    const bytes = await this.conn.read(buffer);
    this.#received = new Uint8Array([...this.#received, ...buffer.subarray(0, bytes ?? 0)]);
    return bytes !== null;
  }

  [Symbol.dispose](): void {
    this.conn.close();
  }
}

/** The status of the answer to a request, and the whole answer. */
export async function answerTo(port: number, request: string): Promise<{ status: number; text: string }> {
  using raw = await Raw.connect(port);
  await raw.send(request);
  const head = await raw.readHead();
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  const bodyBytes = Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
  return { status, text: `${head}\n${await raw.readText(bodyBytes)}` };
}

let waiting = 0;
const finished: string[] = [];

/** The service. */
export const commands = {
  ...demoCommands,
  WHO: command((_params: object, { peer, connection: { headers } }) => ({
    peer,
    cookie: headers?.get("cookie") ?? null,
    origin: headers?.get("origin") ?? null,
  })),
  COUNT: command(async function* ({ to }: { to: number }) {
    try {
      for (let number = 1; number <= to; number++) yield number;
    } finally {
      finished.push("COUNT");
    }
  }),
  WAIT: command(async (_params: object, { signal }) => {
    waiting++;
    await new Promise((resolve) => signal.addEventListener("abort", resolve));
    finished.push("WAIT");
  }),
  SUM: command({
    items: unchecked<Uint8Array>(),
    async handler(_params: object, { items }) {
      let bytes = 0;
      for await (const item of items) bytes += item.length;
      return bytes;
    },
  }),
};

/** Everything that a client does. */
export async function useAll(client: Client<typeof commands>): Promise<void> {
  waiting = finished.length = 0;
  assertEquals(await client.call.PING(), "PONG");
  const large = Uint8Array.from({ length: 900_000 }, (_, at) => at * 7 + (at >> 9));
  assertEquals(await client.call.ECHO({ data: large }), large);
  let last = 0;
  for await (const number of client.stream.COUNT({ to: 1_000_000 })) if ((last = number) === 2_000) break;
  assertEquals(last, 2_000);
  const cancel = new AbortController();
  const cancelled = assertRejects(() => client.call.WAIT({}, { signal: cancel.signal }));
  while (waiting === 0) await settle(1);
  cancel.abort();
  await cancelled;
  const late = await assertRejects(() => client.call.WAIT({}, { timeoutMs: 200 }), RpcError);
  assertMatch((late as RpcError).code, /^(TIMEOUT|DEADLINE_EXCEEDED)$/);
  const items = Array.from({ length: 64 }, () => new Uint8Array(64 * 1024));
  assertEquals(await client.call.SUM({}, { items }), 4 * MIB);
  const pongs = await Promise.all(Array.from({ length: 500 }, () => client.call.PING()));
  assertEquals(pongs.length, 500);
  while (finished.length < 3) await settle(1);
  assertEquals(finished.toSorted(), ["COUNT", "WAIT", "WAIT"]);
}
