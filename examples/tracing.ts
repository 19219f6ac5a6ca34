/**
 * One trace over several calls, without any code for it. Each call has a span at its caller and a span at its handler.
 * The calls of a handler are inside its span. docs/telemetry.md lists the names of the spans.
 *
 *     OTEL_DENO=true OTEL_EXPORTER_OTLP_PROTOCOL=console deno run --allow-net examples/tracing.ts
 *
 * Without the second variable, spans go to a collector on this machine, port 4318.
 */

import { command, connect, serve } from "../mod.ts";

/** The trace that a call belongs to. The caller's span is sent as `traceparent` (W3C Trace Context). */
function traceOf({ traceparent = "" }: Readonly<Record<string, string>>): string {
  return traceparent.split("-")[1] ?? "none: OTEL_DENO is not set";
}

// Two services; the first calls the second.
const STOCK = command((_params: { book: string }, { meta }) => {
  console.log(`STOCK is called in trace ${traceOf(meta)}`);
  return 2;
});
await using warehouse = await serve({ port: 0, commands: { STOCK } });
await using toWarehouse = await connect({ port: warehouse.port, commands: { STOCK } });

const ORDER = command(async ({ book }: { book: string }, { meta }) => {
  console.log(`ORDER is called in trace ${traceOf(meta)}`);
  return await toWarehouse.call.STOCK({ book }) > 0;
});
await using shop = await serve({ port: 0, commands: { ORDER } });
await using toShop = await connect({ port: shop.port, commands: { ORDER } });

console.log(await toShop.call.ORDER({ book: "On the Analytical Engine" }));
