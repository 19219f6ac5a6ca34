/**
 * Generates an open load: requests leave when they are due, whether or not earlier requests are answered, as from many
 * independent callers. It sends prepared bytes, and reads only the `seq` and the code of a reply.
 *
 * In: an {@linkcode OpenJob} as JSON, in the first argument. Out: an `OpenSample` as one line of JSON on stdout.
 * Refused: a closed connection ends the process with an error.
 */

import { cpuMs, delay, Meter, starvedMs } from "./measure.ts";
import { deadlineRequest, FIRST_LONG_SEQ } from "./wire.ts";

/** The server to load, and how to load it. */
export interface OpenJob {
  /** The server's process. */
  pid: number;
  warmupMs: number;
  windowMs: number;
  port: number;
  connections: number;
  /** Requests per second, over all connections, at random times. */
  rate: number;
  /** The `ttl` of each request. */
  deadlineMs: number;
}

/** The outcomes of the requests that were due in the window. */
export interface OpenSample {
  /** Requests, and answers within the deadline, per second. */
  offered: number;
  useful: number;
  /** Latencies of useful answers and of all answers, in ms, from when a request was due. */
  usefulP50: number;
  usefulP99: number;
  p50: number;
  p99: number;
  /** Failures by code, per second; `LATE` for answers after the deadline, `NONE` for requests without a reply. */
  failed: Record<string, number>;
  /** The time after which half of the failures were received, in ms. */
  failedP50: number;
  /** Shares of one core. */
  serverCpu: number;
  ownCpu: number;
  /** The share of the window in which the server's thread could run and had no core, because of other programs. */
  starved: number;
  /** How late this process sent 99 % of its requests, in ms. */
  lateP99: number;
}

/** Requests without a reply after this time, beyond their deadline, count as unanswered. */
const LAST_ANSWER_MS = 1_000;

const READ_BYTES = 64 * 1024;

/**
 * The positions of a reply's `seq` and of its next key in a frame: after 2 bytes of length, `{`, `seq`, and a type
 * byte.
 */
const SEQ_AT = 8;
const KEY_AT = SEQ_AT + 4;

const LATE = "LATE";
const NONE = "NONE";

const job: OpenJob = JSON.parse(Deno.args[0]);
const useful = new Meter();
const answered = new Meter();
const failed = new Meter();
const lateness = new Meter();
const codes = new Map<string, number>();

/** When each request was due, by its number; `NaN` if it is answered. */
const dueMs: number[] = [];
let windowStartMs = Infinity;
let windowEndMs = Infinity;
let offered = 0;

function isMeasured(ms: number): boolean {
  return ms >= windowStartMs && ms < windowEndMs;
}

function count(code: string): void {
  codes.set(code, (codes.get(code) ?? 0) + 1);
}

/** A time between two requests, as from independent callers. */
function randomGapMs(): number {
  return -Math.log(1 - Math.random()) * 1000 / job.rate;
}

async function readReplies(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(READ_BYTES);
  let held = 0;
  while (true) {
    const bytes = await conn.read(buffer.subarray(held));
    if (bytes === null) throw new Error("the server closed the connection");
    const nowMs = performance.now();
    const end = held + bytes;
    let at = 0;
    for (let next = frameEnd(buffer, at, end); next <= end; next = frameEnd(buffer, at, end)) {
      onReply(buffer.subarray(at, next), nowMs);
      at = next;
    }
    buffer.copyWithin(0, at, end);
    held = end - at;
  }
}

/** The end of a frame; beyond `end` if its length is not received yet. */
function frameEnd(bytes: Uint8Array, at: number, end: number): number {
  return end - at < 2 ? Infinity : at + 3 + (((bytes[at] - 32) & 255) << 8) + ((bytes[at + 1] - 32) & 255);
}

function onReply(frame: Uint8Array, nowMs: number): void {
  const view = new DataView(frame.buffer, frame.byteOffset);
  const number = view.getUint32(SEQ_AT) - FIRST_LONG_SEQ;
  const sentMs = dueMs[number];
  dueMs[number] = NaN;
  if (!isMeasured(sentMs)) return;
  const tookMs = nowMs - sentMs;
  const isAnswer = frame[KEY_AT + 1] === "r".charCodeAt(0);
  if (isAnswer) answered.record(tookMs, 1);
  if (isAnswer && tookMs <= job.deadlineMs) return useful.record(tookMs, 1);
  failed.record(tookMs, 1);
  const code = KEY_AT + 5;
  count(isAnswer ? LATE : new TextDecoder().decode(frame.subarray(code, code + (frame[code - 1] & 31))));
}

/** Sends all requests that are due, each at a random time after the request before it. */
async function send(conns: readonly Deno.Conn[]): Promise<void> {
  const request = deadlineRequest(job.deadlineMs);
  let nextMs = performance.now();
  while (nextMs < windowEndMs) {
    const nowMs = performance.now();
    for (; nextMs <= nowMs; nextMs += randomGapMs()) {
      if (isMeasured(nextMs)) {
        offered++;
        lateness.record(nowMs - nextMs, 1);
      }
      const bytes = request(dueMs.length);
      dueMs.push(nextMs);
      const conn = conns[Math.floor(Math.random() * conns.length)];
      conn.write(bytes).then((sent) => {
        if (sent < bytes.length) throw new Error("the server takes no more requests");
      });
    }
    await delay(0);
  }
}

const conns: Deno.TcpConn[] = [];
while (conns.length < job.connections) conns.push(await Deno.connect({ hostname: "127.0.0.1", port: job.port }));
for (const conn of conns) {
  conn.setNoDelay(true);
  void readReplies(conn);
}
const sending = send(conns);
await delay(job.warmupMs);
windowStartMs = performance.now();
windowEndMs = windowStartMs + job.windowMs;
const before = { server: cpuMs(job.pid), own: cpuMs(Deno.pid), starvedMs: starvedMs(job.pid) };
await delay(job.windowMs);
const seconds = (performance.now() - windowStartMs) / 1000;
const cpu = { server: cpuMs(job.pid) - before.server, own: cpuMs(Deno.pid) - before.own };
const starved = (starvedMs(job.pid) - before.starvedMs) / 1000 / seconds;
await sending;
await delay(job.deadlineMs + LAST_ANSWER_MS);
for (const ms of dueMs) if (isMeasured(ms)) count(NONE);

const ms = (meter: Meter, part: number) => meter.quantile(part) / 1000;
const sample: OpenSample = {
  offered: offered * 1000 / job.windowMs,
  useful: useful.calls * 1000 / job.windowMs,
  usefulP50: ms(useful, 0.5),
  usefulP99: ms(useful, 0.99),
  p50: ms(answered, 0.5),
  p99: ms(answered, 0.99),
  failed: Object.fromEntries([...codes].map(([code, calls]) => [code, calls * 1000 / job.windowMs])),
  failedP50: ms(failed, 0.5),
  serverCpu: cpu.server / 1000 / seconds,
  ownCpu: cpu.own / 1000 / seconds,
  starved,
  lateP99: ms(lateness, 0.99),
};
console.log(JSON.stringify(sample));
Deno.exit();
