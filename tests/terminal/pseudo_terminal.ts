/**
 * A program in a terminal: what it writes there, and keys that are pressed.
 *
 * In: a command line. Out: its output as it comes, and its exit code. The terminal is made by Python's `pty` module,
 * 24 lines of 80 characters, or as many as a test wants; where there is no Python, tests that need one are
 * skipped, with the reason in one line.
 */

import { AssertionError } from "@std/assert";

/** Passes on what comes from either side, and ends with the program's exit code. */
const BRIDGE = `
import fcntl, os, pty, select, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(sys.argv[2], sys.argv[2:])
fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, int(sys.argv[1]), 0, 0))
sources = [0, terminal]
while True:
    ready, _, _ = select.select(sources, [], [])
    if 0 in ready:
        keys = os.read(0, 65536)
        if keys: os.write(terminal, keys)
        else: sources.remove(0)
    if terminal in ready:
        try: output = os.read(terminal, 65536)
        except OSError: output = b""
        if not output: break
        os.write(1, output)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
`;

/** What the runtime itself may write when it starts: an empty line in place of its progress. */
const RUNTIME_NOISE = "\x1b[0G\x1b[2K\x1b[J";

/** When a test gives up: what it waits for takes a fraction of a second. */
const PATIENCE_MS = 20_000;

const hasPython = await starts("python3");

/** A test that needs a terminal. */
export function testInTerminal(name: string, run: () => Promise<void>): void {
  if (!hasPython) console.log(`skipped: ${name}: to run it, install python3 (Debian's name)`);
  Deno.test({ name, ignore: !hasPython, fn: run });
}

async function starts(program: string): Promise<boolean> {
  try {
    await new Deno.Command(program, { args: ["--version"], stdin: "null", stdout: "null", stderr: "null" }).output();
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** A program in its terminal. */
export class PseudoTerminal implements AsyncDisposable {
  readonly #bridge: Deno.ChildProcess;
  readonly #keys: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  #held = "";

  /**
   * @param command The program and its arguments.
   * @param env What differs in its environment.
   * @param columns How wide the terminal is.
   */
  constructor(command: readonly string[], env: Record<string, string> = {}, columns = 80) {
    this.#bridge = new Deno.Command("python3", {
      args: ["-c", BRIDGE, String(columns), ...command],
      env: { TERM: "xterm", NO_COLOR: "", ...env },
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#keys = this.#bridge.stdin.getWriter();
    this.#output = this.#bridge.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** The client in a terminal, against a port. */
  static client(port: number, args: readonly string[] = [], env: Record<string, string> = {}): PseudoTerminal {
    return new PseudoTerminal([...PseudoTerminal.clientCommand(port), ...args], env);
  }

  /** The client's command line, against a port. */
  static clientCommand(port: number): string[] {
    const script = new URL("../../client.ts", import.meta.url).pathname;
    const permissions = [`--allow-net=127.0.0.1:${port}`, "--no-prompt"];
    return [Deno.execPath(), "run", ...permissions, script, "--port", `${port}`];
  }

  /** Presses keys. */
  async type(keys: string): Promise<void> {
    await this.#keys.write(new TextEncoder().encode(keys));
  }

  /** Waits for some output; gives all up to its end, as it came. */
  async until(expected: string): Promise<string> {
    let late: ReturnType<typeof setTimeout> | undefined;
    const patience = new Promise<never>((_, reject) => {
      late = setTimeout(
        () =>
          reject(new AssertionError(`${JSON.stringify(expected)} does not come behind ${JSON.stringify(this.#held)}`)),
        PATIENCE_MS,
      );
    });
    try {
      while (!this.#held.includes(expected)) {
        const { done, value } = await Promise.race([this.#output.read(), patience]);
        if (done) {
          throw new AssertionError(`it ended without ${JSON.stringify(expected)}: ${JSON.stringify(this.#held)}`);
        }
        this.#held += value;
      }
    } finally {
      clearTimeout(late);
    }
    const end = this.#held.indexOf(expected) + expected.length;
    const output = this.#held.slice(0, end).replaceAll(RUNTIME_NOISE, "");
    this.#held = this.#held.slice(end);
    return output;
  }

  /** Waits for the program to end. */
  async end(): Promise<{ code: number; rest: string }> {
    for (let next = await this.#output.read(); !next.done; next = await this.#output.read()) this.#held += next.value;
    const { code } = await this.#bridge.status;
    return { code, rest: this.#held.replaceAll(RUNTIME_NOISE, "") };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#bridge.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await this.#keys.abort().catch(() => {});
    await this.#output.cancel();
    await this.#bridge.status;
  }
}
