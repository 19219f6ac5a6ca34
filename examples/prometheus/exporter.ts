/**
 * Serves the metrics of a packline server to Prometheus, over HTTP on a separate port.
 *
 *     deno run --allow-net examples/prometheus/exporter.ts 127.0.0.1:1235 127.0.0.1:9235
 *
 * In: the address of the server, which may have workers; where to listen. Out: its metrics at `/metrics`. A scrape
 * fails if the server does not answer in time for all of its workers: counts that are too low would look like a
 * restart.
 */

import { PROMETHEUS_TYPE, prometheusText } from "../../cli/prometheus.ts";
import { connect } from "../../mod.ts";

/** Less than the time limit of Prometheus for a scrape, 10 s. */
const TIMEOUT_MS = 5_000;

/**
 * Answers `GET /metrics`.
 *
 * @param statistics Returns the result of STATS: `server.statistics()` in the server's own program, elsewhere a call of
 * STATS.
 * @returns The handler, for `Deno.serve()`.
 */
export function metricsOf(statistics: () => unknown): (request: Request) => Promise<Response> {
  return async (request) => {
    if (new URL(request.url).pathname !== "/metrics") return new Response("see /metrics\n", { status: 404 });
    try {
      const text = prometheusText(await statistics());
      if (text === undefined) return new Response("the server answers STATS in its own way\n", { status: 502 });
      return new Response(`${text}\n`, { headers: { "content-type": PROMETHEUS_TYPE } });
    } catch (error) {
      return new Response(`${error}\n`, { status: 503 });
    }
  };
}

if (import.meta.main) {
  const [address = "127.0.0.1:1235", at = "127.0.0.1:9235"] = Deno.args;
  const client = await connect({ servers: [address], lazy: true });
  const statistics = async () => {
    const counts = await client.call.STATS({ all: true }, { timeoutMs: TIMEOUT_MS, idempotent: true });
    const silent = counts.workers?.silent ?? [];
    if (silent.length > 0) throw new Error(`no answer from worker ${silent.join(", ")}`);
    return counts;
  };
  const { hostname, port } = new URL(`http://${at}`);
  const onListen = ({ port }: Deno.NetAddr) =>
    console.log(`metrics of ${address} on http://${hostname}:${port}/metrics`);
  Deno.serve({ hostname, port: Number(port || 80), onListen }, metricsOf(statistics));
}
