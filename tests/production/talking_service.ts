/** A service with commands that print 100 KB on stdout: lines, or one that has no end. Not a test. */

import { command, run } from "../../mod.ts";

const SAY = command(() => {
  for (let line = 0; line < 100; line++) console.log("x".repeat(1_000));
  return null;
});

const BEGIN = command(() => {
  for (let part = 0; part < 10; part++) Deno.stdout.writeSync(new TextEncoder().encode(".".repeat(10_000)));
  return null;
});

await run({ commands: { SAY, BEGIN } });
