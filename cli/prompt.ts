/**
 * The prompt: calls typed one after the other, over one connection, which is made anew when it was lost.
 *
 * In: lines from the terminal. Out: replies, as a call from the shell prints them. Refused, in one line each, after which
 * it goes on: lines that make no sense, a server that cannot be reached or breaks off. Ctrl-C cancels the call that runs:
 * the server is told, and answers `CANCELLED`; a second one closes the connection instead of waiting for that.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import { UsageError } from "./arguments.ts";
import { cancelFrame, type CommandCall, outgoing, readCall } from "./call.ts";
import { completionsOf, type KnownCommand, knownCommands } from "./completion.ts";
import { exchange } from "./exchange.ts";
import { LineEditor } from "./line_editor.ts";
import { wordsOf } from "./line_words.ts";
import { complain, print } from "./output.ts";
import { commandsOf, commandTable } from "./reports.ts";
import type { Session } from "./prompt_connection.ts";
import { wrap } from "./wrap.ts";

/** How long the server may take to say what it can do, at the start. */
const GREETING_MS = 2_000;

const HELP = `COMMAND key=value ...   calls it; a value is JSON where it parses as such, else text
help                    says this; Tab completes, the arrows bring lines back
Ctrl-C                  cancels the call that runs
quit, Ctrl-D            ends`;

/** What the prompt is given. */
export interface PromptOptions {
  readonly session: Session;
  /** Where the server is, as text. */
  readonly address: string;
  /** How a reply looks. */
  readonly present: (call: CommandCall, fields: Fields) => string;
  readonly timeout: number | undefined;
  readonly json: boolean | undefined;
  readonly maxPayloadBytes: number | undefined;
  /** Whether to ask at once what the server can do; else `help` does. */
  readonly eager: boolean;
}

/** Runs until its user has had enough; resolves to the exit code. */
export async function runPrompt(options: PromptOptions): Promise<number> {
  const prompt = new Prompt(options);
  if (options.eager) await prompt.learn();
  await prompt.run();
  options.session.close();
  return 0;
}

class Prompt {
  readonly #options: PromptOptions;
  /** What INFO lists; nothing until it has been asked. */
  #listed: readonly unknown[] = [];
  #known: KnownCommand[] = [];
  /** The call that runs, and what ends it if the server does not. */
  #running: { seq: number; stop: AbortController } | undefined;
  #nextSeq = 1;
  #cancelled = false;

  constructor(options: PromptOptions) {
    this.#options = options;
  }

  /** Asks for the commands, for `help` and Tab. A server that does not tell them can be called all the same. */
  async learn(): Promise<void> {
    const late = AbortSignal.timeout(GREETING_MS);
    try {
      const { session, maxPayloadBytes } = this.#options;
      const info = outgoing({ name: "INFO", params: {} }, { seq: this.#nextSeq++, maxPayloadBytes });
      for await (const { fields } of session.ask(info, late)) {
        this.#listed = commandsOf(fields.res) ?? [];
        this.#known = knownCommands(this.#listed);
      }
    } catch (error) {
      if (late.aborted) {
        await complain(`no word from the server within ${GREETING_MS / 1000} s: Tab and help do without`);
      } else await complainAbout(error);
    }
  }

  async run(): Promise<void> {
    // Not before: until the editor has the terminal, Ctrl-C ends the program, whatever the server does.
    const editor = new LineEditor({
      prompt: `${this.#options.address}> `,
      complete: (line) => completionsOf(line, this.#known),
      interrupt: () => this.#cancel(),
    });
    try {
      for (let line = await editor.read(); line !== undefined; line = await editor.read()) {
        if (!await this.#do(line)) break;
      }
    } finally {
      editor.close();
    }
  }

  /** Does what a line says; says whether there may be another. */
  async #do(line: string): Promise<boolean> {
    try {
      const words = wordsOf(line);
      if (words[0] === "quit" || words[0] === "exit") return false;
      if (words[0] === "help") await this.#help();
      else if (words.length > 0) await this.#call(readCall(words));
    } catch (error) {
      await complainAbout(error);
    }
    return true;
  }

  async #help(): Promise<void> {
    if (this.#listed.length === 0) await this.learn();
    await print(wrap(this.#listed.length === 0 ? HELP : `${HELP}\n\n${commandTable(this.#listed)}`));
  }

  async #call(call: CommandCall): Promise<void> {
    const { session, present, timeout, json, maxPayloadBytes } = this.#options;
    const seq = this.#nextSeq++;
    const frames = outgoing(call, { seq, maxPayloadBytes });
    this.#cancelled = false;
    this.#running = { seq, stop: new AbortController() };
    try {
      await exchange({
        session,
        call: frames,
        signal: this.#running.stop.signal,
        timeout,
        json,
        show: (fields, more) => {
          // Items that were on their way when the call was cancelled.
          if (more && this.#cancelled) return undefined;
          return present(call, more ? { ...fields, more } : fields);
        },
      });
    } catch (error) {
      if (!this.#cancelled) throw error;
      await complain("cancelled, and the connection is closed");
    } finally {
      this.#running = undefined;
    }
  }

  #cancel(): boolean {
    if (this.#running === undefined) return false;
    const { seq, stop } = this.#running;
    // There may be no connection yet, and the server may not answer.
    if (this.#cancelled || !this.#options.session.send(cancelFrame(seq))) stop.abort();
    this.#cancelled = true;
    return true;
  }
}

async function complainAbout(error: unknown): Promise<void> {
  if (error instanceof RpcError) await complain(error.toJSON().msg ?? error.code);
  else if (error instanceof UsageError) await complain(error.message);
  else throw error;
}
