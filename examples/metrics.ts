/**
 * Serves Prometheus metrics over HTTP on a separate port. They come from STATS, so this code can run in the server's
 * program, as here, or in another.
 *
 *     deno run --allow-net examples/metrics.ts
 */

import { PROMETHEUS_TYPE, prometheusText } from "../cli/prometheus.ts";
import { type Client, command, connect, RpcError, serve } from "../mod.ts";

/** Answers `GET /metrics`. If the server does not answer in time, the scrape fails, and Prometheus shows `up 0`. */
function metricsOf(client: Client): (request: Request) => Promise<Response> {
  return async (request) => {
    if (new URL(request.url).pathname !== "/metrics") return new Response("see /metrics\n", { status: 404 });
    try {
      const statistics = await client.call.STATS({}, { timeoutMs: 5000, idempotent: true });
      return new Response(`${prometheusText(statistics)}\n`, { headers: { "content-type": PROMETHEUS_TYPE } });
    } catch (error) {
      return new Response(`${error}\n`, { status: 503 });
    }
  };
}

const DIVIDE = command({
  handler({ a, b }: { a: number; b: number }) {
    if (b === 0) throw new RpcError("DIVISION_BY_ZERO");
    return a / b;
  },
});
await using server = await serve({ port: 0, commands: { DIVIDE } });
await using client = await connect({ port: server.port, commands: { DIVIDE } });
await using metrics = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, metricsOf(client));

// Your server would end here. This one makes calls and reads its metrics like Prometheus.
await client.call.PING();
await client.outcome.DIVIDE({ a: 1, b: 0 });
const scraped = await fetch(`http://127.0.0.1:${metrics.addr.port}/metrics`);
for (const line of (await scraped.text()).split("\n")) {
  if (/^packline_call(s_total|_errors_total|_duration_seconds_count).*(PING|DIVIDE)/.test(line)) console.log(line);
}
