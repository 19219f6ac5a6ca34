/** A service with a command that prints 100 KB on stdout. Not a test. */

import { command, run } from "../../mod.ts";

const SAY = command(() => {
  for (let line = 0; line < 100; line++) console.log("x".repeat(1_000));
  return null;
});

await run({ commands: { SAY } });
