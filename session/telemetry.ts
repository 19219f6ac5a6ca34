/**
 * Reports calls to the OpenTelemetry that is built into Deno (no package and no permission is needed), by its
 * conventions for RPC: a span at each end, joined by `traceparent` in `meta`; the durations of calls; and the open
 * calls, connections and bytes of an end, read when metrics are exported. docs/telemetry.md lists all names.
 *
 * In: the runtime, and `OTEL_DENO=true` in its environment; calls that begin and end; the counts of a server or a
 * client. Out: spans and metrics. If OpenTelemetry is off, and in other runtimes, no end has telemetry, and a call
 * costs one comparison. Refused: nothing; an invalid `traceparent` counts as missing.
 */

import { beginningOf } from "../codec/text.ts";
import { RpcError } from "../errors.ts";
import { DEFAULT_PORT } from "../limits.ts";
import { plainHost, webSocketPlace } from "../transport/address.ts";
import { runtimeTelemetry } from "../transport/runtime.ts";
import { countCode } from "./collections.ts";

/** The attributes of a span or a measurement. */
type Attributes = Record<string, string | number>;

/** What the children of a span need from it. */
interface SpanContext {
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

/** A context of the runtime: an immutable map. */
interface Context {
  getValue(key: symbol): unknown;
  setValue(key: symbol, value: { spanContext(): SpanContext } | string): Context;
  deleteValue(key: symbol): Context;
}

interface ContextManager {
  active(): Context;
  with<T>(context: Context, work: () => T): T;
}

interface Tracer {
  startSpan(name: string, options: { kind: number; startTime: number }, parent: Context): Span;
}

interface Histogram {
  record(value: number, attributes: Attributes): void;
}

/** A number that costs nothing until it is read, when metrics are exported. */
interface Observable {
  addCallback(callback: (result: { observe(value: number, attributes?: Attributes): void }) => void): void;
}

interface Meter {
  createHistogram(
    name: string,
    options: { unit: string; description: string; advice: { explicitBucketBoundaries: readonly number[] } },
  ): Histogram;
  createObservableCounter(name: string, options: { unit: string; description: string }): Observable;
  createObservableUpDownCounter(name: string, options: { unit: string; description: string }): Observable;
}

/** The key of the span in a context. */
const SPAN = Symbol.for("OpenTelemetry Context Key SPAN");

/** The key of the id of the span that has called the handler that runs. */
const CALLER = Symbol.for("packline.caller");

/** The kind of span for each side of a call. The numbers are OpenTelemetry's. */
const KINDS = { server: 1, client: 2 };

/** The status of a span that has failed. */
const ERROR = { code: 2 };

/** An open span. */
interface OpenSpan {
  readonly context: SpanContext;
  /** Runs work inside the span. Spans that begin there are its children, also after an `await`. */
  run<T>(work: () => T): T;
  end(attributes: Attributes, hasFailed: boolean): void;
}

/** The OpenTelemetry of this process. */
class OpenTelemetry {
  readonly meter: Meter;
  readonly #tracer: Tracer;
  readonly #contexts: ContextManager;
  /** The context without a span. One caller's span must not become the parent of another caller's call. */
  readonly #nobodys: Context;

  /** @param meter The runtime's meter; the tracer and the contexts are the runtime's too. */
  constructor(meter: Meter, tracer: Tracer, contexts: ContextManager) {
    this.meter = meter;
    this.#tracer = tracer;
    this.#contexts = contexts;
    this.#nobodys = contexts.active().deleteValue(SPAN);
  }

  /**
   * Starts a span.
   *
   * @param startedMs When the span began, by `performance.now()`.
   * @param remote The parent of the span, if it is in another process. Without it, or if a handler passes on the
   * metadata of its own call, a client's span has the span of its caller as parent.
   */
  start(name: string, kind: "client" | "server", startedMs: number, remote: SpanContext | undefined): OpenSpan {
    const contexts = this.#contexts;
    const outside = kind === "client" ? contexts.active() : this.#nobodys;
    const isPassedOn = remote !== undefined && outside.getValue(CALLER) === remote.spanId;
    const parent = remote === undefined || isPassedOn ? outside : outside.setValue(SPAN, { spanContext: () => remote });
    const inside = kind === "client" || remote === undefined ? outside : outside.setValue(CALLER, remote.spanId);
    const options = { kind: KINDS[kind], startTime: performance.timeOrigin + startedMs };
    const span = this.#tracer.startSpan(name, options, parent);
    return {
      context: span.spanContext(),
      run: (work) => contexts.with(inside.setValue(SPAN, span), work),
      end(attributes, hasFailed) {
        span.setAttributes(attributes);
        if (hasFailed) span.setStatus(ERROR);
        span.end();
      },
    };
  }
}

/** Which end of a call. */
type Side = "client" | "server";

/**
 * The boundaries of the buckets of durations, in seconds: the recommended ones of the conventions, and finer ones
 * below.
 */
const BOUNDARIES_S = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075],
  ...[0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
];

