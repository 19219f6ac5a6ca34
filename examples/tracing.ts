/**
 * One trace over several calls: the caller's span is the parent of the handler's span, passed as `traceparent` in
 * `meta` (W3C Trace Context). The spans use Deno's built-in OpenTelemetry; no package is needed.
 *
 *     OTEL_DENO=true OTEL_EXPORTER_OTLP_PROTOCOL=console deno run --allow-net examples/tracing.ts
 *
 * Without the second variable, spans go to a collector on this machine, port 4318. Without the first, OpenTelemetry is
 * off, and the tracer throws.
 */

import { type ClientMiddleware, command, connect, type Middleware, RpcError, serve } from "../mod.ts";

/** The key of the span in a context of OpenTelemetry. */
const SPAN = Symbol.for("OpenTelemetry Context Key SPAN");

// Constants of OpenTelemetry.
const SERVER = 1, CLIENT = 2, ERROR = 2;

const { tracerProvider, contextManager } = Deno.telemetry;
const tracer = tracerProvider.getTracer("packline");

interface SpanContext {
  traceId: string;
  spanId: string;
  traceFlags: number;
}

interface Span {
  spanContext(): SpanContext;
  setStatus(status: { code: number; message: string }): void;
  end(): void;
}

/** Runs a function in a span; `parent` is a context of OpenTelemetry. */
function inSpan<T>(name: string, kind: number, parent: unknown, run: (span: Span) => Promise<T>): Promise<T> {
  return tracer.startActiveSpan(name, { kind }, parent, async (span: Span) => {
    try {
      return await run(span);
    } catch (error) {
      span.setStatus({ code: ERROR, message: error instanceof RpcError ? error.code : String(error) });
      throw error;
    } finally {
      span.end();
    }
  });
}

/** Makes every call in a span, and sends the span's id to the server. */
const tracedCall: ClientMiddleware = (call, next) =>
  inSpan(call.command, CLIENT, contextManager.active(), (span) => {
    const { traceId, spanId, traceFlags } = span.spanContext();
    const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
    return next({ meta: { traceparent } });
  });

/** Runs every handler in a span; its parent is the caller's span, if one was sent. */
const tracedHandler: Middleware = (call, next) => {
  const [, traceId, spanId, flags] = call.meta.traceparent?.match(/^00-(\w{32})-(\w{16})-(\w{2})$/) ?? [];
  const caller = { traceId, spanId, traceFlags: parseInt(flags, 16), isRemote: true };
  const context = contextManager.active();
  const parent = traceId === undefined ? context : context.setValue(SPAN, { spanContext: () => caller });
  return inSpan(call.command, SERVER, parent, () => next());
};

// Two services; the first calls the second.
const STOCK = command((_params: { book: string }, { meta }) => {
  console.log(`STOCK is called in trace ${meta.traceparent.split("-")[1]}`);
  return 2;
});
await using warehouse = await serve({ port: 0, commands: { STOCK }, middleware: [tracedHandler] });
await using toWarehouse = await connect({ port: warehouse.port, commands: { STOCK }, middleware: [tracedCall] });

const ORDER = command(async ({ book }: { book: string }, { meta }) => {
  console.log(`ORDER is called in trace ${meta.traceparent.split("-")[1]}`);
  return await toWarehouse.call.STOCK({ book }) > 0;
});
await using shop = await serve({ port: 0, commands: { ORDER }, middleware: [tracedHandler] });
await using toShop = await connect({ port: shop.port, commands: { ORDER }, middleware: [tracedCall] });

console.log(await toShop.call.ORDER({ book: "On the Analytical Engine" }));
