/** Workers over a long life: what they print, an upgrade of Deno, and flags that they do not get. */

import { assertEquals } from "@std/assert";
import { root } from "./programs.ts";
import { clientsOfBoth, DENO, linuxOnly } from "./worker_programs.ts";

Deno.test("lines of several workers stay whole on a stderr whose reader is slow", linuxOnly, async () => {
  const CALLS = 3_000;
  const args = [...DENO, `${root}tests/production/logging_service.ts`, "--port", "0", "--workers", "2"];
  const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "piped" }).spawn();
  const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let log = "";
  try {
    const [, port] = ((await output.read()).value ?? "").match(/listening on .*:(\d+)\n/) ?? [];
    await using both = await clientsOfBoth({ port: Number(port) });
    // Together more than a pipe holds, so both wait for room when the reader begins.
    for (const client of both.clients) {
      await Promise.all(Array.from({ length: CALLS }, () => client.call.PING()));
    }
    const reading = (async () => {
      for await (const text of child.stderr.pipeThrough(new TextDecoderStream())) log += text;
    })();
    child.kill("SIGTERM");
    assertEquals((await child.status).code, 0);
    await reading;
  } finally {
    try {
      child.kill("SIGKILL");
    } catch {
      // It has ended already.
    }
    await child.status;
    await output.cancel();
  }
  const calls = [0, 0, 0];
  for (const line of log.trimEnd().split("\n")) {
    const { command, worker } = JSON.parse(line);
    if (command === "PING") calls[worker]++;
  }
  assertEquals(calls, [0, CALLS, CALLS]);
});
