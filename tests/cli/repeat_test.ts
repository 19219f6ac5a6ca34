/** `client.ts --repeat`: each time, and the sum of them. */

import { assertEquals, assertMatch } from "@std/assert";
import { CallTimes } from "../../cli/repeat.ts";
import { runClient, ServerScript, startScript } from "./scripts.ts";

Deno.test("CallTimes has the mean and the standard deviation of all, however many they are", () => {
  const times = new CallTimes();
  for (const milliseconds of [2, 4, 4, 4, 5, 5, 7, 9]) times.answered(1e6 + milliseconds, milliseconds === 9);
  times.lost++;
  const counts = { sent: 9, answered: 8, failed: 1, lost: 1 };
  assertEquals(times.toJSON(), { ...counts, minMs: 1000002, avgMs: 1000005, maxMs: 1000009, stddevMs: 2 });
  assertEquals(
    String(times),
    "9 sent, 8 answered (1 with err), 1 lost\nmin/avg/max/stddev 1000002.000/1000005.000/1000009.000/2.000 ms",
  );
  assertEquals(String(new CallTimes()), "0 sent, 0 answered, 0 lost");
});

Deno.test("--repeat prints each reply with its time, and a summary", async () => {
  await using server = await ServerScript.start();
  const { code, stdout, stderr } = await runClient(server.port, ..."PING --repeat 3 --interval 0".split(" "));
  assertEquals([code, stderr], [0, ""]);
  assertMatch(
    stdout,
    /^(you said \{"res":"PONG"\} {2}\d+\.\d{3} ms\n){3}\n3 sent, 3 answered, 0 lost\nmin\/avg\/max\/stddev (\d+\.\d{3}[ /]){4}ms\n$/,
  );
  const { res } = JSON.parse((await runClient(server.port, "STATS", "--json")).stdout);
  assertEquals(res.connections.accepted, 2, "all over one connection");
});

Deno.test("--repeat tells programs in JSON, items of streams too", async () => {
  await using server = await ServerScript.start();
  const args = "TICK count=1 --repeat 2 --interval 0 --json".split(" ");
  const { code, stdout } = await runClient(server.port, ...args);
  const lines = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals(code, 0);
  assertEquals(lines.slice(0, 4).map(({ call, reply }) => [call, reply]), [
    [1, { res: 1, more: true }],
    [1, { res: 1 }],
    [2, { res: 1, more: true }],
    [2, { res: 1 }],
  ]);
  assertEquals([lines[4].sent, lines[4].answered, lines[4].lost], [2, 2, 0]);
});

Deno.test("--repeat: an answer with err is an answer, a call without one is lost, and the next dials again", async () => {
  await using server = await ServerScript.start();
  const failed = await runClient(server.port, ..."DELAY -1 --repeat 2 --interval 0".split(" "));
  assertEquals(failed.code, 1);
  assertMatch(failed.stdout, /^2 sent, 2 answered \(2 with err\), 0 lost$/m);
  const late = await runClient(server.port, ..."DELAY 60 --repeat 2 --interval 0 --timeout 0.5".split(" "));
  assertEquals([late.code, late.stdout, late.stderr], [
    3,
    "\n2 sent, 0 answered, 2 lost\n",
    "packline: call 1 is lost: no reply within 0.5 s\npackline: call 2 is lost: no reply within 0.5 s\n",
  ]);
  const { res } = JSON.parse((await runClient(server.port, "STATS", "--json")).stdout);
  assertEquals(res.connections.accepted, 4);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`--repeat 0 goes on until ${signal}`, async () => {
    await using server = await ServerScript.start();
    const client = startScript("client", [
      "--port",
      String(server.port),
      ..."PING --repeat 0 --interval 60".split(" "),
    ]);
    const [stdout, stderr] = [client.stdout.pipeThrough(new TextDecoderStream()).getReader(), client.stderr.cancel()];
    let text = "";
    while (!text.includes(" ms\n")) text += (await stdout.read()).value ?? "";
    client.kill(signal);
    for (let next = await stdout.read(); !next.done; next = await stdout.read()) text += next.value;
    await stderr;
    assertEquals((await client.status).code, 0);
    assertMatch(text, /\n\n1 sent, 1 answered, 0 lost\nmin/);
  });
}
