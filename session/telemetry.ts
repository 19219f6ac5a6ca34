/**
 * What OpenTelemetry is told about calls, by its conventions for RPC: a span at each end, joined by `traceparent` in `meta`;
 * the durations of calls; and what an end holds, read when metrics are exported. docs/telemetry.md lists all names.
 *
 * In: calls that begin and end; what a server or a client holds. Out: spans and metrics. Where OpenTelemetry is off there is
 * neither end's telemetry, and a call costs one comparison. Refused: a `traceparent` that is none counts as missing.
 */

import { RpcError } from "../errors.ts";
import { DEFAULT_PORT } from "../limits.ts";
import { withoutBrackets } from "../transport/address.ts";
import {
  type Attributes,
  type OpenSpan,
  type OpenTelemetry,
  openTelemetry,
  type SpanContext,
} from "../transport/telemetry.ts";

/** Which end of a call. */
type Side = "client" | "server";

/** Where the buckets of durations end, in seconds: those that the conventions recommend, and finer ones below. */
const BOUNDARIES_S = [
  ...[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075],
  ...[0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10],
];

const SYSTEM = "packline";

const ROLES = { client: "outgoing", server: "incoming" };

/** What a command is called that the server does not have: what its peers make up must not become series of metrics. */
const UNKNOWN_METHOD = "_OTHER";

/** As much of the name of such a command is told. */
const MAX_NAME_LENGTH = 64;

/** The same in each version so far; a later one may add fields behind. */
const TRACEPARENT = /^(?!ff)[\da-f]{2}-(?!0{32})([\da-f]{32})-(?!0{16})([\da-f]{16})-([\da-f]{2})(?:-|$)/;

/** What an end holds. */
export interface Observed {
  /** At a server the handlers that run, at a client the calls that were sent and are not answered. */
  readonly calls: number;
  readonly connections: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
}

/** What goes with a call. */
type Meta = Readonly<Record<string, string>> | undefined;

/** The telemetry of one end, for all servers or clients of the process. */
export class Telemetry {
  readonly #runtime: OpenTelemetry;
  readonly #side: Side;
  readonly #record: (seconds: number, attributes: Attributes) => void;
  readonly #sources = new Set<() => Observed>();
  /** The bytes of those that have ended: a count must not shrink. */
  #endedBytes = { received: 0, sent: 0 };

  constructor(runtime: OpenTelemetry, side: Side) {
    this.#runtime = runtime;
    this.#side = side;
    this.#record = runtime.durations(`rpc.${side}.call.duration`, `Duration of ${ROLES[side]} calls`, BOUNDARIES_S);
    const sum = (valueOf: (observed: Observed) => number) =>
      [...this.#sources].reduce((total, read) => total + valueOf(read()), 0);
    runtime.observe({
      name: `packline.${side}.active_calls`,
      unit: "{call}",
      description: side === "server"
        ? "Handlers that have not returned yet"
        : "Calls that were sent and are not answered",
      isCounter: false,
      read: (observe) => observe(sum(({ calls }) => calls)),
    });
    runtime.observe({
      name: `packline.${side}.connections`,
      unit: "{connection}",
      description: "Connections that are open",
      isCounter: false,
      read: (observe) => observe(sum(({ connections }) => connections)),
    });
    runtime.observe({
      name: `packline.${side}.io`,
      unit: "By",
      description: "Bytes of all connections",
      isCounter: true,
      read: (observe) => {
        const { received, sent } = this.#endedBytes;
        observe(received + sum(({ bytesReceived }) => bytesReceived), { "network.io.direction": "receive" });
        observe(sent + sum(({ bytesSent }) => bytesSent), { "network.io.direction": "transmit" });
      },
    });
  }

  /**
   * Counts what a server or a client holds.
   *
   * @returns To be called at its end.
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
   * @param command Its command; `undefined` if the server has none of this name.
   * @param meta What goes with it: a `traceparent` in there is the parent of its span.
   * @param waitedMs How long ago it came.
   */
  begin(command = UNKNOWN_METHOD, meta: Meta = undefined, waitedMs = 0): CallSpan {
    const startedMs = performance.now() - waitedMs;
    const span = this.#runtime.start(command, this.#side, startedMs, parentOf(meta?.traceparent));
    return new CallSpan(span, command, (attributes) => {
      this.#record((performance.now() - startedMs) / 1000, attributes);
    });
  }
}

/** One end of a call. */
export class CallSpan {
  readonly #span: OpenSpan;
  readonly #record: (attributes: Attributes) => void;
  /** What its measurement has as well: few of each exist. */
  readonly #attributes: Attributes;
  /** What only the span has: its values are too many for measurements. */
  readonly #own: Attributes = {};

