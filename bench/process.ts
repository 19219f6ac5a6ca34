/**
 * Starts the processes of the benchmark, and ends each of them by its id.
 *
 * Each process gets the highest limit of open files: 5,000 connections exceed the default of most shells.
 */

const running = new Set<Process>();

/** One process. */
export class Process implements AsyncDisposable {
  readonly pid: number;
  readonly #child: Deno.ChildProcess;
  readonly #stdout: ReadableStreamDefaultReader<string>;
  readonly #stderr: Promise<string>;
  #unread = "";

  /** Starts a program. */
  constructor(program: string, args: string[]) {
    this.#child = new Deno.Command("sh", {
      args: ["-c", 'ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$0" "$@"', program, ...args],
      env: { NO_COLOR: "1" },
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.pid = this.#child.pid;
    this.#stdout = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#stderr = new Response(this.#child.stderr).text();
    running.add(this);
  }

  /** The next line on stdout; servers and load generators print one each. */
  async line(): Promise<string> {
    while (!this.#unread.includes("\n")) {
      const { done, value } = await this.#stdout.read();
      if (done) throw new Error(lastWord(await this.#stderr) || "it ended without a word");
      this.#unread += value;
    }
    const end = this.#unread.indexOf("\n");
    const line = this.#unread.slice(0, end);
    this.#unread = this.#unread.slice(end + 1);
    return line;
  }

  /** Kills it and waits for its end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#kill();
    this.#stdout.cancel().catch(() => {});
    await this.#child.status;
    await this.#stderr;
    running.delete(this);
  }

  /** Kills all running processes, before the benchmark ends. */
  static killAll(): void {
    for (const process of running) process.#kill();
  }

  #kill(): void {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // The process has already ended.
    }
  }
}

/** Runs a benchmark. However it ends, no process is left. */
export async function leaveNoProcess(run: () => Promise<void>): Promise<void> {
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      Process.killAll();
      Deno.exit(130);
    });
  }
  try {
    await run();
  } finally {
    Process.killAll();
  }
}

/** Starts a program of the benchmark with this Deno. */
export function denoProcess(file: string, ...args: string[]): Process {
  return flaggedProcess([], file, ...args);
}

/** Starts a program with flags of Deno. */
export function flaggedProcess(flags: readonly string[], file: string, ...args: string[]): Process {
  const path = new URL(file, import.meta.url).pathname;
  const config = new URL("deno.json", import.meta.url).pathname;
  return new Process(Deno.execPath(), ["run", "--quiet", "--config", config, "--allow-all", ...flags, path, ...args]);
}

/** The version that a program prints; `undefined` if it is not installed. */
export async function versionOf(program: string, pattern: RegExp): Promise<string | undefined> {
  try {
    const { stdout } = await new Deno.Command(program, { args: ["--version"], stderr: "null" }).output();
    return new TextDecoder().decode(stdout).match(pattern)?.[1];
  } catch {
    return undefined;
  }
}

/** The line of a failed program's output that gives the reason. */
function lastWord(text: string): string {
  const lines = text.trim().split("\n");
  return (lines.find((line) => line.startsWith("error:")) ?? lines.at(-1) ?? "").replace("error: Uncaught ", "");
}
