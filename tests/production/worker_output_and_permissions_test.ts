/** Workers and what they print, and the permissions of a server with and without them. */

import { assertEquals } from "@std/assert";
import { connect } from "../../client.ts";
import { messageMark } from "../../cli/worker_process.ts";
import { Folder, root } from "./programs.ts";
import { clientsOfBoth, DENO, linuxOnly, startMortals, startWorkers } from "./worker_programs.ts";

Deno.test("what a handler prints of its callers is no message of its worker", linuxOnly, async () => {
  await using program = await startMortals();
  await using both = await clientsOfBoth({ port: program.port });
  const [client] = both.clients;
  const pid = (await client.reply("PROCESS")).res;
  const report = JSON.stringify({ type: "drained", report: { finished: 9, cut: 9 } });
  for (const text of ["\0packline x", `\0packline ${report}`, `${messageMark("")}${report}`, `${messageMark("x")}x`]) {
    await client.reply("SAY", { text });
    await program.hear(new RegExp(RegExp.escape(text)));
  }
  assertEquals((await client.reply("PROCESS")).res, pid);
});

Deno.test(
  "workers whose output nobody reads serve on, and their server ends when it is told to",
  linuxOnly,
  async () => {
    const args = [...DENO, `${root}tests/production/talking_service.ts`, "--port", "0", "--workers", "2"];
    const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "null" }).spawn();
    const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    try {
      const [, port] = ((await output.read()).value ?? "").match(/listening on .*:(\d+)\n/) ?? [];
      await using client = await connect({ port: Number(port), timeoutMs: 20_000 });
      // 10 MB, more than a pipe and the lines that are kept.
      for (let call = 0; call < 100; call++) assertEquals((await client.reply("SAY")).res, null);
      child.kill("SIGTERM");
      assertEquals((await child.status).code, 0);
    } finally {
      try {
        child.kill("SIGKILL");
      } catch {
        // It has ended already.
      }
      await child.status;
      await output.cancel();
    }
  },
);

Deno.test("a server that runs alone gives back the permission to start Deno", async () => {
  const code = `
    import { main } from "${new URL("../../cli/serve.ts", import.meta.url)}";
    const command = Deno.execPath();
    const state = async () => (await Deno.permissions.query({ name: "run", command })).state;
    const before = await state();
    await main(["--port", "0", ...Deno.args]);
    console.log(before, await state());`;
  await using folder = await Folder.make();
  await folder.write("main.ts", code);
  await folder.write("commands.ts", "export const commands = { ONE: { handler: () => 1 } };");
  const args = [...DENO, `--allow-read=${folder.path}`, `--config=${root}deno.json`, `${folder.path}/main.ts`];
  for (const more of [[], [`--commands=${folder.path}/commands.ts`]]) {
    await using program = await startWorkers([...args, ...more]);
    program.kill("SIGTERM");
    await program.hear(/^granted prompt$/m);
  }
});

Deno.test("commands keep the permission to start any program", async () => {
  const code = `
    const state = async () => (await Deno.permissions.query({ name: "run" })).state;
    export const commands = { MAY: { handler: state } };`;
  await using folder = await Folder.make();
  await folder.write("commands.ts", code);
  const args = ["run", "-A", `${root}server.ts`, "--port", "0", `--commands=${folder.path}/commands.ts`];
  await using program = await startWorkers(args);
  await using client = await connect({ port: program.port });
  assertEquals((await client.reply("MAY")).res, "granted");
});
