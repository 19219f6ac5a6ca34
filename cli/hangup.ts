/**
 * Finds out what a SIGHUP means: whether to ignore it, as under `nohup`, and whether it comes from a terminal that has
 * closed.
 *
 * In: nothing. Out: true or false. Refused: nothing. The runtime does not respect that SIGHUP was ignored at the start.
 * Only programs with full read permission can find that out; for others the kind of output decides.
 */

import { fstatSync } from "node:fs";
import { isGranted } from "./permission.ts";

/** Whether this program was started with SIGHUP ignored. Call it before listening to any signal. */
export function isHangupIgnored(): boolean {
  if (Deno.build.os === "windows") return false;
  return ignoredBySystem() ?? outputLooksDetached();
}

/** Returns a function that tells whether the program's terminal has closed since this call. */
export function watchTerminal(): () => boolean {
  const terminals = [Deno.stdin, Deno.stdout, Deno.stderr].filter((stream) => stream.isTerminal());
  return () => terminals.some((stream) => !stream.isTerminal());
}

/** What Linux reports, in a mask whose lowest bit is SIGHUP; `undefined` if it cannot be read. */
function ignoredBySystem(): boolean | undefined {
  // Query only, so that no permission prompt appears on a terminal.
  if (!isGranted({ name: "read" })) return undefined;
  try {
    const [, mask] = Deno.readTextFileSync("/proc/self/status").match(/^SigIgn:\s*([0-9a-f]+)$/m) ?? [];
    return mask === undefined ? undefined : (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    return undefined;
  }
}

/** `nohup` leaves neither stdout nor stderr on a terminal; service managers and tests use pipes or sockets. */
function outputLooksDetached(): boolean {
  return [Deno.stdout, Deno.stderr].every((output, index) => {
    if (output.isTerminal()) return false;
    const info = fstatSync(index + 1);
    return !info.isFIFO() && !info.isSocket();
  });
}
