/** `client.ts --bench` as a program: what it prints, and how it ends. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { connect } from "../../client.ts";
import { runClient, ServerScript, startScript } from "./scripts.ts";

Deno.test("--bench tells how fast it was, and the server has seen every call", async () => {
  await using server = await ServerScript.start();
  const { code, stdout, stderr } = await runClient(server.port, ..."--bench PING -c 5 -n 2000 -P 16".split(" "));
  assertEquals([code, stderr], [0, ""]);
  assertMatch(
    stdout,
    /^PING: 2,000 calls in \d+\.\d+ s; 5 connections, 16 in flight on each\n\n[\d,]+ calls\/s\n\nlatency in ms, percentiles within 0\.5 %:\n +min +mean +p50 +p90 +p99 +p99\.9 +max\n( +\d+\.\d+){7}\n\n/,
  );
  assertMatch(stdout, /^ +<= \S+ +#+ +\d+\.\d\d % +[\d,]+\n/m);
  const { res } = JSON.parse((await runClient(server.port, "STATS", "--json")).stdout);
  assertEquals([res.commands.PING.calls, res.connections.accepted], [2000, 6]);
});

Deno.test("--bench takes any command with its parameters, a duration and a rate, and tells programs in JSON", async () => {
  await using server = await ServerScript.start();
  const { code, stdout } = await runClient(
    server.port,
    ..."--bench DELAY 0.001 --connections=2 -z 0.3 -r 100 --json".split(" "),
  );
  const result = JSON.parse(stdout);
  assertEquals([code, result.command, result.params], [0, "DELAY", { sleep: 0.001 }]);
  assertEquals([result.connections, result.inFlight, result.rate, result.errors], [2, 1, 100, {}]);
  // A machine that is busy may make fewer, and says so.
  assertEquals(result.settled + result.overdue, 30);
  const { min, p50, p90, p99, "p99.9": p999, max } = result.latencyMs;
  const ascending = [1, min, p50, p90, p99, p999, max];
  assertEquals(ascending, ascending.toSorted((a, b) => a - b));
  assertEquals(result.histogram.reduce((sum: number, { calls }: { calls: number }) => sum + calls, 0), result.settled);
});

Deno.test("--bench counts failures by code, and ends with 1", async () => {
  await using server = await ServerScript.start("--max-in-flight-total", "1");
  const { code, stdout } = await runClient(server.port, ..."--bench DELAY -1 -c 1 -n 10".split(" "));
  assertEquals(code, 1);
  // Before the rate, which would look like a success.
  assertMatch(stdout, /^DELAY: 10 calls in [\d.]+ s, all failed; 1 connection, /);
  assertMatch(stdout, /^[\d,]+ failed calls\/s$/m);
  assertMatch(stdout, /^failed with INVALID_SLEEP: 10$/m);
});

Deno.test("--bench ends with 3 where calls got no reply, or the server cannot be reached", async () => {
  await using server = await ServerScript.start();
  const lost = await runClient(server.port, ..."--bench DELAY 60 -c 1 -n 2 -P 2 --timeout 0.1".split(" "));
  assertEquals([lost.code, lost.stderr], [3, ""]);
  assertMatch(
    lost.stdout,
    /^failed with TIMEOUT: 2 \(no reply within 100 ms: sent to 127\.0\.0\.1:\d+ after \d+ ms\)$/m,
  );
  const stream = await runClient(server.port, ..."--bench TICK -c 1 -n 1".split(" "));
  assertMatch(
    stream.stdout,
    /^failed with BAD_REPLY: 1 \(command TICK returns a stream: this needs a command that answers once\)$/m,
  );
  const { port } = server;
  server.process.kill("SIGKILL");
  await server.process.status;
  const { code, stdout, stderr } = await runClient(port, "--bench", "PING");
  assertEquals([code, stdout], [3, ""]);
  assertMatch(stderr, /^packline: cannot reach 127\.0\.0\.1:\d+: connection refused; is the server running\?\n$/);
});

Deno.test("--bench ends in its time, or soon, where the server has gone", async () => {
  for (const args of [["-z", "2"], ["-n", "1000000000"]]) {
    await using server = await ServerScript.start();
    const flags = ["--port", String(server.port), "--bench", "PING", "-c", "4", "--json", ...args];
    const output = startScript("client", flags).output();
    await pingsAnswered(server.port, 100 + 2); // the last reply on each of two connections may still be on its way
    const startMs = performance.now();
    server.process.kill("SIGKILL");
    const { code, stdout, stderr } = await output;
    assertEquals([code, new TextDecoder().decode(stderr)], [
      3,
      "packline: the server is gone: no connection is left\n",
    ]);
    const { settled, unanswered } = JSON.parse(new TextDecoder().decode(stdout));
    assert(settled >= 100 && unanswered === 4, `${settled} settled, ${unanswered} not`);
    const seconds = (performance.now() - startMs) / 1000;
    assert(seconds < 15, `${seconds} s with ${args.join(" ")}`);
  }
});

/** Waits until the server has answered so many PINGs. */
async function pingsAnswered(port: number, calls: number): Promise<void> {
  await using client = await connect({ port });
  while ((await client.reply("STATS")).res.commands.PING.calls < calls);
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`--bench: ${signal} prints what there is so far`, async () => {
    await using server = await ServerScript.start();
    const bench = startScript("client", [
      "--port",
      String(server.port),
      ..."--bench PING -c 2 -z 600 --json".split(" "),
    ]);
    const output = bench.output();
    // As soon as the server has answered some, the signal is listened for.
    await pingsAnswered(server.port, 100 + 2); // the last reply on each of two connections may still be on its way
    bench.kill(signal);
    const { code, stdout } = await output;
    const { settled, sent, unanswered } = JSON.parse(new TextDecoder().decode(stdout));
    assertEquals([code, sent - settled], [0, unanswered]);
    assert(settled >= 100, `${settled} settled`);
  });
}
