/**
 * A collector of OpenTelemetry on loopback, for programs with `OTEL_DENO=true`.
 *
 * In: what they export, as JSON over HTTP. Out: spans and metrics, as a test wants to read them. Refused: nothing.
 */

/** The numbers that the protocol gives to what an end of a call is. */
const KINDS: Record<number, string> = { 1: "internal", 2: "server", 3: "client" };

/** The status of a span that has failed. */
const ERROR = 2;

/** When a test gives up on what is to be exported: a program exports every 50 ms. */
const MOST_EXPORTS = 200;

/** A span. */
export interface CollectedSpan {
  name: string;
  kind: string;
  traceId: string;
  spanId: string;
  /** The parent; "" for the first of a trace. */
  parentSpanId: string;
  attributes: Record<string, string | number>;
  isError: boolean;
  startedMs: number;
  endedMs: number;
}

/** A value of a metric, or the count of a histogram. */
export interface Point {
  attributes: Record<string, string | number>;
  value: number;
}

// deno-lint-ignore no-explicit-any -- the protocol's JSON
type Json = any;

/** The collector. */
export class Collector implements AsyncDisposable {
  /** All spans so far, in the order of their ends. */
  readonly spans: CollectedSpan[] = [];
  /** The last export of metrics that were not the runtime's own, by name. */
  readonly metrics = new Map<string, Point[]>();
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  #changed = Promise.withResolvers<void>();

  constructor() {
    const options = { hostname: "127.0.0.1", port: 0, onListen: () => {} };
    this.#server = Deno.serve(options, async (request) => {
      const { resourceSpans = [], resourceMetrics = [] } = await request.json();
      for (const { scopeSpans } of resourceSpans) {
        for (const { spans } of scopeSpans) this.spans.push(...spans.map(spanOf));
      }
      for (const { scopeMetrics } of resourceMetrics) {
        for (const { scope, metrics } of scopeMetrics) if (scope.name === "packline") this.#keep(metrics);
      }
      this.#changed.resolve();
      this.#changed = Promise.withResolvers();
      return new Response("{}", { headers: { "content-type": "application/json" } });
    });
  }

  /** What a program needs in its environment. */
  get env(): Record<string, string> {
    return {
      OTEL_DENO: "true",
      OTEL_EXPORTER_OTLP_PROTOCOL: "http/json",
      OTEL_EXPORTER_OTLP_ENDPOINT: `http://127.0.0.1:${this.#server.addr.port}`,
      OTEL_METRIC_EXPORT_INTERVAL: "50",
      OTEL_BSP_SCHEDULE_DELAY: "50",
    };
  }

  /** The only span of this name at this end. */
  span(name: string, kind: string): CollectedSpan {
    const found = this.spans.filter((span) => span.name === name && span.kind === kind);
    if (found.length === 1) return found[0];
    const all = this.spans.map((span) => `${span.name} ${span.kind}`).join(", ");
    throw new Error(`${found.length} spans are ${name} ${kind}, of ${all}`);
  }

  /** Waits for exports until this holds; an error if it does not come to that. */
  async until(holds: () => boolean): Promise<void> {
    for (let exports = 0; !holds(); exports++) {
      if (exports === MOST_EXPORTS) throw new Error(`after ${exports} exports, it never held: ${holds}`);
      await this.#changed.promise;
    }
  }

  #keep(metrics: Json[]): void {
    for (const { name, sum, histogram } of metrics) {
      const points: Json[] = (sum ?? histogram).dataPoints;
      this.metrics.set(
        name,
        points.map(({ attributes, asInt, asDouble, count }) => ({
          attributes: attributesOf(attributes),
          value: Number(asInt ?? asDouble ?? count),
        })),
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }
}

function spanOf(span: Json): CollectedSpan {
  const { name, kind, traceId, spanId, parentSpanId = "", attributes, status } = span;
  return {
    ...{ name, kind: KINDS[kind], traceId, spanId, parentSpanId },
    attributes: attributesOf(attributes),
    isError: status?.code === ERROR,
    startedMs: Number(span.startTimeUnixNano) / 1e6,
    endedMs: Number(span.endTimeUnixNano) / 1e6,
  };
}

function attributesOf(attributes: Json[] = []): Record<string, string | number> {
  return Object.fromEntries(
    attributes.map(({ key, value: { stringValue, intValue, doubleValue } }) => [
      key,
      stringValue ?? Number(intValue ?? doubleValue),
    ]),
  );
}
