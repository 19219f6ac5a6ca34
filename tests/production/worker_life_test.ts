/** Workers over a long life: what they print, an upgrade of Deno, and flags that they do not get. */

import { assertEquals } from "@std/assert";
import { connect } from "../../client.ts";
import { Folder, Program, root, run } from "./programs.ts";
import { clientsOfBoth, DENO, linuxOnly, startWorkers } from "./worker_programs.ts";

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

Deno.test("a line that a worker does not end is passed on in parts", linuxOnly, async () => {
  await using program = await startWorkers([
    ...DENO,
    `${root}tests/production/talking_service.ts`,
    ...["--port", "0", "--workers", "2"],
  ]);
  await using client = await connect({ port: program.port });
  for (let call = 0; call < 3; call++) await client.reply("BEGIN");
  await program.hear(/^\.{65536,}\n/m);
  // A message in the middle of such a line is one still.
  assertEquals((await client.reply("STATS", { all: true })).res.workers?.silent, []);
});

Deno.test("after an upgrade of Deno, workers are restarted with the new one", linuxOnly, async () => {
  await using folder = await Folder.make();
  const deno = `${folder.path}/deno`;
  await Deno.copyFile(Deno.execPath(), deno);
  await Deno.link(deno, `${deno}.new`);
  const args = [...DENO.slice(0, -1), `--allow-run=${deno}`, `${root}tests/cli/own_service.ts`, "--workers", "2"];
  await using program = await Program.start(deno, args, /listening on .*:\d+\n/);
  const [, port] = await program.hear(/:(\d+)\n/);
  await using client = await connect({ port: Number(port), lazy: true });
  // The file of the running Deno no longer has a name.
  await Deno.remove(deno);
  await Deno.rename(`${deno}.new`, deno);
  Deno.kill((await client.reply("PROCESS")).res, "SIGKILL");
  await program.hear(/worker \d is listening again\n/);
});

Deno.test("workers that do not listen without a flag of Deno are told where to list it", linuxOnly, async () => {
  await using folder = await Folder.make();
  await folder.write("far.json", JSON.stringify({ imports: { service: `${root}tests/cli/own_service.ts` } }));
  await folder.write(
    "main.ts",
    `import "service"; import { run } from ${JSON.stringify(`${root}mod.ts`)};
    await run({ port: 0, workers: 2 });`,
  );
  const args = [...DENO, `--config=${folder.path}/far.json`, `${folder.path}/main.ts`];
  const { code, text } = await run(Deno.execPath(), args, { env: { NO_COLOR: "1" } });
  const hint = "exit code 1 before it listened; see workerFlags for its permissions and flags of Deno";
  assertEquals([code, text.trimEnd().split("\n").at(-1)], [1, `packline: cannot start workers: ${hint}`]);
});
