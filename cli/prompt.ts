/**
 * The interactive prompt: makes typed calls over one connection, and reconnects if it is lost.
 *
 * In: lines from the terminal. Out: replies, as on the command line. Refused, in one line each, without ending the
 * prompt: invalid lines, a server that cannot be reached or disconnects. Ctrl-C cancels the running call, and the
 * server answers `CANCELLED`; a second Ctrl-C closes the connection without waiting. A call whose stream is `-` takes
 * the lines that follow.
 */

import { RpcError } from "../errors.ts";
import { UsageError } from "./arguments.ts";
import { type CommandCall, describedBy, outgoing, readCall } from "./call.ts";
import { type Metadata, readLine } from "./client_flags.ts";
import { completionsOf, hintOf, type KnownCommand, knownCommands } from "./completion.ts";
import { commandDescription } from "./description.ts";
import { textFor } from "./error_text.ts";
import { exchange } from "./exchange.ts";
import { History } from "./history.ts";
import { InputError } from "./input_file.ts";
import { LineEditor } from "./line_editor.ts";
import { complain, note, print } from "./output.ts";
import { commandTable } from "./reports.ts";
import { findCommand, listCommands } from "./server_commands.ts";
import type { ScriptOptions } from "./script.ts";
import type { LineSource } from "./values.ts";
import { wrap } from "./wrap.ts";

const HELP = `COMMAND key=value ...   call a command; a value that parses as JSON is JSON, otherwise text;
                        key=@PATH reads a file, key=@bytes:PATH its bytes
COMMAND @PATH           send a file as a stream of chunks, or with - the lines that
                        follow, each as a value; an empty line ends them
--meta KEY=TEXT         send metadata with this call, such as a token; a line with it is not kept
describe COMMAND        show a command's parameters, result and errors
help                    show this help; Tab completes, the arrow keys recall earlier lines
Ctrl-C                  cancel the running call
quit, Ctrl-D            leave`;

/** Options of the prompt. */
interface PromptOptions extends ScriptOptions {
  /** The address of the server, as text. */
  readonly address: string;
  /** Whether to load the list of commands at once; otherwise `help` does. */
  readonly eager: boolean;
}

/** Runs until the user leaves; resolves to the exit code. */
export async function runPrompt(options: PromptOptions): Promise<number> {
  const prompt = new Prompt(options);
  if (options.eager) await prompt.learn();
  await prompt.run();
  options.session.close();
  return 0;
}

class Prompt {
  readonly #options: PromptOptions;
  /** The commands from INFO; empty until INFO was called. */
  #listed: readonly unknown[] = [];
  #known: KnownCommand[] = [];
  /** The running call, and a controller that ends it if the server does not. */
  #running: { seq: number; stop: AbortController } | undefined;
  #nextSeq = 1;
  #cancelled = false;

  constructor(options: PromptOptions) {
    this.#options = options;
  }

  /** Loads the commands for `help` and Tab. A server that does not list them can still be called. */
  async learn(): Promise<void> {
    const { session, meta, maxPayloadBytes } = this.#options;
    try {
      this.#listed = await listCommands(session, { seq: this.#nextSeq++, meta, maxPayloadBytes });
      this.#known = knownCommands(this.#listed);
    } catch (error) {
      if (error instanceof RpcError && error.code === "TIMEOUT") {
        await complain(`${error.toJSON().msg}: Tab and help know no commands`);
      } else await complainAbout(error);
    }
  }

  async run(): Promise<void> {
    // Created only now: before the editor has the terminal, Ctrl-C ends the program.
    const history = new History();
    const editor = new LineEditor({
      prompt: `${this.#options.address}> `,
      complete: (line) => this.#running ? [[], line] : completionsOf(line, this.#known),
      hint: (line) => this.#running ? "" : hintOf(line, this.#known),
      history: history.lines,
      interrupt: () => this.#cancel(),
    });
    try {
      for (let line = await editor.read(); line !== undefined; line = await editor.read()) {
        history.add(line);
        if (!await this.#do(line, editor)) break;
      }
    } finally {
      editor.close();
    }
  }

  /** Runs a line; returns whether to read another. */
  async #do(line: string, editor: LineEditor): Promise<boolean> {
    if (line.trimStart().startsWith("#")) return true; // as in a script
    try {
      const { words, meta } = readLine(line, this.#options.meta);
      if (words[0] === "quit" || words[0] === "exit") return false;
      const described = describedBy(words);
      if (words[0] === "help") await this.#help();
      else if (described !== undefined) await this.#describe(described, meta);
      else if (words.length > 0) {
        await this.#call(readCall(words, { lines: () => itemLines(editor) }), meta);
      }
    } catch (error) {
      await complainAbout(error);
    }
    return true;
  }

  async #help(): Promise<void> {
    if (this.#listed.length === 0) await this.learn();
    await print(wrap(this.#listed.length === 0 ? HELP : `${HELP}\n\n${commandTable(this.#listed)}`));
  }

  async #describe(name: string, meta: Metadata | undefined): Promise<void> {
    const { session, maxPayloadBytes } = this.#options;
    const listed = await listCommands(session, { seq: this.#nextSeq++, meta, maxPayloadBytes, shapes: true });
    await print(wrap(commandDescription(findCommand(listed, name))));
  }

  async #call(call: CommandCall, meta: Metadata | undefined): Promise<void> {
    const { session, present, timeout, json, maxPayloadBytes } = this.#options;
    const seq = this.#nextSeq++;
    const frames = outgoing(call, { seq, meta, maxPayloadBytes, timeout });
    let code: unknown;
    this.#cancelled = false;
    this.#running = { seq, stop: new AbortController() };
    if (call.items?.isStandardInput) await note("each line is an item; an empty line ends them");
    try {
      ({ code } = await exchange({
        session,
        call: frames,
        signal: this.#running.stop.signal,
        timeout,
        json,
        // Items that arrive after the cancel are skipped.
        show: (fields, more) => more && this.#cancelled ? undefined : present(call, fields),
      }));
    } catch (error) {
      if (!this.#cancelled) throw error;
      await complain("cancelled; the connection is closed");
    } finally {
      this.#running = undefined;
    }
    if (code === "CMD_NOT_FOUND" && this.#listed.length > 0) findCommand(this.#listed, call.name);
  }

  #cancel(): boolean {
    if (this.#running === undefined) return false;
    const { seq, stop } = this.#running;
    // There may be no connection yet, or the server may not answer.
    if (this.#cancelled || !this.#options.session.cancel(seq)) stop.abort();
    this.#cancelled = true;
    return true;
  }
}

/** The lines of a stream of items, up to an empty line or Ctrl-D. */
function itemLines(editor: LineEditor): LineSource {
  return {
    async *[Symbol.asyncIterator]() {
      for (let line = await editor.readMore(); line; line = await editor.readMore()) yield line;
      if (editor.isLost) throw new InputError("the terminal was closed before the stream was complete");
    },
    async return() {
      const dropped = editor.dismiss();
      if (dropped > 0) {
        await note(`the call has ended: ${dropped} typed ${dropped === 1 ? "line is" : "lines are"} dropped`);
      }
    },
  };
}

async function complainAbout(error: unknown): Promise<void> {
  if (error instanceof RpcError) await complain(textFor(error) ?? error.code);
  else if (error instanceof UsageError || error instanceof InputError) await complain(error.message);
  else throw error;
}