  /** @param record Records the duration of the call. */
  constructor(span: OpenSpan, command: string, record: (attributes: Attributes) => void) {
    this.#span = span;
    this.#record = record;
    this.#attributes = { "rpc.system.name": SYSTEM, "rpc.method": command };
  }

  /** The options of its call, with what lets the server's span find this one. */
  joined<Options extends { meta?: Meta }>(options: Options): Options {
    const { traceId, spanId, traceFlags } = this.#span.context;
    const traceparent = `00-${traceId}-${spanId}-${traceFlags.toString(16).padStart(2, "0")}`;
    return { ...options, meta: { ...options.meta, traceparent } };
  }

  /** Runs what is to be inside of it. */
  run<T>(work: () => T): T {
    return this.#span.run(work);
  }

  /**
   * Who is at the other end; of a call that is sent again, the last one counts.
   *
   * @param server The server, as the user of a client names it.
   */
  reaches(peer: string, server = ""): void {
    Object.assign(this.#own, addressOf("network.peer", peer));
    Object.assign(this.#attributes, addressOf("server", server));
  }

  /** The server has no command of the name that the caller has given. */
  names(unknown: string): void {
    this.#own["rpc.method_original"] = unknown.slice(0, MAX_NAME_LENGTH);
  }

  /** The call has failed. */
  fail(error: Error): void {
    this.end(error instanceof RpcError ? error.code : undefined, error.name);
  }

  /**
   * The call has ended.
   *
   * @param code The code with which it failed.
   * @param errorType What it failed with, if that has no code.
   */
  end(code?: string, errorType = code): void {
    const attributes = this.#attributes;
    if (code !== undefined) attributes["rpc.response.status_code"] = code;
    if (errorType !== undefined) attributes["error.type"] = code ?? errorType;
    this.#record(attributes);
    this.#span.end({ ...attributes, ...this.#own }, errorType !== undefined);
  }
}

/** The span that a `traceparent` names. */
function parentOf(traceparent: string | undefined): SpanContext | undefined {
  const [, traceId, spanId, flags] = TRACEPARENT.exec(traceparent ?? "") ?? [];
  return traceId === undefined ? undefined : { traceId, spanId, traceFlags: parseInt(flags, 16) };
}

/** `127.0.0.1:1235`, `[::1]:1235`, `unix:/run/a.sock`, or a name; what has a blank is none. */
function addressOf(whose: "server" | "network.peer", text: string): Attributes {
  const [, path, hostname, port = DEFAULT_PORT] = /^(?:unix:(.+)|(\[.+\]|[^:\s]+)(?::(\d+))?)$/.exec(text) ?? [];
  if (path !== undefined) return { [`${whose}.address`]: path };
  if (hostname === undefined) return {};
  return { [`${whose}.address`]: withoutBrackets(hostname), [`${whose}.port`]: Number(port) };
}

/** The telemetry of all servers, if it is on. */
export const serverTelemetry: Telemetry | undefined = openTelemetry && new Telemetry(openTelemetry, "server");

/** The telemetry of all clients, if it is on. */
export const clientTelemetry: Telemetry | undefined = openTelemetry && new Telemetry(openTelemetry, "client");
