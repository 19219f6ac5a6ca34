/**
 * OpenTelemetry, as Deno has it built in: no package and no permission is needed.
 *
 * In: the runtime, and `OTEL_DENO=true` in its environment. Out: spans, the context that they live in, and instruments;
 * `undefined` where OpenTelemetry is off, and in other runtimes. Refused: nothing.
 */

/** What is known of a span or a measurement. */
export type Attributes = Record<string, string | number>;

/** What the children of a span have to know of it. */
export interface SpanContext {
  readonly traceId: string;
  readonly spanId: string;
  readonly traceFlags: number;
}

/** A span of the runtime. */
interface Span {
  spanContext(): SpanContext;
  setAttributes(attributes: Attributes): void;
  setStatus(status: { code: number }): void;
  end(): void;
}

/** A context of the runtime: a map that stays as it is. */
interface Context {
  setValue(key: symbol, value: { spanContext(): SpanContext }): Context;
  deleteValue(key: symbol): Context;
}

interface ContextManager {
  active(): Context;
  with<T>(context: Context, work: () => T): T;
}

interface Tracer {
  startSpan(name: string, options: { kind: number; startTime: number }, parent: Context): Span;
}

/** A number that is read when metrics are exported. */
export interface Instrument {
  readonly name: string;
  readonly unit: string;
  readonly description: string;
  /** Whether it only ever grows. */
  readonly isCounter: boolean;
  /** Tells the number, or one for each set of attributes. */
  read(observe: (value: number, attributes?: Attributes) => void): void;
}

interface Observable {
  addCallback(callback: (result: { observe(value: number, attributes?: Attributes): void }) => void): void;
}

interface Meter {
  createHistogram(
    name: string,
    options: { unit: string; description: string; advice: { explicitBucketBoundaries: readonly number[] } },
  ): { record(value: number, attributes: Attributes): void };
  createObservableCounter(name: string, options: { unit: string; description: string }): Observable;
  createObservableUpDownCounter(name: string, options: { unit: string; description: string }): Observable;
}

/** The key of the span in a context. */
const SPAN = Symbol.for("OpenTelemetry Context Key SPAN");

/** Which side of a call a span is about; the numbers are OpenTelemetry's. */
const KINDS = { server: 1, client: 2 };

/** The status of a span that has failed. */
const ERROR = { code: 2 };

/** A span, and what runs in it. */
export interface OpenSpan {
  readonly context: SpanContext;
  /** Runs what is to be inside of it: spans that begin there are its children, also after an `await`. */
  run<T>(work: () => T): T;
  end(attributes: Attributes, hasFailed: boolean): void;
}

/** OpenTelemetry of this process. */
export class OpenTelemetry {
  readonly #tracer: Tracer;
  readonly #meter: Meter;
  readonly #contexts: ContextManager;
  /** The context of what nobody has called: a caller's span must not become the parent of what another one asks for. */
  readonly #nobodys: Context;

  /** @param meter Of the runtime, as the other two. */
  constructor(meter: Meter, tracer: Tracer, contexts: ContextManager) {
    this.#meter = meter;
    this.#tracer = tracer;
    this.#contexts = contexts;
    this.#nobodys = contexts.active().deleteValue(SPAN);
  }

  /**
   * Starts a span.
   *
   * @param startedMs When it has begun, by `performance.now()`.
   * @param remote Its parent, if that is in another process. Without one, it is at a client the span that the caller runs in.
   */
  start(name: string, kind: "client" | "server", startedMs: number, remote: SpanContext | undefined): OpenSpan {
    const contexts = this.#contexts;
    const outside = kind === "client" ? contexts.active() : this.#nobodys;
    const parent = remote === undefined ? outside : outside.setValue(SPAN, { spanContext: () => remote });
    const options = { kind: KINDS[kind], startTime: performance.timeOrigin + startedMs };
    const span = this.#tracer.startSpan(name, options, parent);
    return {
      context: span.spanContext(),
      run: (work) => contexts.with(outside.setValue(SPAN, span), work),
      end(attributes, hasFailed) {
        span.setAttributes(attributes);
        if (hasFailed) span.setStatus(ERROR);
        span.end();
      },
    };
  }

  /** A histogram of seconds; returns what records one. */
  durations(
    name: string,
    description: string,
    boundaries: readonly number[],
  ): (seconds: number, attributes: Attributes) => void {
    const advice = { explicitBucketBoundaries: boundaries };
    const histogram = this.#meter.createHistogram(name, { unit: "s", description, advice });
    return (seconds, attributes) => histogram.record(seconds, attributes);
  }

  /** An instrument that costs nothing until metrics are exported. */
  observe({ name, unit, description, isCounter, read }: Instrument): void {
    const options = { unit, description };
    const observable = isCounter
      ? this.#meter.createObservableCounter(name, options)
      : this.#meter.createObservableUpDownCounter(name, options);
    observable.addCallback((result) => read((value, attributes) => result.observe(value, attributes)));
  }
}

/** OpenTelemetry, if it is on. */
export const openTelemetry: OpenTelemetry | undefined = find();

function find(): OpenTelemetry | undefined {
  try {
    const { tracerProvider, meterProvider, contextManager } = globalThis.Deno.telemetry;
    const meter = meterProvider.getMeter("packline"); // throws where it is off, and so does all above in other runtimes
    return new OpenTelemetry(meter, tracerProvider.getTracer("packline"), contextManager);
  } catch {
    return undefined;
  }
}
