/**
 * Generates load: sends prepared requests, keeps a fixed number in flight on each connection, and counts replies by
 * their size. It does not encode or decode while it measures, so its own cost is the same for all servers. On every
 * connection the first round of replies is compared byte for byte.
 *
 * In: a {@linkcode Job} as JSON, in the first argument. Out: a `Sample` as one line of JSON on stdout. Refused: a wrong
 * reply, a closed connection or an unanswered call ends the process with an error.
 */

import { type Meter, sampleOf, type Window } from "./measure.ts";
import { concat, exchange, greeting, type Question, type Speech } from "./wire.ts";

/** The server to load, and how to load it. */
export interface Job extends Window {
  port: number;
  speech: Speech;
  question: Question;
  connections: number;
  /** Calls in flight on each connection. */
  inFlight: number;
  /**
   * Whether all connections call at once, with one call in flight each, and again after the last reply. So all make
   * equally many calls, in whatever order the server reads them.
   */
  inRounds?: true;
}

const LARGEST_READ_BYTES = 256 * 1024;

/** All requests in flight, twice in a row, so that any sequence of them is contiguous; and their replies. */
export class Block {
  readonly requests: Uint8Array;
  readonly replies: Uint8Array;
  readonly requestBytes: number;
  readonly replyBytes: number;

  constructor({ speech, question, inFlight }: Job) {
    const exchanges = Array.from({ length: inFlight }, (_, index) => exchange(speech, question, index));
    this.requests = concat([...exchanges, ...exchanges].map(({ request }) => request));
    this.replies = concat(exchanges.map(({ reply }) => reply));
    this.requestBytes = exchanges[0].request.length;
    this.replyBytes = exchanges[0].reply.length;
  }
}

/** One connection. */
export class RpcClient {
  /** Set by the caller: sends no more requests, but waits for open ones. */
  stopped = false;
  readonly #conn: Deno.Conn;
  readonly #block: Block;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  #checkedBytes = 0;
  /** Bytes received of an incomplete reply. */
  #begunBytes = 0;

  constructor(conn: Deno.Conn, block: Block) {
    this.#conn = conn;
    this.#block = block;
    this.#buffer = new Uint8Array(Math.min(LARGEST_READ_BYTES, Math.max(1024, block.replies.length)));
  }

  /** Connects and sends the greeting. */
  static async connect(job: Job, block: Block): Promise<RpcClient> {
    const conn = await Deno.connect({ hostname: "127.0.0.1", port: job.port });
    conn.setNoDelay(true);
    await writeAll(conn, greeting(job.speech, job.question));
    return new RpcClient(conn, block);
  }

  /** Keeps calls in flight until stopped. */
  async keep(inFlight: number, meter: Meter): Promise<void> {
    const { requests, requestBytes } = this.#block;
    const sent: { ms: number; calls: number }[] = [];
    let next = 0;
    let room = inFlight;
    while (true) {
      if (room > 0 && !this.stopped) {
        sent.push({ ms: performance.now(), calls: room });
        await writeAll(this.#conn, requests.subarray(next * requestBytes, (next + room) * requestBytes));
        next = (next + room) % inFlight;
      }
      if (sent.length === 0) return;
      room = await this.#replies();
      const nowMs = performance.now();
      for (let left = room; left > 0;) {
        const oldest = sent[0];
        const calls = Math.min(left, oldest.calls);
        meter.record(nowMs - oldest.ms, calls);
        left -= calls;
        oldest.calls -= calls;
        if (oldest.calls === 0) sent.shift();
      }
    }
  }

  /** Makes one call. */
  async callOnce(): Promise<void> {
    await writeAll(this.#conn, this.#block.requests.subarray(0, this.#block.requestBytes));
    while (await this.#replies() === 0);
  }

  /** Reads once; returns how many replies it completed. */
  async #replies(): Promise<number> {
    const bytes = await this.#conn.read(this.#buffer);
    if (bytes === null) throw new Error("the server closed the connection");
    const { replies, replyBytes } = this.#block;
    if (this.#checkedBytes < replies.length) this.#check(this.#buffer.subarray(0, bytes));
    const begun = this.#begunBytes + bytes;
    this.#begunBytes = begun % replyBytes;
    return (begun - this.#begunBytes) / replyBytes;
  }

  #check(bytes: Uint8Array): void {
    const wanted = this.#block.replies.subarray(this.#checkedBytes, this.#checkedBytes + bytes.length);
    const wrong = wanted.findIndex((byte, index) => byte !== bytes[index]);
    if (wrong >= 0) throw new Error(`a reply is wrong at byte ${this.#checkedBytes + wrong}: ${bytes.slice(0, 64)}`);
    this.#checkedBytes += wanted.length;
  }
}

/** Makes a call on each connection, repeatedly, until stopped. */
async function callInRounds(callers: readonly RpcClient[], meter: Meter): Promise<void> {
  while (!callers[0].stopped) {
    const startedMs = performance.now();
    await Promise.all(callers.map(async (caller) => {
      await caller.callOnce();
      meter.record(performance.now() - startedMs, 1);
    }));
  }
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let sent = 0; sent < bytes.length;) sent += await conn.write(sent === 0 ? bytes : bytes.subarray(sent));
}

if (import.meta.main) {
  const job: Job = JSON.parse(Deno.args[0]);
  const block = new Block(job);
  const callers: RpcClient[] = [];
  while (callers.length < job.connections) callers.push(await RpcClient.connect(job, block));
  const start = (meter: Meter) =>
    job.inRounds ? [callInRounds(callers, meter)] : callers.map((caller) => caller.keep(job.inFlight, meter));
  const sample = await sampleOf(job, start, () => {
    for (const caller of callers) caller.stopped = true;
  });
  console.log(JSON.stringify(sample));
  Deno.exit();
}
