/**
 * Servers that are wrong, each in one way: a right server, and a proxy before it that changes what goes through.
 *
 * In: the right server's port, a mistake. Out: a server with that mistake. Refused: nothing.
 */

import { decode, encode, join } from "./msgpack.ts";
import { frame, header, longHeader, MAX_SHORT_BYTES, type Message } from "./wire.ts";

/** What a proxy sends on: messages, or bytes as they are. */
type Sent = Message | Uint8Array;

/** One connection through the proxy. */
interface Session {
  toClient(...sent: Sent[]): void;
  toServer(...sent: Sent[]): void;
  close(): void;
  /** What a mistake remembers. */
  memory: Map<unknown, number>;
}

/** One way to be wrong. */
interface Mistake {
  /** The check that must notice it. */
  noticedBy: [heading: string, name: string];
  onConnect?(session: Session): void;
  /** What becomes of a message to the server. */
  request?(message: Message, session: Session): Sent[];
  /** What becomes of a message to the client. */
  reply?(message: Message, session: Session): Sent[];
  /** What becomes of bytes of the client that are no frame. */
  broken?(bytes: Uint8Array, session: Session): void;
  /** The client has ended its half. */
  onEnd?(session: Session): void;
}

/** A message less a field. */
function without(message: Message, field: string): Message {
  const { [field]: _, ...rest } = message;
  return rest;
}

/** The mistakes, by what such a server does. */
export const SERVER_MISTAKES: Record<string, Mistake> = {
  "answers without `seq`": {
    noticedBy: ["Order", "`seq` 1 comes back"],
    reply: (message) => [without(message, "seq")],
  },
  "answers twice": {
    noticedBy: ["PING (1)", "by its number"],
    reply: (message) => [message, message],
  },
  "answers nothing": {
    noticedBy: ["PING (1)", "by its number"],
    reply: () => [],
  },
  "reads lines": {
    noticedBy: ["The frame", "a newline in a payload: 10"],
    request(message, session) {
      if (encode(message).includes(0x0a)) session.close();
      return [message];
    },
  },
  "ends frames with a carriage return": {
    noticedBy: ["The wire on one page", "the first message on a connection, byte for byte"],
    reply: (message) => [frame(encode(message)).with(-1, 0x0d)],
  },
  "does not wrap the header": {
    noticedBy: ["The frame", "a payload of 255 bytes"],
    reply(message) {
      const payload = encode(message);
      if (payload.length < 224) return [message];
      return [join(Uint8Array.of((payload.length >> 8) + 32, 255), payload, Uint8Array.of(0x0a))];
    },
  },
  "sends short payloads in long frames": {
    noticedBy: ["The frame", "a payload of 256 bytes"],
    reply(message) {
      const payload = encode(message);
      return [join(longHeader(payload.length), payload, Uint8Array.of(0x0a))];
    },
  },
  "sends long frames unasked": {
    noticedBy: ["Long frames", "a long reply that the client has not asked for"],
    onConnect: (session) => session.toServer({ cmd: 0, max: 1_048_576 }),
  },
  "goes on behind a broken frame": {
    noticedBy: ["Broken frames", "nothing behind a broken frame is run"],
    broken(_bytes, session) {
      session.toServer({ cmd: 1 });
    },
  },
  "closes without BAD_FRAME": {
    noticedBy: ["Broken frames", "57,311 bytes in a short frame"],
    reply: (message) => message.err === "BAD_FRAME" ? [] : [message],
  },
  "says INVALID_MESSAGE for an unknown command": {
    noticedBy: ["Requests", "small letters"],
    reply: (message) => [message.err === "CMD_NOT_FOUND" ? { ...message, err: "INVALID_MESSAGE" } : message],
  },
  "says a result beside a failure": {
    noticedBy: ["The wire on one page", "a failure that has a code alone"],
    reply: (message) => ["err" in message ? { ...message, res: null } : message],
  },
  "greets": {
    noticedBy: ["Roles and transport", "the server says nothing before it is asked"],
    onConnect: (session) => session.toClient({ hello: 1 }),
  },
  "answers numbers as texts": {
    noticedBy: ["Values", "1 as uint64"],
    reply: (message) => [typeof message.res === "number" ? { ...message, res: String(message.res) } : message],
  },
  "runs the queue side by side": {
    noticedBy: ["Order", "the second waits for the first"],
    request(message, { memory }) {
      if (message.cmd === 0 || "seq" in message) return [message];
      memory.set("seq", (memory.get("seq") ?? 1_000) + 1);
      return [{ ...message, seq: memory.get("seq") }];
    },
    reply: (message) => [(message.seq as number) > 1_000 ? without(message, "seq") : message],
  },
  "ends all at the client's end": {
    noticedBy: ["The end of a connection", "what takes its time is answered behind the end"],
    onEnd: (session) => session.close(),
  },
  "answers control messages that it does not know": {
    noticedBy: ["control (0)", "a field that the server does not know"],
    request(message, session) {
      if ("later" in message) session.toClient({ err: "INVALID_MESSAGE" });
      return [message];
    },
  },
  "refuses `meta`": {
    noticedBy: ["Meta", "a token"],
    request: (message) => ["meta" in message ? { ...message, meta: 1 } : message],
  },
  "takes a `seq` in flight": {
    noticedBy: ["Order", "a `seq` in flight is refused, and its call is not harmed"],
    reply: (message) => [message.err === "INVALID_MESSAGE" ? { seq: 1, res: "PONG" } : message],
  },
  "ignores cancels": {
    noticedBy: ["Cancel", "a call in flight"],
    request: (message) => message.cancel === true ? [] : [message],
  },
  "ignores `ttl`": {
    noticedBy: ["Deadlines", "a call with `seq` runs out of time"],
    request: (message) => [without(message, "ttl")],
  },
  "ignores credit": {
    noticedBy: ["Streams and credit", "no more credit can come: the client has ended its half"],
    request: (message) => message.cmd === 0 && "credit" in message ? [] : [without(message, "credit")],
  },
  "does not end its streams": {
    noticedBy: ["Streams and credit", "two items and the end"],
    reply: (message) => [typeof message.res === "number" ? { ...message, more: true } : message],
  },
  "never grants": {
    noticedBy: ["Streams from the caller", "two items"],
    reply: (message) => "credit" in message ? [] : [message],
  },
  "takes half a stream for a whole one": {
    noticedBy: ["Streams from the caller", "a cancel breaks the stream off"],
    request: (message) => [message.cancel === true ? { cmd: 0, seq: message.seq, end: true } : message],
  },
  "takes items beyond the credit": {
    noticedBy: ["Streams from the caller", "an item beyond the credit fails the call"],
    request(message, { memory }) {
      if (!("item" in message)) return [message];
      memory.set("items", (memory.get("items") ?? 0) + 1);
      return memory.get("items")! > 1 ? [] : [message];
    },
  },
  "forgets `alive`": {
    noticedBy: ["Signs of life", "after `alive`, the end of the client's half ends its calls without an answer"],
    request: (message) => "alive" in message ? [] : [message],
  },
};

