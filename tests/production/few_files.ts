/**
 * A TLS server whose clock runs twenty times as fast, for a test that lets it have few file descriptors. Not a test.
 *
 *     few_files.ts CERT KEY
 */

import { serve } from "../../server.ts";
import { type Clock, systemClock } from "../../transport/clock.ts";

const FASTER = 20;

const clock: Clock = {
  ...systemClock,
  now: () => systemClock.now() * FASTER,
  setTimer: (callback, delayMs, keepAlive) => systemClock.setTimer(callback, delayMs / FASTER, keepAlive),
};

// As the script has it; and whoever comes to need it later, without a file descriptor left, is ended by the runtime.
Deno.addSignalListener("SIGTERM", () => Deno.exit());

const [cert, key] = Deno.args.map((path) => Deno.readTextFileSync(path));
const server = await serve({ port: 0, tls: { cert, key }, clock });
console.log(`listening on ${server.address}`);
