/** A server in a thread of its own, with a command that computes for 5 ms. Out: its port, as a message. */

import { command, serve } from "../../mod.ts";

const COMPUTE_MS = 5;

const COMPUTE = command(() => {
  for (const endMs = performance.now() + COMPUTE_MS; performance.now() < endMs;);
  return null;
});

const server = await serve({ port: 0, commands: { COMPUTE } });
// deno-lint-ignore no-explicit-any -- the types of a worker are not those of this program
(self as any).postMessage(server.port);