const SYSTEM = "packline";

const ROLES = { client: "outgoing", server: "incoming" };

/**
 * The name of a command that the server does not have, because names that peers invent must not become series of
 * metrics.
 */
const UNKNOWN_METHOD = "_OTHER";

/** The code of all failures with further codes. */
const OTHER_CODES = "_OTHER";

/** The maximum length of the name of such a command in a span. */
const MAX_NAME_LENGTH = 64;

/** The format is the same in each version so far. A later version may add fields at the end. */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(?:-|$)/;

/** The counts of one end. */
interface Observed {
  /** At a server, the running handlers; at a client, the calls that were sent and are not answered. */
  readonly calls: number;
  readonly connections: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

/** The metadata of a call. */
type Meta = Readonly<Record<string, string>> | undefined;

/** The telemetry of one end, for all servers or clients of the process. */
class Telemetry {
  readonly #runtime: OpenTelemetry;
  readonly #side: Side;
  readonly #durations: Histogram;
  readonly #sources = new Set<() => Observed>();
  /** The codes in measurements so far. */
  readonly #codes = new Map<string, number>();
  /** The bytes of servers or clients that have ended, because a count must not shrink. */
  #endedBytes = { received: 0, sent: 0 };

  constructor(runtime: OpenTelemetry, side: Side) {
    this.#runtime = runtime;
    this.#side = side;
    const { meter } = runtime;
    this.#durations = meter.createHistogram(`rpc.${side}.call.duration`, {
      unit: "s",
      description: `Duration of ${ROLES[side]} calls`,
      advice: { explicitBucketBoundaries: BOUNDARIES_S },
    });
    const sum = (valueOf: (observed: Observed) => number) =>
      [...this.#sources].reduce((total, read) => total + valueOf(read()), 0);
    meter.createObservableUpDownCounter(`packline.${side}.active_calls`, {
      unit: "{call}",
      description: side === "server"
        ? "Handlers that have not returned yet"
        : "Calls that were sent and are not answered",
    }).addCallback((result) => result.observe(sum(({ calls }) => calls)));
    meter.createObservableUpDownCounter(`packline.${side}.connections`, {
      unit: "{connection}",
      description: "Connections that are open",
    }).addCallback((result) => result.observe(sum(({ connections }) => connections)));
    meter.createObservableCounter(`packline.${side}.io`, {
      unit: "By",
      description: "Bytes of all connections",
    }).addCallback((result) => {
      const { received, sent } = this.#endedBytes;
      result.observe(received + sum(({ bytesReceived }) => bytesReceived), { "network.io.direction": "receive" });
      result.observe(sent + sum(({ bytesSent }) => bytesSent), { "network.io.direction": "transmit" });
    });
  }

  /**
   * Includes a server or a client in the metrics.
   *
   * @returns A function to call at the end of the server or client.
   */
  observe(read: () => Observed): () => void {
    this.#sources.add(read);
    return () => {
      if (!this.#sources.delete(read)) return;
      const { bytesReceived, bytesSent } = read();
      this.#endedBytes.received += bytesReceived;
      this.#endedBytes.sent += bytesSent;
    };
  }

  /**
   * A call begins.
   *
   * @param command The command; `undefined` if the server has no command of this name.
   * @param meta The metadata of the call. Its `traceparent` is the parent of the span.
   * @param waitedMs How long ago the call arrived, in milliseconds.
   */
  begin(command = UNKNOWN_METHOD, meta: Meta = undefined, waitedMs = 0): CallSpan {
    const startedMs = performance.now() - waitedMs;
    const span = this.#runtime.start(command, this.#side, startedMs, parentOf(meta?.traceparent));
    return new CallSpan(span, command, (attributes, code) => {
      const seconds = (performance.now() - startedMs) / 1000;
      this.#durations.record(seconds, this.#isCounted(code) ? attributes : withoutCode(attributes));
    });
  }

  /** Whether measurements have this code: each makes a series, in this process and wherever they are stored. */
  #isCounted(code: string | undefined): boolean {
    return code === undefined || countCode(this.#codes, code, 1) === code;
  }
}

/** One end of a call. */
export class CallSpan {
  readonly #span: OpenSpan;
  readonly #record: (attributes: Attributes, code: string | undefined) => void;
  /** The attributes that the measurement has too. They have few different values. */
  readonly #attributes: Attributes;
  /** The attributes that only the span has. They have too many different values for measurements. */
  readonly #own: Attributes = {};

