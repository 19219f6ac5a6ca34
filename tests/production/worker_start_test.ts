/** Workers, as processes, that do not come to serve. */

import { assertRejects } from "@std/assert";
import { Program, root } from "./programs.ts";

const linuxOnly = { ignore: Deno.build.os !== "linux" };

Deno.test("a worker that hangs before it serves ends when its supervisor is killed", linuxOnly, async () => {
  const permissions = ["--unstable-net", "--allow-net=127.0.0.1", `--allow-run=${Deno.execPath()}`];
  const args = ["run", "--no-prompt", ...permissions, `${root}tests/production/hanging_worker.ts`];
  await using program = await Program.start(Deno.execPath(), args, / hangs\n/);
  const [, worker] = await program.hear(/process (\d+) hangs\n/);
  program.kill("SIGKILL");
  try {
    // The last of them to end closes the stderr that they have in common.
    await assertRejects(() => program.hear(/a word more/), Error, "the program ended");
  } catch (error) {
    Deno.kill(Number(worker), "SIGKILL");
    throw error;
  }
});
