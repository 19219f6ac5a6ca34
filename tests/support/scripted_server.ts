/** A server that does what a test tells it to, right or wrong; and the two networks on which it does it. */

import { DecodeStage } from "../../codec/decode.ts";
import { EncodeStage } from "../../codec/encode.ts";
import { type Decoded, type Fields, InvalidMessage } from "../../codec/message.ts";
import type { Reader } from "../../codec/reader.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { type Duplex, memoryPair } from "../../transport/duplex.ts";
import { dialAddress } from "../../transport/dial.ts";
import { closeQuietly, socketDuplex } from "../../transport/tcp.ts";
import { makeTestTls } from "./transports.ts";

/** Where a client dials and a server accepts. */
export interface Network extends Disposable {
  readonly name: string;
  dial(): Promise<Duplex>;
  accept(): Promise<Duplex>;
}

/** Connections that are pairs in memory. */
export function memoryNetwork(): Network {
  const dialed: Duplex[] = [];
  const accepting: ((duplex: Duplex) => void)[] = [];
  return {
    name: "memory",
    dial() {
      const [here, there] = memoryPair();
      const accept = accepting.shift();
      if (accept) accept(there);
      else dialed.push(there);
      return Promise.resolve(here);
    },
    accept() {
      const duplex = dialed.shift();
      return duplex ? Promise.resolve(duplex) : new Promise((resolve) => accepting.push(resolve));
    },
    [Symbol.dispose]() {},
  };
}

/** Connections over TCP, on a free port of this machine. */
export function tcpNetwork(): Network {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return {
    name: "TCP",
    dial: async () => socketDuplex(await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port })),
    accept: async () => socketDuplex(await listener.accept()),
    [Symbol.dispose]: () => closeQuietly(listener),
  };
}

/** Connections over TLS, on a free port of this machine. */
export async function tlsNetwork(): Promise<Network> {
  const { cert, key, ca } = await makeTestTls();
  const hostname = "127.0.0.1";
  const listener = Deno.listenTls({ hostname, port: 0, cert, key });
  return {
    name: "TLS",
    dial: () => dialAddress({ hostname, port: listener.addr.port, tls: { ca } }, new AbortController().signal),
    accept: async () => socketDuplex(await listener.accept()),
    [Symbol.dispose]: () => closeQuietly(listener),
  };
}

/** The two that need nothing. */
export const NETWORKS = [memoryNetwork, tcpNetwork];

/** The server's end of one connection. It reads all the time, unless told not to. */
export class ScriptedServer implements AsyncDisposable {
  readonly #duplex: Duplex;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #messages: (Fields | undefined)[] = [];
  readonly #waiting: ((message: Fields | undefined) => void)[] = [];
  readonly #reading: Promise<void> | undefined;
  /** All that has come, in hexadecimal. */
  receivedHex = "";

  constructor(duplex: Duplex, { reads = true }: { reads?: boolean } = {}) {
    this.#duplex = duplex;
    this.#reader = duplex.readable.getReader();
    this.#writer = duplex.writable.getWriter();
    if (reads) this.#reading = this.#read();
  }

  /** Accepts the next connection of a network. */
  static async accept(network: Network, options?: { reads?: boolean }): Promise<ScriptedServer> {
    return new ScriptedServer(await network.accept(), options);
  }

  /** The next message, with all its fields; `undefined` at the end, in order or not. */
  async message(): Promise<Fields | undefined> {
    if (this.#messages.length > 0) return this.#messages.shift();
    return await new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The next message that is not about the connection itself, which must come. */
  async request(): Promise<Fields> {
    const message = await this.message();
    if (message === undefined) throw new Error("the client has ended");
    return "max" in message ? await this.request() : message;
  }

  /** That many of them. */
  async requests(count: number): Promise<Fields[]> {
    const requests = [];
    while (requests.length < count) requests.push(await this.request());
    return requests;
  }

  /** All messages up to the end. */
  async rest(): Promise<Fields[]> {
    const messages = [];
    for (let message = await this.message(); message; message = await this.message()) messages.push(message);
    return messages;
  }

  /** Sends messages, in one write. */
  async reply(...messages: Fields[]): Promise<void> {
    const chunks: Uint8Array[] = [];
    const encode = new EncodeStage<Fields>({
      writeMessage: (writer, message) => writer.writeValue(message),
      maxPayloadBytes: () => Infinity,
      onUnwritable: (_message, error) => {
        throw error;
      },
    });
    const output = { enqueue: (chunk: Uint8Array) => void chunks.push(chunk), terminate() {} };
    for (const message of messages) encode.transform(message, output);
    encode.flush(output);
    for (const chunk of chunks) await this.send(chunk);
  }

  /** Sends bytes as they are. */
  async send(bytes: Uint8Array): Promise<void> {
    await this.#writer.write(bytes);
  }

  /** Sends no more, but goes on reading. */
  async halfClose(): Promise<void> {
    await this.#writer.close().catch(ignore);
  }

  /** Ends the connection now. */
  cut(): void {
    this.#duplex.close?.();
    this.#reader.cancel().catch(ignore);
    this.#writer.abort(new Error("cut")).catch(ignore);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await this.#reading;
  }

  async #read(): Promise<void> {
    const decode = new DecodeStage<Fields>(readFields, { ...DEFAULT_LIMITS, maxPayloadBytes: 2 ** 26 });
    const output = {
      enqueue: (batch: Decoded<Fields>[]) => batch.forEach((message) => this.#take(message as Fields)),
      terminate() {},
    };
    try {
      for (let read = await this.#reader.read(); !read.done; read = await this.#reader.read()) {
        this.receivedHex += read.value.toHex();
        decode.transform(read.value, output);
      }
    } catch {
      // Cut off: that is an end as well.
    }
    this.#take(undefined);
  }

  #take(message: Fields | undefined): void {
    if (message instanceof InvalidMessage) throw message;
    const waiting = this.#waiting.shift();
    if (waiting) waiting(message);
    else this.#messages.push(message);
  }
}

function readFields(reader: Reader): Fields {
  const fields: Fields = {};
  for (let left = reader.readMapSize(); left > 0; left--) {
    const key = reader.readKey();
    fields[key] = reader.readValue();
  }
  reader.finish();
  return fields;
}

function ignore(): void {}
