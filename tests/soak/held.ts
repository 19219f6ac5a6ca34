/**
 * Connections that are held and hardly used, as pools hold them: each is asked now and then, and must answer to the end.
 */

import { message } from "../support/wire.ts";

const PING = message({ cmd: 1 });
const PONG = message({ res: "PONG" });

/** Each is asked within this time; a server closes what is silent for 5 minutes. */
const ROUND_MS = 120_000;

/** Connections that are opened at a time. */
const AT_A_TIME = 100;

/** Many connections. */
export class HeldConnections implements Disposable {
  readonly #conns: Deno.Conn[] = [];
  #next = 0;
  #askedMs = performance.now();

  static async open(port: number, count: number): Promise<HeldConnections> {
    const held = new HeldConnections();
    while (held.#conns.length < count) {
      const dials = Array.from(
        { length: Math.min(AT_A_TIME, count - held.#conns.length) },
        () => Deno.connect({ hostname: "127.0.0.1", port }),
      );
      held.#conns.push(...await Promise.all(dials));
    }
    await held.askAll();
    return held;
  }

  get size(): number {
    return this.#conns.length;
  }

  /** Asks those whose turn has come since the last time. */
  async askSome(): Promise<void> {
    const nowMs = performance.now();
    const due = Math.min(this.size, Math.ceil(this.size * (nowMs - this.#askedMs) / ROUND_MS));
    this.#askedMs = nowMs;
    for (let asked = 0; asked < due; asked++) await ask(this.#conns[this.#next++ % this.size]);
  }

  /** Asks every one. */
  async askAll(): Promise<void> {
    for (const conn of this.#conns) await ask(conn);
  }

  [Symbol.dispose](): void {
    for (const conn of this.#conns) conn.close();
  }
}

async function ask(conn: Deno.Conn): Promise<void> {
  await conn.write(PING);
  const reply = new Uint8Array(PONG.length);
  for (let at = 0; at < reply.length;) {
    const size = await conn.read(reply.subarray(at));
    if (size === null) throw new Error("a connection that was held is lost");
    at += size;
  }
  if (reply.some((byte, index) => byte !== PONG[index])) {
    throw new Error("a connection that was held got another reply");
  }
}
