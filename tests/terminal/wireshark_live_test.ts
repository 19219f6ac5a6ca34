/** `examples/wireshark/packline.lua`, as its README says it, on what is captured on the loopback, where that is permitted. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../client.ts";
import { serve } from "../../server.ts";
import { Folder } from "../production/programs.ts";
import { commands, script, settings } from "../support/captures.ts";

/** Whether this user may capture here. */
function mayCapture(): boolean {
  try {
    const dumpcap = new Deno.Command("dumpcap", { args: ["-i", "lo", "-L"], stdout: "null", stderr: "null" });
    if (dumpcap.outputSync().success) return true;
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  console.log("skipped: a live capture on lo: to run it, install tshark (Debian's name), and be root");
  return false;
}

Deno.test({ name: "packline.lua shows what happens on the loopback", ignore: !mayCapture() }, async () => {
  await using server = await serve({ port: 0, commands });
  await using folder = await Folder.make();
  const child = new Deno.Command("tshark", {
    args: [
      // The README's command, and what a test needs beside it.
      ...["-X", `lua_script:${script}`, "-i", "lo", "-f", `tcp port ${server.port}`],
      ...["-o", `packline.port:${server.port}`, "-Y", "packline", "-l", "-a", "duration:15", "-T", "fields"],
      ...["-e", "_ws.col.Info", "-e", "packline.time"],
      ...["bad_header", "bad_terminator", "bad_message", "cut"].flatMap((what) => ["-e", `packline.${what}`]),
    ],
    env: settings(folder),
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const output = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
  let shown = "";
  const read = async (until: RegExp) => {
    while (!until.test(shown)) {
      const { value, done } = await output.read();
      assert(!done, `${until} was not shown in time, but: ${shown}`);
      shown += value;
    }
  };

  // It has begun to capture when it shows one of these.
  const beginning = read(/reply to PING/);
  while (!shown) {
    await using client = await connect({ port: server.port });
    await client.reply("PING");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  await beginning;
  {
    await using client = await connect({ port: server.port, commands, timeoutMs: Infinity });
    await client.reply("DELAY", { sleep: 0.01 });
    for await (const _ of client.stream("NUMBERS", { count: 2 }));
    await client.reply("ECHO", { value: "z".repeat(200_000) });
  }
  await read(/reply to command 16 .*\n/);
  child.kill("SIGINT");
  await child.status;
  await output.cancel();

  const captured = shown.trimEnd().split("\n").map((line) => line.split("\t"));
  const rows = captured.slice(captured.findIndex(([column]) => column.includes("DELAY")) - 1);
  // TCP may have said something in front of some.
  const all = rows.map(([column]) => column.replace(/^(\[TCP [^\]]*\] )+/, "")).join(" | ");
  // Once the first item has shown its size, credit for small ones crosses what the server sends.
  const credit = " | credit seq=1 credit=253";
  assertStringIncludes(all, credit);
  const lines = all.replace(credit, "");
  const expected = [
    /^settings max=1048576 alive=30000 notice=true \| DELAY seq=0 sleep=0.01 \| reply to DELAY seq=0 res="DONE" slept=0\.0\d+ \| /,
    / \| NUMBERS seq=1 count=2 credit=4 \| item to NUMBERS seq=1 res=1 \| item to NUMBERS seq=1 res=2 \| /,
    / \| reply to NUMBERS seq=1 res="all" \| command 16 seq=2 value="z+…" \| reply to command 16 seq=2 res="z+…"$/,
  ];
  for (const each of expected) assertMatch(lines, each);
  const delay = rows.find(([column]) => column.includes("reply to DELAY"));
  assert(Number(delay?.[1]) >= 0.01);
  assertEquals(rows.map(([, , ...flags]) => flags.join("")).join(""), "");
});
