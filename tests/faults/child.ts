/**
 * Servers in processes of their own, for what cannot be tried on oneself: signals, kills, a low limit of open files.
 *
 * In: a program and its arguments. Out: its port, what it says on stderr, its open files, how it ends. Each is
 * ended with the test, by its own id.
 */

import { type Address, addressIn, type Place, TCP, type Transport } from "../support/transports.ts";
import type { ServedOptions } from "./served.ts";

/** What a server is started with. */
export interface ChildOptions {
  /** Where it listens; any free port by default. */
  port?: number;
  /** More arguments of the project's `server.ts`. */
  args?: string[];
  /** The options of `served.ts` beside this file, which is then started in its place. */
  served?: ServedOptions;
  /** How many files it may have open. */
  openFiles?: number;
  /** How it is reached: over TCP, unless another transport is given. */
  transport?: Transport;
}

/** How a server ended. */
export interface ChildEnd {
  code: number;
  stderr: string;
}

/** A server in a process of its own, listening. */
export class ChildServer implements AsyncDisposable {
  readonly process: Deno.ChildProcess;
  port = 0;
  readonly #place: Place;
  /** What it has said on stderr. */
  stderr = "";
  readonly #stdout: ReadableStreamDefaultReader<string>;
  readonly #reading: Promise<void>;
  #ended = false;
  #wake = () => {};

  private constructor(place: Place, { port = 0, args = [], served, openFiles }: ChildOptions) {
    this.#place = place;
    const program = new URL(served ? "served.ts" : "../../server.ts", import.meta.url).pathname;
    const programArgs = served
      ? [JSON.stringify({ ...place.serve, ...served })]
      : ["--port", String(port), ...place.args, ...args];
    const permissions = ["--allow-net=127.0.0.1", ...place.tls ? ["--allow-read"] : []];
    const flags = ["--quiet", "--no-check", ...permissions, ...served ? ["--v8-flags=--expose-gc"] : []];
    const command = ["run", ...flags, program, ...programArgs];
    const [first, ...rest] = openFiles === undefined
      ? [Deno.execPath(), ...command]
      : ["sh", "-c", `ulimit -n ${openFiles}; exec "$0" "$@"`, Deno.execPath(), ...command];
    this.process = new Deno.Command(first, {
      args: rest,
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.#stdout = this.process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#reading = this.#readStderr();
  }

  /** Starts a server that says on stdout, in one line, where it listens. */
  static async start(options: ChildOptions = {}): Promise<ChildServer> {
    const { transport = TCP } = options;
    const server = new ChildServer(await transport.place(), options);
    let line = "";
    while (!line.includes("\n")) {
      const { value, done } = await server.#stdout.read();
      if (done) throw new Error(`the server ended before it listened: ${(await server.end()).stderr}`);
      line += value;
    }
    server.port = Number(line.trim().split(":").at(-1));
    return server;
  }

  /** Where a client finds it. */
  get address(): Address {
    return addressIn(this.#place, this.port);
  }

  kill(signal: Deno.Signal): void {
    this.process.kill(signal);
  }

  /** Waits until it has said something on stderr. */
  async says(text: string): Promise<void> {
    while (!this.stderr.includes(text)) {
      if (this.#ended) throw new Error(`the server ended without a word of ${text}: ${this.stderr}`);
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  /** Waits for its end. */
  async end(): Promise<ChildEnd> {
    const { code } = await this.process.status;
    while (!(await this.#stdout.read()).done);
    await this.#reading;
    return { code, stderr: this.stderr };
  }

  /** How many files it has open, where the system tells. */
  async openFiles(): Promise<number> {
    const { stdout } = await new Deno.Command("ls", { args: [`/proc/${this.process.pid}/fd`], stderr: "null" })
      .output();
    return new TextDecoder().decode(stdout).split("\n").length - 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.end();
    await this.#place[Symbol.asyncDispose]();
  }

  async #readStderr(): Promise<void> {
    for await (const text of this.process.stderr.pipeThrough(new TextDecoderStream())) {
      this.stderr += text;
      this.#wake();
    }
    this.#ended = true;
    this.#wake();
  }
}
