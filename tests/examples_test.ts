/** Every program in `examples/`, run as a process of its own, against what it says it prints. */

import { assertEquals } from "@std/assert";

const examples = new URL("../examples/", import.meta.url);

/** What each program prints; the typed pair and the trace are run by tests of their own. */
const OUTPUT: Record<string, string[]> = {
  "stream.ts": ["2", "3", "5", "7", "11", "the handler has ended", "the handler stayed close to its reader"],
  "cancellation.ts": ["TIMEOUT", "CANCELLED", "the other service was too slow"],
  "token.ts": [
    "a note (Ada)",
    "FORBIDDEN: Grace may only read",
    "1.0",
    "UNAUTHENTICATED: meta.token is missing or not valid",
  ],
  "metrics.ts": [
    'packline_calls_total{command="PING"} 1',
    'packline_calls_total{command="DIVIDE"} 1',
    'packline_call_errors_total{command="DIVIDE",code="DIVISION_BY_ZERO"} 1',
    'packline_call_duration_seconds_count{command="PING"} 1',
    'packline_call_duration_seconds_count{command="DIVIDE"} 1',
  ],
};

function example(name: string, args: string[] = [], env: Record<string, string> = {}): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-prompt", "--allow-net=127.0.0.1", new URL(name, examples).pathname, ...args],
    env,
    stdout: "piped",
    stderr: "piped",
  });
}

for (const [name, expected] of Object.entries(OUTPUT)) {
  Deno.test(`examples/${name} prints what it says`, async () => {
    const { code, stdout, stderr } = await example(name).output();
    const lines = new TextDecoder().decode(stdout).trimEnd().split("\n");
    assertEquals([lines, code], [expected, 0], new TextDecoder().decode(stderr));
  });
}

Deno.test("examples/typed_service.ts and typed_client.ts speak to each other", async () => {
  const service = example("typed_service.ts", ["--port", "0"]).spawn();
  const reader = service.stdout.pipeThrough(new TextDecoderStream()).getReader();
  const { value: line = "" } = await reader.read();
  const port = line.match(/:(\d+)\n$/)?.[1] ?? "";
  const { code, stdout, stderr } = await example("typed_client.ts", [port]).output();
  service.kill("SIGINT");
  assertEquals((await service.status).code, 0);
  await reader.cancel();
  await service.stderr.cancel();
  assertEquals(
    [new TextDecoder().decode(stdout), code],
    ['found "On the Analytical Engine"\nlent to Ada, 1 left\nNO_SUCH_BOOK { id: 2 }\n', 0],
    new TextDecoder().decode(stderr),
  );
});

Deno.test("examples/tracing.ts joins the spans of callers and handlers to one trace", async () => {
  const env = { OTEL_DENO: "true", OTEL_EXPORTER_OTLP_PROTOCOL: "console", NO_COLOR: "1" };
  const { code, stdout, stderr } = await example("tracing.ts", [], env).output();
  const [lines, told] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals(code, 0, told);
  const spans = [...told.matchAll(/^SPAN (\w+) \[(\w+)\/(\w+)\] (\w+) .*\n(?: +parent: (\w+)\n)?/gm)].reverse();
  assertEquals(spans.map(([, name, , , kind]) => `${name} ${kind}`), [
    "ORDER Client",
    "ORDER Server",
    "STOCK Client",
    "STOCK Server",
  ]);
  const [trace] = spans.map(([, , trace]) => trace);
  assertEquals(spans.map(([, , of]) => of), Array(4).fill(trace));
  assertEquals(spans.map(([, , , , , parent]) => parent), [
    undefined,
    ...spans.slice(0, 3).map(([, , , span]) => span),
  ]);
  assertEquals(lines, `ORDER is called in trace ${trace}\nSTOCK is called in trace ${trace}\ntrue\n`);
});

Deno.test("every file in examples/ is run by a test", async () => {
  const files: string[] = [];
  for await (const { name, isFile } of Deno.readDir(examples)) if (isFile) files.push(name);
  assertEquals(files.sort(), [...Object.keys(OUTPUT), "typed_service.ts", "typed_client.ts", "tracing.ts"].sort());
});