/** The mistakes that show at a shutdown. */
export const SHUTDOWN_MISTAKES: Record<string, Mistake> = {
  "does not say `going`": {
    noticedBy: ["Going", "a client that asked is told, and served until it closes"],
    reply: (message) => "going" in message ? [] : [message],
  },
  "says `going` to all": {
    noticedBy: ["Going", "a client that did not ask and says nothing is closed without a word"],
    onConnect: (session) => session.toServer({ cmd: 0, notice: true }),
  },
};

/** Cuts bytes into payloads, until they are no frames any more. */
class Cutter {
  #held: Uint8Array = new Uint8Array(0);
  #isBroken = false;

  /** Whole payloads, and the bytes from a broken frame on. */
  take(bytes: Uint8Array): { payloads: Uint8Array[]; broken: Uint8Array | undefined } {
    if (this.#isBroken) return { payloads: [], broken: bytes };
    this.#held = join(this.#held, bytes);
    const payloads: Uint8Array[] = [];
    while (this.#held.length >= 2) {
      let size = (this.#held[0] - 32 & 255) << 8 | (this.#held[1] - 32 & 255), start = 2;
      if (size === 0xffff) {
        if (this.#held.length < 6) break;
        start = 6;
        size = new DataView(this.#held.buffer, this.#held.byteOffset).getUint32(2);
      } else if (size > MAX_SHORT_BYTES) return this.#break(payloads);
      if (size > 2 ** 20 || size <= MAX_SHORT_BYTES && start === 6) return this.#break(payloads);
      if (this.#held.length <= start + size) break;
      if (this.#held[start + size] !== 0x0a) return this.#break(payloads);
      payloads.push(this.#held.slice(start, start + size));
      this.#held = this.#held.slice(start + size + 1);
    }
    return { payloads, broken: undefined };
  }

  /** Bytes of a frame that has not come whole. */
  get rest(): Uint8Array {
    return this.#held;
  }

  #break(payloads: Uint8Array[]) {
    this.#isBroken = true;
    const broken = this.#held;
    this.#held = new Uint8Array(0);
    return { payloads, broken };
  }
}

/** A server with a mistake; without one, it is right. */
export class WrongServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #mistake: Partial<Mistake>;
  readonly #rightPort: number;
  readonly #conns: Deno.TcpConn[] = [];
  readonly #running: Promise<void>[] = [];

  constructor(rightPort: number, mistake: Partial<Mistake>) {
    this.#rightPort = rightPort;
    this.#mistake = mistake;
    this.#running.push(this.#accept());
  }

  get place(): { hostname: string; port: number } {
    return { hostname: "127.0.0.1", port: this.#listener.addr.port };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const conn of this.#conns) close(conn);
    await Promise.all(this.#running);
  }

  async #accept(): Promise<void> {
    while (true) {
      const client = await this.#listener.accept().catch(() => undefined);
      if (client === undefined) return;
      this.#running.push(this.#serve(client));
    }
  }

  async #serve(client: Deno.TcpConn): Promise<void> {
    const server = await Deno.connect({ hostname: "127.0.0.1", port: this.#rightPort });
    this.#conns.push(client, server);
    for (const conn of [client, server]) conn.setNoDelay(true);
    const outputs = new Map([client, server].map((conn) => [conn, Promise.resolve()]));
    const write = (conn: Deno.TcpConn, ...sent: Sent[]) => {
      const bytes = join(...sent.map((one) => one instanceof Uint8Array ? one : frame(encode(one))));
      outputs.set(conn, outputs.get(conn)!.then(() => writeAll(conn, bytes)).catch(() => {}));
    };
    const session: Session = {
      toClient: (...sent) => write(client, ...sent),
      toServer: (...sent) => write(server, ...sent),
      close: () => [client, server].forEach(close),
      memory: new Map(),
    };
    this.#mistake.onConnect?.(session);
    const { request, reply, broken, onEnd } = this.#mistake;
    await Promise.all([
      pump(client, session.toServer, (message) => request?.(message, session) ?? [message], async () => {
        onEnd?.(session);
        await outputs.get(server);
        await server.closeWrite().catch(() => {});
      }, broken && ((bytes) => broken(bytes, session))),
      pump(server, session.toClient, (message) => reply?.(message, session) ?? [message], async () => {
        await outputs.get(client);
        await client.closeWrite().catch(() => {});
      }),
    ]);
    await Promise.all(outputs.values());
    session.close();
  }
}

/** Passes on what comes, until the end. */
async function pump(
  conn: Deno.TcpConn,
  send: (...sent: Sent[]) => void,
  change: (message: Message) => Sent[],
  onEnd: () => Promise<void>,
  onBroken?: (bytes: Uint8Array) => void,
): Promise<void> {
  const cutter = new Cutter();
  const buffer = new Uint8Array(65_536);
  for (let size; (size = await conn.read(buffer).catch(() => null)) !== null;) {
    const { payloads, broken } = cutter.take(buffer.slice(0, size));
    for (const payload of payloads) send(...changed(payload, change));
    if (broken) onBroken ? onBroken(broken) : send(broken);
  }
  send(cutter.rest);
  await onEnd();
}

/** What becomes of a payload; one that is no message goes on as it is. */
function changed(payload: Uint8Array, change: (message: Message) => Sent[]): Sent[] {
  let message: unknown;
  try {
    message = decode(payload);
  } catch {
    // A message that is wrong on purpose.
  }
  const isMap = typeof message === "object" && message !== null && !Array.isArray(message);
  const sent = isMap ? change(message as Message) : [];
  // What nobody has changed goes on byte for byte.
  return isMap && !(sent.length === 1 && sent[0] === message) ? sent : [wrap(payload)];
}

function wrap(payload: Uint8Array): Uint8Array {
  const head = payload.length > MAX_SHORT_BYTES ? longHeader(payload.length) : header(payload.length);
  return join(head, payload, Uint8Array.of(0x0a));
}

async function writeAll(conn: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}

function close(conn: Deno.TcpConn): void {
  try {
    conn.close();
  } catch {
    // It was closed before.
  }
}
