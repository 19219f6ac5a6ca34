/**
 * Starts a worker as a child process: the main module of this program. The last two arguments tell it that it is a
 * worker.
 *
 * In: its number and task. Out: a handle, and events; the last one is the worker's end, with the system's reason. Both
 * sides exchange lines of JSON over the worker's stdin and stdout; any other output of a worker on stdout is passed on
 * to this process's stdout, and stderr is shared. Refused, and killed: a worker that sends an invalid message.
 *
 * A process and not a thread, so that a full heap or a bug of the runtime ends only one worker. It downloads nothing:
 * its code is already loaded here.
 */

import type { ServeOptions } from "../handlers/open_server.ts";
import type { Limits } from "../limits.ts";
import { textOf } from "../transport/address.ts";
import type { ServerTls } from "../transport/tls.ts";
import { standardOutput } from "./output.ts";
import type { FromWorker, RunningWorker, ToWorker, WorkerEvents } from "./workers.ts";

/** The argument that makes a program a worker, followed by its number. */
export const WORKER_FLAG = "--packline-worker";

/**
 * The start of each message from a worker, because its program prints its own lines, with texts of its callers.
 *
 * @param secret A text that no caller knows: the first line on the worker's stdin.
 */
export function messageMark(secret: string): string {
  return `\0packline ${secret} `;
}

/** Deno's own file. Asked once: after an upgrade, the runtime's answer would be the replaced file, which is deleted. */
export const RUNTIME: string = Deno.execPath();

/** A longer line of a worker is passed on in parts, because it is held in memory until its end. */
const MAX_LINE_CHARS = 65_536;

/** How long the output of a worker that has ended is waited for. A program that it has started may hold it open. */
const LAST_OUTPUT_MS = 200;

/** The task of a worker: its second line on stdin. */
export type WorkerTask =
  & Partial<Limits>
  & Pick<ServeOptions, "proxyProtocolFrom" | "webOrigins" | "logFormat" | "logLevel" | "tap">
  & { readonly hostname: string; readonly port: number; readonly tls?: ServerTls };

/** The program of a worker. */
export interface WorkerProgram {
  /** The URL of its main module. */
  readonly main: string;
  /** Flags of the runtime, besides the permission to listen. */
  readonly flags: readonly string[];
  /** Its arguments, before the two that make it a worker. */
  readonly args: readonly string[];
}

/** The number of this worker, from 1; `undefined` in a program that is not one. */
export function workerNumber(): number | undefined {
  return Deno.args.at(-2) === WORKER_FLAG ? Number(Deno.args.at(-1)) : undefined;
}

/**
 * The permissions that this process has without restriction, as flags. The runtime does not report the others in full.
 */
export function inheritedFlags(): string[] {
  const kinds = ["net", "read", "write", "env", "sys", "ffi", "run"] as const;
  return kinds.filter((name) => {
    const { state, partial } = Deno.permissions.querySync({ name });
    return state === "granted" && !partial;
  }).map((name) => `--allow-${name}`);
}

/** A task as a line of JSON, which has no `Infinity`. */
function writeTask(task: WorkerTask): string {
  return JSON.stringify(task, (_, value) => value === Infinity ? ENDLESS : value);
}

/** The task in a line. */
export function readTask(line: string): WorkerTask {
  return JSON.parse(line, (_, value) => value === ENDLESS ? Infinity : value);
}

/** `Infinity` in JSON; no other value of a task contains this character. */
const ENDLESS = "\0Infinity";

/** Loads this before the main module. */
const PRELOAD = `--preload=${import.meta.resolve("./orphan.ts")}`;

/** How often a worker is pinged, and how many unanswered pings end it. */
const PING_EVERY_MS = 2_000;
const MAX_MISSED_PINGS = 5;

/**
 * Starts a worker.
 *
 * @param number Its number, from 1.
 * @param task Its task.
 * @param events Receives its events.
 * @param program Its program.
 * @param pingEveryMs How often it is pinged. A worker that misses five pings is killed.
 * @returns The running process.
 * @throws {Error} If it cannot be started.
 */
export function startProcess(
  number: number,
  task: WorkerTask,
  events: WorkerEvents,
  program: WorkerProgram,
  pingEveryMs: number = PING_EVERY_MS,
): RunningWorker {
  const flags = ["--no-prompt", "--cached-only", "--unstable-net", PRELOAD, ...program.flags];
  if (!flags.includes("--allow-net")) flags.push(`--allow-net=${textOf(task)}`);
  const process = new Deno.Command(RUNTIME, {
    args: ["run", ...flags, program.main, ...program.args, WORKER_FLAG, String(number)],
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const kill = () => {
    try {
      process.kill("SIGKILL");
    } catch {
      // It has already ended.
    }
  };
  const input = process.stdin.getWriter();
  const write = (line: string) => {
    // A failed write means that the worker has ended, which is handled below.
    input.write(new TextEncoder().encode(`${line}\n`)).catch(() => {});
  };
  const tell = (message: ToWorker) => write(JSON.stringify(message));
  const secret = crypto.randomUUID();
  write(secret);
  write(writeTask(task));
  const mark = messageMark(secret);
  let pinging: ReturnType<typeof setInterval> | undefined;
  let missed = 0;
  // Pings are counted instead of time, so that a pause of this process does no harm: waiting answers are read first.
  // Only one ping is sent at a time, because unread ones would pile up here.
  const ping = () => {
    if (missed === 0) tell({ type: "ping" });
    else if (missed === MAX_MISSED_PINGS) kill();
    missed++;
  };
  /** The start of a line of the program: a message may come in its middle. */
  let begun = "";
  const hear = (line: string) => {
    const [before, text] = line.split(mark);
    begun += before;
    if (text === undefined) {
      standardOutput.write(begun);
      begun = "";
      return;
    }
    const message: FromWorker = JSON.parse(text);
    if (pinging === undefined) pinging = setInterval(ping, pingEveryMs);
    missed = 0;
    events.onMessage(message);
    // The end of its stdin lets a drained worker end.
    if (message.type === "drained") input.close().catch(() => {});
  };
  const listen = async () => {
    let unread = "";
    try {
      for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
        const lines = `${unread}${text}`.split("\n");
        unread = lines.pop() as string;
        lines.forEach(hear);
        if (begun.length + unread.length > MAX_LINE_CHARS && !mayBeMessage(unread, mark)) {
          hear(unread);
          unread = "";
        }
      }
      if (begun + unread !== "") hear(unread);
    } catch {
      kill();
    }
  };
  const watch = async () => {
    const listening = listen();
    const { code, signal } = await process.status;
    const { promise: late, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, LAST_OUTPUT_MS);
    await Promise.race([listening, late]);
    clearTimeout(timer);
    clearInterval(pinging);
    // Otherwise each dead worker would leave an open file.
    input.close().catch(() => {});
    const hint = pinging === undefined
      ? " before it listened; see workerFlags for its permissions and flags of Deno"
      : "";
    events.onEnd(missed > MAX_MISSED_PINGS ? "it stopped answering" : signal ?? `exit code ${code}${hint}`);
  };
  void watch();
  return { post: tell, kill };
}

/** Whether the start of a line contains the mark of a message, or may end with a part of one. */
function mayBeMessage(begun: string, mark: string): boolean {
  return begun.includes(mark) || begun.slice(-mark.length).includes(mark[0]);
}
