/**
 * Makes the results of INFO and STATS.
 *
 * In: the server's state; the other workers, if there are any. Out: its description and its counts. Refused: nothing.
 */

import config from "../deno.json" with { type: "json" };
import type { Limits } from "../limits.ts";
import type { Clock } from "../transport/clock.ts";
import type { LogStyle } from "./log_line.ts";
import type { ServerInfo, ServerReport, ServerStatistics } from "./server_info.ts";
import type { Registry } from "./registry.ts";
import { type ServerCounts, sumStatistics } from "./statistics.ts";

/** The version of the protocol. */
const PROTOCOL_VERSION = 1;

/** How a server that is one of several workers on a port reaches the others. */
export interface WorkerOptions {
  /** Its number, from 1; INFO and STATS show it. */
  number: number;
  /**
   * Asks the other workers for their counts, for STATS with `all`.
   *
   * @returns The counts received in time, and the numbers of the workers that did not answer. Must not reject.
   */
  askOthers(): Promise<{ statistics: ServerStatistics[]; silent: number[] }>;
}

/** The parts of a server that a report reads. */
interface Reported {
  readonly limits: Limits;
  readonly clock: Clock;
  readonly registry: Registry;
  readonly counts: ServerCounts;
  readonly load: { readonly handlers: number };
  readonly drain: { readonly isWaiting: boolean; readonly isRefusing: boolean };
  readonly connections: { readonly size: number };
  readonly log: { readonly style: LogStyle };
}

/** The report of one server. */
export class Report implements ServerReport {
  readonly #server: Reported;
  readonly #worker: WorkerOptions | undefined;
  readonly #startedMs: number;

  constructor(server: Reported, worker: WorkerOptions | undefined) {
    this.#server = server;
    this.#worker = worker;
    this.#startedMs = server.clock.now();
  }

  get logStyle(): LogStyle {
    return this.#server.log.style;
  }

  info(withShapes?: boolean): ServerInfo {
    return {
      name: "packline",
      version: config.version,
      protocol: PROTOCOL_VERSION,
      uptime: this.#uptimeSeconds(),
      limits: Object.fromEntries(Object.entries(this.#server.limits).filter(([, limit]) => limit !== Infinity)),
      commands: this.#server.registry.describe(withShapes),
      ...this.#whichWorker(),
    };
  }

  statistics(): ServerStatistics {
    const { counts, connections, drain, load, registry, limits: { maxConnections, maxInFlightTotal } } = this.#server;
    registry.counter?.count();
    return {
      uptime: this.#uptimeSeconds(),
      connections: {
        open: connections.size,
        accepted: counts.connectionsAccepted,
        refused: counts.connectionsRefused,
      },
      inFlight: load.handlers,
      bytes: { received: counts.bytesReceived, sent: counts.bytesSent },
      refused: {
        badFrame: counts.badFrames,
        invalidMessage: counts.invalidMessages,
        truncated: counts.truncatedStreams,
        unknownCommand: counts.unknownCommands,
        overloaded: counts.overloaded,
      },
      lateReplies: counts.lateReplies,
      draining: drain.isWaiting || drain.isRefusing,
      limits: { maxConnections, maxInFlightTotal },
      commands: Object.fromEntries(registry.entries().map(({ name, counts }) => [name, counts.snapshot()])),
      ...this.#whichWorker(),
    };
  }

  async statisticsOfAll(): Promise<ServerStatistics> {
    if (this.#worker === undefined) return this.statistics();
    const { statistics: others, silent } = await this.#worker.askOthers();
    const own = this.statistics();
    const counted = [own, ...others].flatMap(({ worker }) => worker ?? []).sort((a, b) => a - b);
    return { ...sumStatistics(own, ...others), ...this.#whichWorker(), workers: { counted, silent } };
  }

  #whichWorker(): { worker?: number } {
    return this.#worker === undefined ? {} : { worker: this.#worker.number };
  }

  #uptimeSeconds(): number {
    return (this.#server.clock.now() - this.#startedMs) / 1000;
  }
}
