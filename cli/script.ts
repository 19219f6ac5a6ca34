/**
 * Runs the lines of stdin as calls, one by one, over one connection.
 *
 * In: lines; blank lines and lines that begin with # are skipped. Out: replies, and the exit code: 1 if a reply has
 * `err`. If the reader of the output leaves, later lines are not run. Refused, by a `UsageError`: input that is not
 * UTF-8. Refused, with its line number: an invalid line, by a `UsageError`; a line with a file that cannot be read, by
 * an `InputError`. Later lines are not run. An error of the session also ends the script.
 */

import type { Fields } from "../codec/message.ts";
import { UsageError } from "./arguments.ts";
import { type CommandCall, outgoing, readCall } from "./call.ts";
import { type Metadata, readLine } from "./client_flags.ts";
import { exchange } from "./exchange.ts";
import { InputError } from "./input_file.ts";
import { linesOf } from "./lines.ts";
import type { Session } from "./session.ts";

/** How lines are run, those of a script and those that are typed. */
export interface ScriptOptions {
  readonly session: Session;
  /** Formats a reply. */
  readonly present: (call: CommandCall, fields: Fields) => string;
  readonly timeout: number | undefined;
  readonly json: boolean | undefined;
  readonly meta: Metadata | undefined;
  readonly maxPayloadBytes: number | undefined;
}

/** The lines of standard input. Bytes that are not UTF-8 are refused: replaced, they would be sent as other text. */
export async function* scriptLines(bytes: AsyncIterable<Uint8Array>): AsyncGenerator<string, void> {
  try {
    yield* linesOf(bytes, { fatal: true });
  } catch (error) {
    throw error instanceof TypeError ? new UsageError("standard input is not text in UTF-8") : error;
  }
}

/** Runs the lines; resolves to the exit code. */
export async function runScript(
  lines: AsyncIterable<string>,
  { session, present, timeout, json, maxPayloadBytes, ...options }: ScriptOptions,
): Promise<number> {
  let number = 0;
  let calls = 0;
  let failed = false;
  for await (const line of lines) {
    number++;
    if (line.trim() === "" || line.trimStart().startsWith("#")) continue;
    calls++;
    const ending = await atLine(number, () => {
      const { words, meta } = readLine(line, options.meta);
      const call = readCall(words);
      return exchange({
        session,
        call: outgoing(call, { meta, maxPayloadBytes, timeout }),
        timeout,
        json,
        show: (fields) => present(call, fields),
      });
    });
    failed ||= ending.failed;
    if (!ending.isRead) break;
  }
  if (calls === 0) throw new UsageError("specify a command to call, or pass calls as lines on stdin");
  return failed ? 1 : 0;
}

async function atLine<Result>(number: number, run: () => Promise<Result>): Promise<Result> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof UsageError) throw new UsageError(`line ${number}: ${error.message}`);
    throw error instanceof InputError ? new InputError(`line ${number}: ${error.message}`) : error;
  }
}
