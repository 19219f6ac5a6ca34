/** Workers, as processes, that do not come to serve. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import type { commands } from "./half_started.ts";
import { onFreePort, Program, root } from "./programs.ts";
import { DENO, linuxOnly } from "./worker_programs.ts";

Deno.test("a worker that hangs before it serves ends when its supervisor is killed", linuxOnly, async () => {
  const args = [...DENO, `${root}tests/production/hanging_worker.ts`];
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

Deno.test("SIGTERM before all workers listen drains those that do, and loses no call", linuxOnly, async () => {
  await onFreePort(async (port) => {
    const args = [...DENO, `${root}tests/production/half_started.ts`, "--port", String(port)];
    await using program = await Program.start(Deno.execPath(), args, /worker 2 hangs\n/);
    await using client = await connect<typeof commands>({ port });
    const held = client.call.HOLD();
    await client.call.PING();
    program.kill("SIGTERM");
    assertEquals(await held, "finished");
    await program.hear(/worker 2 did not end in time and is killed\n/);
    await program.hear(/stopped; calls in flight: 1 finished, 0 cut\n/);
    assertEquals([(await program.status).code, program.said.includes("listening on")], [0, false]);
  });
});
