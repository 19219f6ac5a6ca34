/**
 * Asks a server for its commands, and finds one of them.
 *
 * In: a session, a name. Out: the commands as INFO lists them, or one of them. Refused, by an `RpcError`: a server that
 * cannot be asked, refuses to list them, or does not reply soon (`TIMEOUT`), and a name that it does not list
 * (`CMD_NOT_FOUND`), with the command that was probably meant.
 */

import { RpcError } from "../errors.ts";
import { outgoing, type OutgoingOptions } from "./call.ts";
import { closest } from "./closest.ts";
import { knownCommands } from "./completion.ts";
import type { Session } from "./session.ts";
import { commandsOf } from "./reports.ts";

/** How long to wait for the list, which is only an aid to other calls. */
const LIST_MS = 2_000;

/** The commands that a server lists, with their shapes if requested; empty if it has no INFO, or another one. */
export async function listCommands(
  session: Session,
  { shapes, ...options }: OutgoingOptions & { readonly shapes?: boolean },
): Promise<readonly unknown[]> {
  const late = AbortSignal.timeout(LIST_MS);
  let listed: readonly unknown[] = [];
  try {
    const info = outgoing({ name: "INFO", params: shapes ? { shapes } : {} }, options);
    for await (const { fields } of session.ask(info, late)) {
      const { err, msg = err } = fields;
      if (typeof err === "string" && err !== "CMD_NOT_FOUND") {
        throw new RpcError(err, `the server does not list its commands: ${msg}`);
      }
      listed = commandsOf(fields.res) ?? [];
    }
    return listed;
  } catch (error) {
    if (late.aborted) throw new RpcError("TIMEOUT", `no reply from the server within ${LIST_MS / 1000} s`);
    throw error;
  }
}

/** One of the listed commands. */
export function findCommand(listed: readonly unknown[], name: string): unknown {
  const found = listed.find((command) => (command as { name?: unknown } | null)?.name === name);
  if (found !== undefined) return found;
  const meant = closest(name, knownCommands(listed).map((command) => command.name));
  throw new RpcError("CMD_NOT_FOUND", `the server has no command "${name}"${meant ? ` (did you mean ${meant}?)` : ""}`);
}
