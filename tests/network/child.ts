/**
 * A program of this folder on a host: its lines on stdout are what happened there, and each is kept with its time.
 *
 * In: a host, a program and its options. Out: what it has said, and when. Refused: a program that ends before it has said
 * what is waited for, with its own words on stderr.
 */

import { linesOf } from "../../cli/lines.ts";
import type { Host } from "./hosts.ts";

/** Something that happened, such as `ended CONNECTION_LOST` of `call`. */
export interface Happened {
  /** What else the line says. */
  readonly detail: string;
  /** When it came, on this process's clock. */
  readonly atMs: number;
}

/** How long a program may take to come up. */
const PATIENCE_MS = 30_000;

/** A program that runs until the test ends it. */
export class Child implements AsyncDisposable {
  readonly #file: string;
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #happened = new Map<string, Happened>();
  readonly #reading: Promise<string>;
  #ended = false;
  #more = Promise.withResolvers<void>();

  private constructor(file: string, process: Deno.ChildProcess) {
    this.#file = file;
    this.#process = process;
    this.#input = process.stdin.getWriter();
    this.#reading = this.#read();
  }

  /** Starts a program, and waits for the line that says it is up. */
  static async start(host: Host, file: string, options: unknown, up: string): Promise<Child> {
    const path = new URL(file, import.meta.url).pathname;
    const deno = [Deno.execPath(), "run", "--quiet", "--no-check", "--no-prompt", "--allow-net"];
    const [command, ...args] = host.command(...deno, path, JSON.stringify(options));
    const piped = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    const child = new Child(file, new Deno.Command(command, { args, env: { NO_COLOR: "1" }, ...piped }).spawn());
    try {
      if (await child.until(() => child.what(up) !== undefined, PATIENCE_MS)) return child;
      throw new Error(`${file} did not say "${up}" within ${PATIENCE_MS} ms`);
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The first time that something happened, by the first two words of its line. */
  what(words: string): Happened | undefined {
    return this.#happened.get(words);
  }

  /** Waits until something holds that this program's lines make true; false if it does not in that time. */
  async until(holds: () => boolean, patienceMs: number): Promise<boolean> {
    let isPatient = true;
    const patience = setTimeout(() => {
      isPatient = false;
      this.#notify();
    }, patienceMs);
    while (!holds() && isPatient && !this.#ended) await this.#more.promise;
    clearTimeout(patience);
    if (!holds() && this.#ended) throw new Error(`${this.#file} has ended: ${await this.#reading}`);
    return holds();
  }

  /** Tells it something. */
  async say(line: string): Promise<void> {
    await this.#input.write(new TextEncoder().encode(`${line}\n`));
  }

  kill(signal: Deno.Signal): void {
    this.#process.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#process.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#process.status;
    await this.#reading;
    await this.#input.close().catch(() => {});
  }

  /** Reads what it says, to its end. What it says on stderr is kept as text. */
  async #read(): Promise<string> {
    const stderr = this.#process.stderr.text();
    for await (const line of linesOf(this.#process.stdout)) {
      const [name, what, detail = ""] = line.split(" ");
      const words = `${name} ${what}`;
      if (!this.#happened.has(words)) this.#happened.set(words, { detail, atMs: performance.now() });
      this.#notify();
    }
    this.#ended = true;
    this.#notify();
    return await stderr;
  }

  #notify(): void {
    this.#more.resolve();
    this.#more = Promise.withResolvers();
  }
}
