/** The two scripts as child processes, and a listener that says what a test tells it to say. */

import { SHORT_HEADER_BYTES, TERMINATOR, writeShortHeader } from "../../codec/frame.ts";
import { encode } from "../support/msgpack.ts";

/** How a script ended, and what it wrote. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** What is only needed to start a script. */
export interface ScriptOptions {
  /** The flags of the runtime. */
  permissions?: string[];
  /** What it reads from stdin. */
  input?: string | Uint8Array<ArrayBuffer>;
  /** Whether the test writes to its stdin, in place of `input`. */
  writes?: boolean;
  /** What differs in its environment. */
  env?: Record<string, string>;
}

/** Starts a script, with pipes for its output and no terminal. */
export function startScript(
  script: "server" | "client",
  args: readonly string[],
  { permissions = ["--allow-net=127.0.0.1"], input, writes = false, env }: ScriptOptions = {},
): Deno.ChildProcess {
  const url = new URL(`../../${script}.ts`, import.meta.url);
  const process = new Deno.Command(Deno.execPath(), {
    args: ["run", ...permissions, url.href, ...args],
    env,
    stdin: input === undefined && !writes ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  // One that ends before it has read all is what some tests are about.
  if (input !== undefined) new Blob([input]).stream().pipeTo(process.stdin).catch(() => {});
  return process;
}

/** Runs a script to its end. */
export async function runScript(...start: Parameters<typeof startScript>): Promise<Outcome> {
  const { code, stdout, stderr } = await startScript(...start).output();
  return { code, stdout: new TextDecoder().decode(stdout), stderr: new TextDecoder().decode(stderr) };
}

/** Runs the client against a port. */
export function runClient(port: number, ...args: string[]): Promise<Outcome> {
  return runScript("client", ["--port", String(port), ...args]);
}

/** The server script, listening. */
export class ServerScript implements AsyncDisposable {
  readonly process: Deno.ChildProcess;
  readonly #stdout: LineReader;
  readonly #stderr: LineReader;
  /** What it has said first. */
  firstLine = "";

  private constructor(args: readonly string[]) {
    this.process = startScript("server", ["--port", "0", ...args]);
    this.#stdout = new LineReader(this.process.stdout);
    this.#stderr = new LineReader(this.process.stderr);
  }

  static async start(...args: string[]): Promise<ServerScript> {
    const server = new ServerScript(args);
    server.firstLine = await server.#stdout.read() ?? "";
    return server;
  }

  get port(): number {
    return Number(this.firstLine.split(":").at(-1));
  }

  /** The next line on stderr. */
  complaint(): Promise<string | undefined> {
    return this.#stderr.read();
  }

  /** Waits for its end. */
  async end(): Promise<Outcome> {
    const [{ code }, stdout, stderr] = await Promise.all([
      this.process.status,
      this.#stdout.rest(),
      this.#stderr.rest(),
    ]);
    return { code, stdout, stderr };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.end();
  }
}

/** Reads text by lines. */
export class LineReader {
  readonly #reader: ReadableStreamDefaultReader<string>;
  #held = "";

  constructor(bytes: ReadableStream<Uint8Array<ArrayBuffer>>) {
    this.#reader = bytes.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** The next line, without its newline; `undefined` at the end. */
  async read(): Promise<string | undefined> {
    while (!this.#held.includes("\n")) {
      const { value, done } = await this.#reader.read();
      if (done) return undefined;
      this.#held += value;
    }
    const [line] = this.#held.split("\n", 1);
    this.#held = this.#held.slice(line.length + 1);
    return line;
  }

  /** Everything up to the end. */
  async rest(): Promise<string> {
    for (let next = await this.#reader.read(); !next.done; next = await this.#reader.read()) this.#held += next.value;
    return this.#held;
  }
}

/** A message as a frame. */
export function frame(message: unknown): Uint8Array<ArrayBuffer> {
  const payload = encode(message);
  const bytes = new Uint8Array(SHORT_HEADER_BYTES + payload.length + 1);
  writeShortHeader(bytes, 0, payload.length);
  bytes.set(payload, SHORT_HEADER_BYTES);
  bytes[bytes.length - 1] = TERMINATOR;
  return bytes;
}

/**
 * A server for one connection. It reads so many bytes, writes its answer, and says that there is no more.
 *
 * @param answer What it says, byte by byte.
 * @param requestBytes How much it waits for.
 */
export class Scripted implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  /** What was received up to the end of the connection, in hex. */
  readonly received: Promise<string>;

  constructor(answer: Uint8Array, requestBytes = 1) {
    this.received = this.#serve(answer, requestBytes);
  }

  get port(): number {
    return this.#listener.addr.port;
  }

  async #serve(answer: Uint8Array, requestBytes: number): Promise<string> {
    using conn = await this.#listener.accept();
    const buffer = new Uint8Array(1024);
    let received = "";
    while (received.length < 2 * requestBytes) {
      const readBytes = await conn.read(buffer);
      if (readBytes === null) return received;
      received += buffer.subarray(0, readBytes).toHex();
    }
    await conn.write(answer);
    await conn.closeWrite();
    for (let readBytes = await conn.read(buffer); readBytes !== null; readBytes = await conn.read(buffer)) {
      received += buffer.subarray(0, readBytes).toHex();
    }
    return received;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.received.catch(() => {});
  }
}
