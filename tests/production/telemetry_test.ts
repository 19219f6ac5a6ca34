/** One trace from a browser's request through nginx and its Lua client to a service that calls another, each a process. */

import { assertEquals } from "@std/assert";
import { type CollectedSpan, Collector } from "../support/collector.ts";
import { NGINX_PACKAGES, startExample } from "./lua.ts";
import { Program, root, testWith } from "./programs.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";
const BROWSER = "b7ad6b7169203331";

async function startService(env: Record<string, string>, ...args: string[]): Promise<Program & { port: number }> {
  const script = [
    "run",
    "--no-prompt",
    "--no-check",
    "--allow-net=127.0.0.1",
    `${root}tests/support/traced_service.ts`,
  ];
  const program = await Program.start(Deno.execPath(), [...script, ...args], /listening on .*:\d+\n/, { env });
  const [, port] = await program.hear(/listening on .*:(\d+)\n/);
  return Object.assign(program, { port: Number(port) });
}

testWith(NGINX_PACKAGES, "a request through nginx, a service and the one that it calls are one trace", async () => {
  await using collector = new Collector();
  {
    await using owned = new AsyncDisposableStack();
    const warehouse = owned.use(await startService(collector.env));
    const shop = owned.use(await startService(collector.env, `${warehouse.port}`));
    const address = await startExample(owned, shop.port);
    for (const [path, answer] of [["call/ORDER", '{"res":true}\n'], ["stream/ORDERS", "1\n2\n"]]) {
      const headers = { traceparent: `00-${TRACE}-${BROWSER}-01` };
      const response = await fetch(`http://${address}/${path}`, { headers });
      assertEquals(await response.text(), answer);
    }
  }
  // The programs have ended, and with that all was exported.
  const parentOf = (span: CollectedSpan) => collector.spans.find(({ spanId }) => spanId === span.parentSpanId);
  const paths = collector.spans.map((span) => {
    assertEquals(span.traceId, TRACE, `${span.name} ${span.kind}`);
    const path = [];
    let root = span;
    for (let next: CollectedSpan | undefined = span; next !== undefined; next = parentOf(next)) {
      path.unshift(`${next.name} ${next.kind}`);
      root = next;
    }
    assertEquals(root.parentSpanId, BROWSER, path.join(" > "));
    return path.join(" > ");
  });
  const pathsOf = (name: string) => [
    `${name} server`,
    `${name} server > STOCK client`,
    `${name} server > STOCK client > STOCK server`,
  ];
  assertEquals(paths.sort(), [...pathsOf("ORDER"), ...pathsOf("ORDERS")]);
});
