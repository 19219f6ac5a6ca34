/** What OpenTelemetry is told about calls, seen by a collector: programs run with `OTEL_DENO=true`, and one without. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { command, connect, RpcError, serve, unchecked } from "../mod.ts";
import { clientTelemetry, serverTelemetry } from "../session/telemetry.ts";
import { type CollectedSpan, Collector } from "./support/collector.ts";

const program = new URL("support/traced_calls.ts", import.meta.url).pathname;

// deno-lint-ignore no-explicit-any -- JSON of the program
type Told = { port: number; result: any };

function start(kind: string, env: Record<string, string>, url = ""): Deno.ChildProcess {
  return new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-net=127.0.0.1", program, kind, url],
    env: { NO_COLOR: "1", ...env },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
}

/** Runs the program to its end. All of its spans have come by then. */
async function run(kind: string, env: Record<string, string>, url?: string): Promise<Told> {
  const child = start(kind, env, url);
  await child.stdin.close();
  const { code, stdout, stderr } = await child.output();
  const [told, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  assertEquals([code, errors], [0, ""], told);
  return JSON.parse(told);
}

/** What is said of a span's failure. */
function failureOf({ attributes, isError }: CollectedSpan): [unknown, unknown, boolean] {
  return [attributes["error.type"], attributes["rpc.response.status_code"], isError];
}

function assertChild(child: CollectedSpan, parent: CollectedSpan): void {
  assertEquals([child.traceId, child.parentSpanId], [parent.traceId, parent.spanId], `${child.name} ${child.kind}`);
}

/** The names in the first column of a table of docs/telemetry.md. */
async function documented(heading: string): Promise<string[]> {
  const text = await Deno.readTextFile(new URL("../docs/telemetry.md", import.meta.url));
  const [, section = ""] = text.match(new RegExp(`^## ${heading}\n(.*?)(?=^## |$(?![^]))`, "ms")) ?? [];
  return [...section.matchAll(/^\| `([^`]+)` /gm)].map(([, name]) => name).sort();
}

Deno.test("a call has a span at each end, named and described by the conventions", async () => {
  await using collector = new Collector();
  const { port } = await run("one", collector.env);
  const [caller, handler] = [collector.span("GREET", "client"), collector.span("GREET", "server")];
  const both = { "rpc.system.name": "packline", "rpc.method": "GREET" };
  const server = { "server.address": "127.0.0.1", "server.port": port };
  const peer = { "network.peer.address": "127.0.0.1", "network.peer.port": port };
  assertEquals(caller.attributes, { ...both, ...server, ...peer });
  const callersPort = handler.attributes["network.peer.port"];
  assertEquals(handler.attributes, { ...both, ...peer, "network.peer.port": callersPort });
  assert(typeof callersPort === "number" && callersPort !== port, `${callersPort}`);
  assertEquals([caller.parentSpanId, caller.isError, handler.isError], ["", false, false]);
  assertChild(handler, caller);
});

Deno.test("a failure is told by its code at both ends", async () => {
  await using collector = new Collector();
  await run("failures", collector.env);
  const codes = {
    REFUSE: "NO_SUCH_BOOK",
    BREAK: "INTERNAL",
    SEND_A_MAP: "REPLY_NOT_ENCODABLE",
    HANG: "CANCELLED",
  };
  for (const [name, code] of Object.entries(codes)) {
    for (const kind of ["client", "server"]) {
      assertEquals(failureOf(collector.span(name, kind)), [code, code, true], `${name} ${kind}`);
    }
  }
  const unknown = collector.span("NO_SUCH_COMMAND", "client");
  assertEquals(failureOf(unknown), ["CMD_NOT_FOUND", "CMD_NOT_FOUND", true]);
  const refused = collector.span("_OTHER", "server");
  assertChild(refused, unknown);
  assertEquals(refused.attributes["rpc.method_original"], "NO_SUCH_COMMAND");
  assertEquals(failureOf(refused), ["CMD_NOT_FOUND", "CMD_NOT_FOUND", true]);
  assertEquals(failureOf(collector.span("STORE", "client")), ["TypeError", undefined, true]);
  assertEquals(failureOf(collector.span("STORE", "server")), ["CANCELLED", "CANCELLED", true]);
});

Deno.test("a call that no handler has seen has a span at the server, too", async () => {
  await using collector = new Collector();
  await run("refused", collector.env);
  const codes = collector.spans.filter(({ name }) => name === "GREET").map((span) => failureOf(span)[0]);
  assertEquals(codes, ["OVERLOADED", "DEADLINE_EXCEEDED", "CANCELLED"]);
  const [overloaded] = collector.spans.filter(({ name }) => name === "GREET");
  assertEquals([overloaded.kind, overloaded.traceId], ["server", "0af7651916cd43dd8448eb211c80319c"]);
  assertEquals(failureOf(collector.span("_OTHER", "server")), ["INVALID_MESSAGE", "INVALID_MESSAGE", true]);
});

Deno.test("what a handler calls and fetches is a child of its own span, also after an await and beside another", async () => {
  await using collector = new Collector();
  const { OTEL_EXPORTER_OTLP_ENDPOINT: url } = collector.env;
  await run("parents", collector.env, url);
  const outer = collector.spans.filter(({ name, kind }) => name === "OUTER" && kind === "server");
  assertEquals(outer.length, 2);
  const parents = ["LEFT", "RIGHT"].map((name) => {
    const caller = collector.span(name, "client");
    assertChild(collector.span(name, "server"), caller);
    const parent = outer.find(({ spanId }) => spanId === caller.parentSpanId);
    if (parent === undefined) throw new Error(`${name} is a child of ${caller.parentSpanId}`);
    assertChild(caller, parent);
    return parent;
  });
  assert(parents[0] !== parents[1]);
  assertChild(collector.span("POST", "client"), collector.span("FETCH", "server"));
});

Deno.test("a handler that passes on the metadata of its call stays the parent of the calls that it makes", async () => {
  await using collector = new Collector();
  await run("forwarded", collector.env);
  const spansOf = (name: string, kind: string) =>
    collector.spans.filter((span) => span.name === name && span.kind === kind);
  const handlers = spansOf("FORWARD", "server");
  assertEquals(handlers.length, 2);
  for (const handler of handlers) {
    const [inside, ...more] = spansOf("LEFT", "client").filter(({ traceId }) => traceId === handler.traceId);
    assertEquals(more, []);
    assertChild(inside, handler);
  }
});

Deno.test("a request without a traceparent begins a trace, whatever has run before it", async () => {
  await using collector = new Collector();
  await run("bare", collector.env);
  const [left, right] = [collector.span("LEFT", "server"), collector.span("RIGHT", "server")];
  assertEquals([left.parentSpanId, right.parentSpanId], ["", ""]);
  assert(left.traceId !== right.traceId);
});

Deno.test("the span of a call whose caller has vanished ends with CONNECTION_LOST", async () => {
  await using collector = new Collector();
  await run("gone", collector.env);
  const lost = "CONNECTION_LOST";
  assertEquals(failureOf(collector.span("HANG", "server")), [lost, lost, true]);
});

Deno.test("the span of a stream ends with the stream, at both ends and in both directions", async () => {
  await using collector = new Collector();
  await run("streams", collector.env);
  const count = collector.span("COUNT", "server");
  const inside = collector.span("LEFT", "client");
  assertChild(inside, count); // made by the generator after its first item
  assertChild(count, collector.span("COUNT", "client"));
  assert(count.endedMs > inside.endedMs);
  assert(collector.span("COUNT", "client").endedMs > inside.endedMs);
  // A reader that has left has what it wanted; the handler was cancelled.
  assertEquals(failureOf(collector.span("FOREVER", "client")), [undefined, undefined, false]);
  assertEquals(failureOf(collector.span("FOREVER", "server")), ["CANCELLED", "CANCELLED", true]);
  const store = collector.span("STORE", "client");
  const source = collector.span("RIGHT", "client");
  assertChild(source, store); // made by the caller's source after its first item
  assert(store.endedMs > source.endedMs && collector.span("STORE", "server").endedMs > source.endedMs);
});

Deno.test("a traceparent that the caller gives is the parent of the call's span, and one that is none is replaced", async () => {
  await using collector = new Collector();
  const { result } = await run("given", collector.env);
  const spanOf = ({ traceparent }: { traceparent: string }) => {
    const [, traceId, spanId] = traceparent.split("-");
    const found = collector.spans.filter((span) => span.kind === "client" && span.spanId === spanId);
    assertEquals(found.map((span) => span.traceId), [traceId]);
    return found[0];
  };
  const [byCall, invalid, byClient] = result;
  const given = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
  for (const meta of [byCall, byClient]) {
    const { traceId, parentSpanId } = spanOf(meta);
    assertEquals([traceId, parentSpanId], given);
  }
  assertEquals(byCall.token, "t");
  assertEquals(spanOf(invalid).parentSpanId, "");
});

Deno.test("the metrics tell durations, calls in flight, connections and bytes", async () => {
  await using collector = new Collector();
  const child = start("hang", collector.env);
  const valueOf = (name: string) => collector.metrics.get(name)?.[0]?.value;
  await collector.until(() => valueOf("packline.server.active_calls") === 1);
  await collector.until(() => valueOf("packline.client.active_calls") === 1);
  assertEquals(valueOf("packline.server.connections"), 1);
  assertEquals(valueOf("packline.client.connections"), 1);
  // Neither end has received nothing; what comes in after the first reply may still be on its way.
  await collector.until(() =>
    ["server", "client"].every((side) => {
      const points = collector.metrics.get(`packline.${side}.io`) ?? [];
      const directions = points.map(({ attributes }) => attributes["network.io.direction"]);
      return directions.sort().join() === "receive,transmit" && points.some(({ value }) => value > 0);
    })
  );
  await child.stdin.close();
  const { code } = await child.output();
  assertEquals(code, 0);
  const [hung] = collector.metrics.get("rpc.server.call.duration") ?? [];
  assertEquals(hung?.value, 1);
});

Deno.test("a histogram counts each call, by its command", async () => {
  await using collector = new Collector();
  const { port } = await run("many", collector.env);
  const both = { "rpc.system.name": "packline", "rpc.method": "GREET" };
  assertEquals(collector.metrics.get("rpc.server.call.duration"), [{ attributes: both, value: 3 }]);
  assertEquals(collector.metrics.get("rpc.client.call.duration"), [
    { attributes: { ...both, "server.address": "127.0.0.1", "server.port": port }, value: 3 },
  ]);
});

Deno.test("a histogram counts each of 64 codes apart and then all others together, and each span has its own", async () => {
  await using collector = new Collector();
  await run("codes", collector.env);
  for (const kind of ["server", "client"]) {
    const points = collector.metrics.get(`rpc.${kind}.call.duration`) ?? [];
    const counts = new Map(points.map(({ attributes, value }) => [attributes["error.type"], value]));
    assertEquals([points.length, counts.size], [65, 65]);
    assertEquals([counts.get("CODE_0"), counts.get("CODE_63"), counts.get("_OTHER")], [2, 1, 6]);
    for (const { attributes } of points) assertEquals(attributes["rpc.response.status_code"], attributes["error.type"]);
    const codes = collector.spans.filter((span) => span.kind === kind).map((span) => failureOf(span)[0]);
    assertEquals(new Set(codes).size, 70);
  }
});

Deno.test("docs/telemetry.md lists the attributes of spans and the metrics that are exported, and no others", async () => {
  await using collector = new Collector();
  await run("failures", collector.env);
  const attributes = new Set(
    collector.spans.filter(({ attributes }) => "rpc.method" in attributes).flatMap(({ attributes }) =>
      Object.keys(attributes)
    ),
  );
  assertEquals(await documented("Spans"), [...attributes].sort());
  const child = start("hang", collector.env);
  await collector.until(() => collector.metrics.has("packline.client.io"));
  await child.stdin.close();
  await child.output();
  assertEquals(await documented("Metrics"), [...collector.metrics.keys()].sort());
});

/** Starts `server.ts` or `client.ts`, which export metrics all the time. It is killed after 30 s. */
function startProgram(
  name: string,
  args: readonly string[],
  { env }: Collector,
  stdin: "null" | "piped" = "null",
): Deno.ChildProcess {
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--quiet", "--no-check", "--allow-net=127.0.0.1", "--allow-read", name, ...args],
    cwd: new URL("..", import.meta.url),
    env: { ...env, OTEL_METRIC_EXPORT_INTERVAL: "1" },
    stdin,
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const late = setTimeout(() => child.kill("SIGKILL"), 30_000);
  void child.status.then(() => clearTimeout(late));
  return child;
}

for (const [signals, ending] of [[["SIGTERM"], 0], [["SIGTERM", "SIGINT"], 130]] as const) {
  Deno.test(`the program server.ts ends by ${signals.join(" and ")}, also while metrics are exported`, async () => {
    await using collector = new Collector();
    const child = startProgram("server.ts", ["--port", "0", "--grace", "60"], collector);
    const [output, errors] = [child.stdout.getReader(), child.stderr.getReader()];
    const text = new TextDecoder().decode((await output.read()).value); // it listens, and to signals too
    const port = Number(text.match(/:(\d+)/)?.[1]);
    await collector.until(() => collector.metrics.has("packline.server.connections"));
    const isBusy = signals.length > 1;
    await using client = await connect({ port, timeoutMs: Infinity });
    const lost = isBusy && assertRejects(() => client.reply("DELAY", { sleep: 60 }), RpcError);
    await client.call.PING(); // after it, DELAY runs
    for (const signal of signals) {
      child.kill(signal);
      if (signal === "SIGTERM") await errors.read(); // it is stopping
    }
    const { code, signal } = await child.status;
    await lost;
    await Promise.all([output.cancel(), errors.cancel()]);
    assertEquals([code, signal], [ending, null]);
  });
}

Deno.test("the program client.ts ends with its code, also while metrics are exported", async () => {
  await using collector = new Collector();
  await using server = await serve({ port: 0 });
  const run = (...args: string[]) => startProgram("client.ts", ["--port", `${server.port}`, ...args], collector);
  for (const [words, ending] of [["PING", 0], ["NOPE", 1], ["--version", 0], ["--nonsense", 2]] as const) {
    // Several at once, because only some of them hang.
    const ended = await Promise.all([1, 2, 3].map(() => run(words).output()));
    assertEquals(ended.map(({ code, signal }) => [code, signal]), Array(3).fill([ending, null]), words);
  }
});

Deno.test("the program client.ts ends while its standard input is open and metrics are exported", async () => {
  await using collector = new Collector();
  const taken = Promise.withResolvers<void>();
  const HOLD = command({
    items: unchecked<unknown>(),
    async handler(_: object, { items }) {
      for await (const _item of items) taken.resolve();
    },
  });
  await using server = await serve({ port: 0, commands: { HOLD } });
  const port = ["--port", `${server.port}`];
  const held = startProgram("client.ts", [...port, "HOLD", "-"], collector, "piped");
  const agents = startProgram("client.ts", [...port, "--mcp"], collector, "piped");
  const [items, messages] = [held, agents].map(({ stdin }) => stdin.getWriter());
  await items.write(new TextEncoder().encode("one\n"));
  await taken.promise;
  held.kill("SIGINT");
  await agents.stdout.cancel(); // the agent has gone
  await messages.write(new TextEncoder().encode('{"jsonrpc":"2.0","id":1,"method":"ping"}\n'));
  const ended = await Promise.all([held.output(), agents.status.then(({ code }) => ({ code, stderr: agents.stderr }))]);
  const errors = [new TextDecoder().decode(ended[0].stderr), await new Response(ended[1].stderr).text()];
  assertEquals([ended.map(({ code }) => code), errors], [[130, 0], ["", ""]]);
  await Promise.allSettled([items, messages].map((writer) => writer.abort()));
});

Deno.test("a second signal ends the program client.ts, also while metrics are exported", async () => {
  await using collector = new Collector();
  using silent = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = ["--port", `${silent.addr.port}`];
  // The server does not answer, not even the cancel after the first signal.
  const child = startProgram("client.ts", [...port, "UPLOAD", "@deno.json"], collector);
  using conn = await silent.accept();
  await conn.read(new Uint8Array(1024));
  const again = setInterval(() => {
    try {
      child.kill("SIGINT");
    } catch {
      // It has ended already.
    }
  }, 10);
  const { code } = await child.output().finally(() => clearInterval(again));
  assertEquals(code, 130);
});

Deno.test("where OpenTelemetry is off, nothing is made and meta is what the caller gives", async () => {
  assertEquals([clientTelemetry, serverTelemetry], [undefined, undefined]);
  await using collector = new Collector();
  const { result: [own, invalid] } = await run("given", { ...collector.env, OTEL_DENO: "false" });
  assertEquals(own, { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", token: "t" });
  assertEquals(invalid, { traceparent: "nonsense" });
  assertEquals([collector.spans.length, collector.metrics.size], [0, 0]);
});
