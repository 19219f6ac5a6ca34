/**
 * Whether SIGHUP is to be ignored, as it is under `nohup`.
 *
 * In: nothing. Out: true or false. The runtime handles signals itself, and does not heed that SIGHUP was ignored when it
 * began. It tells that only to programs that may read everything; for others the output decides.
 */

import { fstatSync } from "node:fs";

/** Says, before any signal is listened to, whether this program was started with SIGHUP ignored. */
export function isHangupIgnored(): boolean {
  if (Deno.build.os === "windows") return false;
  return ignoredBySystem() ?? outputLooksDetached();
}

/** What Linux tells, in a mask whose lowest bit is SIGHUP; `undefined` where it may not be read. */
function ignoredBySystem(): boolean | undefined {
  // Without a question: no permission is asked for on a terminal.
  if (Deno.permissions.querySync({ name: "read" }).state !== "granted") return undefined;
  try {
    const [, mask] = Deno.readTextFileSync("/proc/self/status").match(/^SigIgn:\s*([0-9a-f]+)$/m) ?? [];
    return mask === undefined ? undefined : (BigInt(`0x${mask}`) & 1n) === 1n;
  } catch {
    return undefined;
  }
}

/** `nohup` leaves neither stdout nor stderr on a terminal; a service manager and a test have them on pipes or sockets. */
function outputLooksDetached(): boolean {
  return [Deno.stdout, Deno.stderr].every((output, index) => {
    if (output.isTerminal()) return false;
    const info = fstatSync(index + 1);
    return !info.isFIFO() && !info.isSocket();
  });
}
