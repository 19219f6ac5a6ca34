/**
 * Serves Prometheus metrics over HTTP on a separate port, in the server's own program, so that they are available
 * during a shutdown too. For a server that you cannot change, run `examples/prometheus/exporter.ts`.
 *
 *     deno run --allow-net examples/metrics.ts
 */

import { command, connect, RpcError, serve } from "../mod.ts";
import { metricsOf } from "./prometheus/exporter.ts";

const DIVIDE = command({
  handler({ a, b }: { a: number; b: number }) {
    if (b === 0) throw new RpcError("DIVISION_BY_ZERO");
    return a / b;
  },
});
await using server = await serve({ port: 0, commands: { DIVIDE } });
const onScrape = metricsOf(() => server.statistics());
await using metrics = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, onScrape);

// Your server would end here. This one makes calls and reads its metrics like Prometheus.
await using client = await connect({ port: server.port, commands: { DIVIDE } });
await client.call.PING();
await client.outcome.DIVIDE({ a: 1, b: 0 });
const scraped = await fetch(`http://127.0.0.1:${metrics.addr.port}/metrics`);
for (const line of (await scraped.text()).split("\n")) {
  if (/^packline_call(s_total|_errors_total|_duration_seconds_count).*(PING|DIVIDE)/.test(line)) console.log(line);
}
