/** A service whose workers hang before they serve. Not a test. */

import { run } from "../../mod.ts";

if (Deno.args.includes("--packline-worker")) {
  console.error(`process ${Deno.pid} hangs`);
  setInterval(() => {}, 1_000_000); // a socket to a database that does not answer, for example
  await new Promise(() => {});
}
await run({ commands: {}, port: 0, workers: 2 });
