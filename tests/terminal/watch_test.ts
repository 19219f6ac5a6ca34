/** `client.ts STATS --watch`: replies in place on a terminal, one behind the other elsewhere. */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { serve } from "../../server.ts";
import { startScript } from "../cli/scripts.ts";
import { PseudoTerminal, testInTerminal } from "./pseudo_terminal.ts";

testInTerminal("STATS --watch is shown in place, until Ctrl-C", async () => {
  await using server = await serve({ port: 0 });
  await using terminal = PseudoTerminal.client(server.port, ["STATS", "--watch", "0.01"]);
  const first = await terminal.until("A\x1b[J");
  const rows = first.slice(first.indexOf("uptime")).split("\n").length - 1;
  assertMatch(first, /uptime, seconds +\d/);
  assert(rows >= 15 && rows < 24, first);
  assert(first.endsWith(`\n\x1b[${rows}A\x1b[J`), JSON.stringify(first.slice(-20)));
  await terminal.until("A\x1b[J");
  // One connection for all of them.
  const third = await terminal.until("A\x1b[J");
  assertMatch(third, /^connections, accepted +1\r$/m);
  assertMatch(third, /^STATS +2 /m);
  await terminal.type("\x03");
  const { code, rest } = await terminal.end();
  assertEquals([code, rest.includes("packline:")], [0, false]);
});

testInTerminal(
  "what does not fit on the terminal is cut, and a server that has gone is told and watched on",
  async () => {
    const commands = Object.fromEntries(
      Array.from({ length: 30 }, (_, place) => [`COMMAND_${place}`, { handler: () => ({ res: 0 }) }]),
    );
    let server = await serve({ port: 0, commands });
    const { port } = server;
    await using terminal = PseudoTerminal.client(port, ["STATS", "--watch", "0.01"], { NO_COLOR: "1" });
    assertStringIncludes(await terminal.until("A\x1b[J"), "\n\x1b[23A\x1b[J");
    await server.shutdown({ graceMs: 0 });
    await terminal.until(`packline: cannot reach 127.0.0.1:${port}: connection refused`);
    server = await serve({ port, commands });
    assertMatch(await terminal.until("A\x1b[J"), /\nuptime, seconds /);
    await terminal.type("\x03");
    assertEquals((await terminal.end()).code, 3);
    await server.shutdown();
  },
);

testInTerminal("on a terminal of unknown size, each reply comes below the previous one", async () => {
  await using server = await serve({ port: 0 });
  const args = [...PseudoTerminal.clientCommand(server.port), "STATS", "--watch", "0.01"];
  await using terminal = new PseudoTerminal(args, {}, 0);
  const before = await terminal.until("\nSTATS    1 ");
  const third = await terminal.until("\nSTATS    3 ");
  await terminal.type("\x03");
  assertEquals([(await terminal.end()).code, before.includes("NaN"), third.includes("NaN")], [0, false, false]);
  assert(!third.includes("A\x1b[J"), JSON.stringify(third));
});

Deno.test("without a terminal, or with --json, --watch prints one reply after the other", async () => {
  await using server = await serve({ port: 0 });
  const port = String(server.port);
  const [json, table] = [["--json"], []].map((args) =>
    startScript("client", ["--port", port, "STATS", "--watch", "0.01", ...args])
  );
  const read = async (client: Deno.ChildProcess, isEnough: (text: string) => boolean) => {
    let text = "";
    let isEnded = false;
    for await (const part of client.stdout.pipeThrough(new TextDecoderStream())) {
      text += part;
      // A second signal would end it at once.
      if (!isEnded && isEnough(text)) client.kill("SIGINT");
      isEnded ||= isEnough(text);
    }
    const [{ code }, stderr] = await Promise.all([client.status, new Response(client.stderr).text()]);
    assertEquals([code, stderr], [0, ""]);
    return text;
  };
  const [lines, tables] = await Promise.all([
    read(json, (text) => text.split("\n").length >= 4),
    read(table, (text) => text.split("uptime").length >= 3),
  ]);
  const replies = lines.trimEnd().split("\n").map((line) => JSON.parse(line).res.commands.STATS.calls);
  assert(replies.length >= 3);
  assertMatch(tables, /^uptime[^]*\n\nuptime/);
  assertEquals(tables.includes("\x1b"), false);
});
