/**
 * Makes a client of the library for the server that the flags name. Its calls can run at the same time.
 *
 * In: flags. Out: a client. Refused: what `server_address.ts` refuses.
 */

import { type Client, connect } from "../client/connect.ts";
import { DEFAULT_TIMEOUT_MS } from "../limits.ts";
import type { ClientFlags } from "./client_flags.ts";
import { addressOf, askPermission, dialOrExplain } from "./server_address.ts";

/** How long a call may take, in milliseconds. */
export function timeoutMsOf({ timeout }: ClientFlags): number {
  return timeout === undefined ? DEFAULT_TIMEOUT_MS : timeout * 1000;
}

/** Makes a client. A `lazy` client dials at its first call; any other is connected. */
export async function wholeClient(flags: ClientFlags, { lazy }: { lazy: boolean }): Promise<Client> {
  const { meta, maxPayloadBytes } = flags;
  const address = addressOf(flags);
  await askPermission(address);
  return await connect({
    ...{ lazy, meta, maxPayloadBytes, waitForReady: false, timeoutMs: timeoutMsOf(flags) },
    dial: (signal) => dialOrExplain(address, signal),
  });
}
