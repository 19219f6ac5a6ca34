/** `cli/prometheus.ts`: the text that Prometheus reads, judged by its own `promtool`. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { prometheusText } from "../../cli/prometheus.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { DURATION_BOUNDS_MS } from "../../handlers/statistics.ts";
import { runClient, ServerScript } from "./scripts.ts";

const STATISTICS: ServerStatistics = {
  uptime: 12.5,
  connections: { open: 1, accepted: 20, refused: 0 },
  inFlight: 3,
  bytes: { received: 212, sent: 1793 },
  refused: { badFrame: 0, invalidMessage: 1, truncated: 0, unknownCommand: 2, overloaded: 3 },
  lateReplies: 4,
  draining: false,
  limits: { maxConnections: 10_000, maxInFlightTotal: 65_536 },
  commands: {
    'A "B"\\\n': {
      calls: 5,
      errors: { 'C"\n': 2 },
      inFlight: 3,
      totalMs: 12_500,
      maxMs: 12_000,
      durations: [...DURATION_BOUNDS_MS.map((_, place) => place < 2 ? 2 : 0), 1],
    },
  },
};

/** What `promtool` says of a text, if it is there. */
async function judge(text: string): Promise<{ code: number; said: string } | undefined> {
  let promtool: Deno.ChildProcess;
  try {
    const options = { stdin: "piped", stdout: "piped", stderr: "piped" } as const;
    promtool = new Deno.Command("promtool", { args: ["check", "metrics"], ...options }).spawn();
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
  await new Blob([text]).stream().pipeTo(promtool.stdin);
  const { code, stdout, stderr } = await promtool.output();
  return { code, said: new TextDecoder().decode(stdout) + new TextDecoder().decode(stderr) };
}

const ignore = await judge("\n") === undefined;
if (ignore) console.log("skipped: promtool checks the metrics: to run it, install prometheus (Debian's name)");

Deno.test("prometheusText() has every count, and escapes labels", () => {
  const lines = prometheusText(STATISTICS)?.split("\n") ?? [];
  const command = String.raw`command="A \"B\"\\\n"`;
  for (
    const line of [
      "# TYPE packline_connections_accepted_total counter",
      "packline_uptime_seconds 12.5",
      "packline_connections 1",
      "packline_connections_accepted_total 20",
      "packline_received_bytes_total 212",
      'packline_refused_total{reason="unknown_command"} 2',
      'packline_refused_total{reason="overloaded"} 3',
      "packline_late_replies_total 4",
      "packline_handlers_running 3",
      "packline_draining 0",
      "packline_max_connections 10000",
      "packline_max_handlers_running 65536",
      `packline_calls_in_flight{${command}} 3`,
      `packline_calls_total{${command}} 5`,
      String.raw`packline_call_errors_total{${command},code="C\"\n"} 2`,
      "# TYPE packline_call_duration_seconds histogram",
      `packline_call_duration_seconds_bucket{${command},le="0.0001"} 2`,
      `packline_call_duration_seconds_bucket{${command},le="0.00025"} 4`,
      `packline_call_duration_seconds_bucket{${command},le="10"} 4`,
      `packline_call_duration_seconds_bucket{${command},le="+Inf"} 5`,
      `packline_call_duration_seconds_sum{${command}} 12.5`,
      `packline_call_duration_seconds_count{${command}} 5`,
    ]
  ) assert(lines.includes(line), `${line}\n\nis not in\n\n${lines.join("\n")}`);
});

Deno.test("prometheusText() lets nothing of a server's reach the terminal as a command", () => {
  const [counts] = Object.values(STATISTICS.commands);
  const text = prometheusText({ ...STATISTICS, commands: { "\x1b[2J\r": counts } }) ?? "";
  assertEquals(text.includes(String.raw`packline_calls_total{command="\\u001b[2J\\u000d"} 5`), true);
});

Deno.test("prometheusText() writes each series once, also if two texts are escaped to the same one", () => {
  const counts = STATISTICS.commands['A "B"\\\n'];
  const errors = { "\x1b": 1, "\\u001b": 2, C: 4 };
  const text = prometheusText({ ...STATISTICS, commands: { FIND: { ...counts, errors } } }) ?? "";
  const lines = text.split("\n").filter((line) => line.includes("call_errors_total{"));
  assertEquals(lines, [
    String.raw`packline_call_errors_total{command="FIND",code="\\u001b"} 3`,
    'packline_call_errors_total{command="FIND",code="C"} 4',
  ]);
});

Deno.test("prometheusText() refuses what is no answer to STATS, and does without durations", () => {
  for (const answer of [undefined, null, 1, "text", [], {}, { ...STATISTICS, bytes: { sent: "1\n" } }]) {
    assertEquals(prometheusText(answer), undefined);
  }
  for (const bad of [{ draining: 1 }, { limits: {} }, { limits: { maxConnections: 1, maxInFlightTotal: "1" } }]) {
    assertEquals(prometheusText({ ...STATISTICS, ...bad }), undefined);
  }
  const { draining, limits, ...older } = STATISTICS;
  assertEquals([draining, typeof limits], [false, "object"]);
  assert(!/draining|max_/.test(prometheusText(older) ?? ""));
  assertStringIncludes(prometheusText({ ...STATISTICS, draining: true }) ?? "", "packline_draining 1\n");
  const fewer = prometheusText({ ...STATISTICS, connections: { open: 1 }, refused: {} }) ?? "";
  assertStringIncludes(fewer, "packline_connections 1\n");
  assert(!/NaN|undefined|refused/.test(fewer), fewer);
  const { durations: _, ...counts } = STATISTICS.commands['A "B"\\\n'];
  for (const bad of [{ ...counts, errors: { A: "1" } }, { ...counts, durations: ["1"] }, null]) {
    assertEquals(prometheusText({ ...STATISTICS, commands: { A: bad } }), undefined);
  }
  const text = prometheusText({ ...STATISTICS, commands: { A: counts } }) ?? "";
  assertStringIncludes(text, 'packline_calls_total{command="A"} 5');
  assert(!text.includes("duration"));
  assert(!(prometheusText({ ...STATISTICS, commands: {} }) ?? "").includes("calls_total"));
});

Deno.test("promtool finds nothing to say about the metrics", { ignore }, async () => {
  assertEquals(await judge(`${prometheusText(STATISTICS)}\n`), { code: 0, said: "" });
  // And it does judge.
  assertEquals((await judge("# TYPE a counter\na 1\n"))?.code, 3);
});

Deno.test("client.ts STATS --format prometheus prints the metrics of a server", async () => {
  await using server = await ServerScript.start();
  await runClient(server.port, "DELAY", "-1");
  const { code, stdout, stderr } = await runClient(server.port, "STATS", "--format", "prometheus");
  assertEquals([code, stderr], [0, ""]);
  assertStringIncludes(stdout, 'packline_call_errors_total{command="DELAY",code="INVALID_SLEEP"} 1\n');
  assertStringIncludes(stdout, 'packline_call_duration_seconds_bucket{command="DELAY",le="+Inf"} 1\n');
  const judgement = await judge(stdout);
  if (judgement) assertEquals(judgement, { code: 0, said: "" });
});
