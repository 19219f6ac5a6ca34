/**
 * The driver of a client under test, as a program: a step a line in, an answer a line out (`README.md`).
 *
 * In: a command, steps. Out: answers. Refused: a driver that ends, says what is no JSON, or nothing in time, by a `Wrong`;
 * one that ends before its first answer, by a `NoDriver`.
 */

import { Skip } from "./report.ts";
import { fromJson, shown, toJson } from "./values.ts";
import { Wrong } from "./wire.ts";

/** How long a driver may take for one step. */
const PATIENCE_MS = 10_000;

/** The program is no driver: there is nothing to check. */
export class NoDriver extends Error {}

/** One call of a step. */
export interface CallStep {
  call: string;
  params?: Record<string, unknown>;
  items?: unknown[];
  timeoutMs?: number;
  meta?: Record<string, string>;
  cancelAfterMs?: number;
}

/** A step. */
export type DriverStep =
  | { connect: string; aliveMs?: number }
  | CallStep
  | { calls: CallStep[] }
  | Omit<CallStep, "call"> & { stream: string; take?: number }
  | { close: true };

/** What a driver answers: a result, a failure, both with the items before it, or one of these for each call. */
export interface Answer {
  res?: unknown;
  err?: string;
  items?: unknown[];
  replies?: Answer[];
}

/** A program that makes calls as it is told. It is started at the first step, and again after it had to be ended. */
export class Driver implements AsyncDisposable {
  readonly #command: readonly string[];
  #child: Deno.ChildProcess | undefined;
  #input: WritableStreamDefaultWriter<Uint8Array> | undefined;
  #lines: ReadableStreamDefaultReader<string> | undefined;
  #held = "";
  #hasAnswered = false;

  constructor(command: readonly string[]) {
    this.#command = command;
  }

  /** Has one step done. */
  async ask(step: DriverStep): Promise<Answer> {
    this.#start();
    const text = JSON.stringify(toJson(step));
    await this.#input!.write(new TextEncoder().encode(`${text}\n`)).catch(() => {});
    const line = await this.#line();
    if (line === undefined) {
      await this.#end("SIGKILL");
      if (!this.#hasAnswered) throw new NoDriver("the driver has not answered its first step");
      throw new Wrong(
        `no answer of the driver to ${shown(step)}: it has ended, or waits`,
        `a line in ${PATIENCE_MS} ms`,
      );
    }
    const answer = parse(line);
    this.#hasAnswered = true;
    if (typeof answer.skip === "string") throw new Skip(answer.skip);
    return fromJson(answer) as Answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input?.close().catch(() => {});
    await this.#end("SIGTERM");
  }

  #start(): void {
    if (this.#child !== undefined) return;
    const [program, ...args] = this.#command;
    this.#child = new Deno.Command(program, { args, stdin: "piped", stdout: "piped" }).spawn();
    this.#input = this.#child.stdin.getWriter();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#held = "";
  }

  /** The next line; `undefined` if none comes. */
  async #line(): Promise<string | undefined> {
    const timer = Promise.withResolvers<{ done: true; value: undefined }>();
    const id = setTimeout(() => timer.resolve({ done: true, value: undefined }), PATIENCE_MS);
    try {
      while (!this.#held.includes("\n")) {
        const { done, value } = await Promise.race([this.#lines!.read(), timer.promise]);
        if (done) return;
        this.#held += value;
      }
    } finally {
      clearTimeout(id);
    }
    const end = this.#held.indexOf("\n");
    const line = this.#held.slice(0, end);
    this.#held = this.#held.slice(end + 1);
    return line;
  }

  async #end(signal: Deno.Signal): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    try {
      child.kill(signal);
    } catch {
      // It has ended by itself.
    }
    await child.status;
    await this.#lines!.cancel();
    await this.#input!.close().catch(() => {});
  }
}

function parse(line: string): Record<string, unknown> {
  try {
    const answer = JSON.parse(line);
    if (typeof answer === "object" && answer !== null) return answer;
  } catch {
    // Said below, for what is JSON and no object as well.
  }
  throw new Wrong(`the line ${shown(line)}`, "an answer: one JSON object");
}
