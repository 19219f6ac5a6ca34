/** A server that follows the script of a test, valid or not, and the networks that it runs on. */

import { DecodeStage } from "../../codec/decode.ts";
import { EncodeStage } from "../../codec/encode.ts";
import { type Decoded, type Fields, InvalidMessage } from "../../codec/message.ts";
import type { Payload } from "../../codec/read_message.ts";
import { PING_SEQ } from "../../client/client_call.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { memoryPair } from "../../transport/memory.ts";
import { closeQuietly, closeTransport, type Transport, writeAll } from "../../transport/transport.ts";
import { denoNetwork, socketTransport } from "../../transport/deno_network.ts";
import { dialAddress } from "../../transport/address.ts";

import { makeTestTls } from "./transports.ts";

/** Where a client dials and a server accepts. */
export interface Network extends Disposable {
  readonly name: string;
  dial(): Promise<Transport>;
  accept(): Promise<Transport>;
}

/** Connections that are pairs in memory. */
export function memoryNetwork(): Network {
  const dialed: Transport[] = [];
  const accepting: ((transport: Transport) => void)[] = [];
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
      const transport = dialed.shift();
      return transport ? Promise.resolve(transport) : new Promise((resolve) => accepting.push(resolve));
    },
    [Symbol.dispose]() {},
  };
}

/** Connections over TCP, on a free port of this machine. */
export function tcpNetwork(): Network {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  return {
    name: "TCP",
    dial: async () => socketTransport(await Deno.connect({ hostname: "127.0.0.1", port: listener.addr.port })),
    accept: async () => socketTransport(await listener.accept()),
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
    dial: () =>
      dialAddress(denoNetwork, { hostname, port: listener.addr.port, tls: { ca } }, new AbortController().signal),
    accept: async () => socketTransport(await listener.accept()),
    [Symbol.dispose]: () => closeQuietly(listener),
  };
}

/** The two that need nothing. */
export const NETWORKS = [memoryNetwork, tcpNetwork];

/** How a scripted server behaves. */
interface ScriptedOptions {
  reads?: boolean;
  answersPings?: boolean;
}

/** The server's end of one connection. It reads all the time, unless told not to. */
export class ScriptedServer implements AsyncDisposable {
  readonly #transport: Transport;
  readonly #messages: (Fields | undefined)[] = [];
  readonly #waiting: ((message: Fields | undefined) => void)[] = [];
  readonly #reading: Promise<void> | undefined;
  readonly #answersPings: boolean;
  /** All that has come, in hexadecimal. */
  receivedHex = "";

  /** `answersPings`: those that the client sends of its own accord are answered, and no messages. */
  constructor(transport: Transport, { reads = true, answersPings = true }: ScriptedOptions = {}) {
    this.#transport = transport;
    this.#answersPings = answersPings;
    if (reads) this.#reading = this.#read();
  }

  /** Accepts the next connection of a network. */
  static async accept(network: Network, options?: ScriptedOptions): Promise<ScriptedServer> {
    return new ScriptedServer(await network.accept(), options);
  }

  /** How many messages have come and were not asked for. */
  get waiting(): number {
    return this.#messages.length;
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
    return "notice" in message ? await this.request() : message;
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
    await writeAll(this.#transport, bytes);
  }

  /** Sends no more, but goes on reading. */
  async halfClose(): Promise<void> {
    await this.#transport.closeWrite().catch(ignore);
  }

  /** Ends the connection now. */
  cut(): void {
    closeTransport(this.#transport);
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
      const buffer = new Uint8Array(64 * 1024);
      for (let size = await this.#transport.read(buffer); size !== null; size = await this.#transport.read(buffer)) {
        const bytes = buffer.subarray(0, size);
        this.receivedHex += bytes.toHex();
        decode.transform(bytes, output);
      }
    } catch {
      // Cut off: that is an end as well.
    }
    this.#take(undefined);
  }

  #take(message: Fields | undefined): void {
    if (message instanceof InvalidMessage) throw message;
    if (this.#answersPings && message?.seq === PING_SEQ) {
      this.reply({ seq: PING_SEQ, res: "PONG" }).catch(ignore);
      return;
    }
    const waiting = this.#waiting.shift();
    if (waiting) waiting(message);
    else this.#messages.push(message);
  }
}

function readFields(payload: Payload): Fields {
  const fields: Fields = {};
  for (let left = payload.readMapSize(); left > 0; left--) {
    const key = payload.readKey();
    fields[key] = payload.readValue();
  }
  payload.finish();
  return fields;
}

function ignore(): void {}