  /** @param record Records the duration of the call. */
  constructor(span: OpenSpan, command: string, record: (attributes: Attributes, code: string | undefined) => void) {
    this.#span = span;
    this.#record = record;
    this.#attributes = { "rpc.system.name": SYSTEM, "rpc.method": command };
  }

  /** The options of the call, with a `traceparent` that makes this span the parent of the server's span. */
  joined<Options extends { meta?: Meta }>(options: Options): Options {
    const { traceId, spanId, traceFlags } = this.#span.context;
    const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
    return { ...options, meta: { ...options.meta, traceparent } };
  }

  /** Runs work inside the span. */
  run<T>(work: () => T): T {
    return this.#span.run(work);
  }

  /**
   * Records the peer. If a call is resent, its last peer counts.
   *
   * @param server The server, as the user of a client names it.
   */
  reaches(peer: string, server = ""): void {
    Object.assign(this.#own, addressOf("network.peer", peer));
    Object.assign(this.#attributes, addressOf("server", server));
  }

  /** The server has no command of the name that the caller gave. */
  names(unknown: string): void {
    this.#own["rpc.method_original"] = beginningOf(unknown, MAX_NAME_LENGTH);
  }

  /** The call has failed. */
  fail(error: Error): void {
    this.end(error instanceof RpcError ? error.code : undefined, error.name);
  }

  /**
   * The call has ended.
   *
   * @param code The code with which it failed.
   * @param errorType The type of its error, if that has no code.
   */
  end(code?: string, errorType = code): void {
    const attributes = this.#attributes;
    if (code !== undefined) attributes["rpc.response.status_code"] = code;
    if (errorType !== undefined) attributes["error.type"] = code ?? errorType;
    this.#record(attributes, code ?? errorType);
    this.#span.end({ ...attributes, ...this.#own }, errorType !== undefined);
  }
}

/** The attributes of a failure whose code is not counted. */
function withoutCode(attributes: Attributes): Attributes {
  return {
    ...attributes,
    "error.type": OTHER_CODES,
    ...("rpc.response.status_code" in attributes ? { "rpc.response.status_code": OTHER_CODES } : {}),
  };
}

/** The span that a `traceparent` names. */
function parentOf(traceparent: string | undefined): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  return traceId === undefined ? undefined : { traceId, spanId, traceFlags: parseInt(flags, 16) };
}

/**
 * `127.0.0.1:1235`, `[::1]:1235`, `unix:/run/a.sock`, or a WebSocket's URL. A server may be named without its port. Other
 * texts are not addresses: a peer over a unix socket has none.
 */
function addressOf(whose: "server" | "network.peer", text: string): Attributes {
  const place = webSocketPlace(text);
  const [, path, host, itsPort] = /^(?:unix:(.+)|(\[.+\]|[^:\s]+)(?::(\d+))?)$/.exec(text) ?? [];
  if (path !== undefined) return { [`${whose}.address`]: path };
  const hostname = place?.hostname ?? host;
  const port = place?.port ?? itsPort ?? (whose === "server" ? DEFAULT_PORT : undefined);
  if (hostname === undefined || port === undefined) return {};
  return { [`${whose}.address`]: plainHost(hostname), [`${whose}.port`]: Number(port) };
}

const openTelemetry = find();

function find(): OpenTelemetry | undefined {
  try {
    const { tracerProvider, meterProvider, contextManager } = runtimeTelemetry();
    const meter = meterProvider.getMeter("packline"); // throws if it is off; the lines above throw in other runtimes
    return new OpenTelemetry(meter, tracerProvider.getTracer("packline"), contextManager);
  } catch {
    return undefined;
  }
}

/** The telemetry of all servers, if it is on. */
export const serverTelemetry: Telemetry | undefined = openTelemetry && new Telemetry(openTelemetry, "server");

/** The telemetry of all clients, if it is on. */
export const clientTelemetry: Telemetry | undefined = openTelemetry && new Telemetry(openTelemetry, "client");
