/**
 * Measures the cost of TAP for a server: the load of `load.ts` on one server, in short windows, alternately with and
 * without a client that taps. So other load on the machine affects both sides equally, and a difference of some percent
 * is visible. The client that taps takes every report at once.
 *
 * In: a `Job` as JSON, in the first argument; its window says how many calls each of the two sides makes. Out: a
 * {@linkcode TappedSample} as one line of JSON. Refused: what `load.ts` refuses, and a tap that reports nothing.
 */

import { Block, Callers, type Job } from "./load.ts";
import { type Extent, Measurement, type Sample } from "./measure.ts";
import { connectTo, Poll, receive, send } from "./socket.ts";
import { median } from "./table.ts";
import { TAP } from "./wire.ts";

/** A sample of a server whose calls are watched. */
export interface TappedSample extends Sample {
  /** The server's CPU time per call, divided by that of the windows before or after, without a tap. */
  cpuRatios: number[];
}

/** The windows of each side, and the minimum length of a window: there is a report every 200 ms. */
const WINDOWS = 10;
const WINDOW_MS = 400;

/** The changes before the measurement, in which V8 compiles both sides. */
const WARM_CHANGES = 6;

/** How long the load continues after each change before the measurement. */
const SETTLED: Extent = { ms: 50, calls: 0, longestMs: 50 };

/** The connection that taps. */
class Reader {
  readonly #fd: number;
  readonly #poll = new Poll();
  readonly #buffer = new Uint8Array(64 * 1024);
  receivedBytes = 0;

  constructor(port: number) {
    this.#fd = connectTo(port);
    this.#poll.add(this.#fd, 0);
  }

  begin(): void {
    send(this.#fd, TAP.begin);
  }

  end(): void {
    send(this.#fd, TAP.end);
  }

  /** Reads the received bytes. */
  take(): void {
    this.#poll.wait(0, () => this.receivedBytes += receive(this.#fd, this.#buffer));
  }
}

if (import.meta.main) {
  const job: Job = JSON.parse(Deno.args[0]);
  const callers = new Callers();
  const reader = new Reader(job.port);
  for (let count = 0, block = new Block(job); count < job.connections; count++) callers.open(job.port, block);
  callers.callAll(job.inFlight);
  const during = (extent: Extent): Sample => {
    const measurement = new Measurement(job.pid, extent, callers.meter);
    const isOver = () => {
      reader.take();
      return measurement.isOver();
    };
    callers.until(isOver, (number, replies) => callers.call(number, replies));
    return measurement.sample();
  };
  const { calls, longestMs } = job.window;
  const window = { ms: WINDOW_MS, calls: calls / WINDOWS, longestMs };
  const begin = () => {
    reader.begin();
    during(SETTLED);
  };
  const end = () => {
    reader.end();
    during(SETTLED);
  };
  during(job.warmup);
  for (let change = 0; change < WARM_CHANGES; change += 2) {
    begin();
    end();
  }
  const watched: Sample[] = [];
  const unwatched: Sample[] = [];
  const watch = () => {
    begin();
    watched.push(during(window));
    end();
  };
  for (let turn = 0; turn < WINDOWS; turn++) {
    if (turn % 2 === 0) watch();
    unwatched.push(during(window));
    if (turn % 2 === 1) watch();
  }
  if (reader.receivedBytes === 0) throw new Error("the tap has reported nothing");
  const middle = (pick: (sample: Sample) => number) => median(watched.map(pick));
  const sample: TappedSample = {
    callsPerSecond: middle((sample) => sample.callsPerSecond),
    p50: middle((sample) => sample.p50),
    p99: middle((sample) => sample.p99),
    serverCpu: middle((sample) => sample.serverCpu),
    clientCpu: middle((sample) => sample.clientCpu),
    rss: middle((sample) => sample.rss),
    cpuRatios: watched.map(({ serverCpu }, turn) => serverCpu / unwatched[turn].serverCpu),
  };
  console.log(JSON.stringify(sample));
  callers.untilAnswered();
  Deno.exit();
}
