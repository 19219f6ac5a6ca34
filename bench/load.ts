/**
 * Generates load: sends prepared requests, keeps a fixed number in flight on each connection, and counts replies by
 * their size. It does not encode or decode while it measures, and uses the system's sockets directly, so its cost is
 * low and the same for all servers. On every connection, the first round of replies is compared byte for byte.
 *
 * In: a {@linkcode Job} as JSON, in the first argument. Out: a `Sample` as one line of JSON on stdout. Refused: a wrong
 * reply, a closed connection or an unanswered call ends the process with an error.
 */

import { type Extent, LAST_ANSWER_MS, Measurement, Meter, type Sample, type Window } from "./measure.ts";
import { connectTo, Poll, receive, send } from "./socket.ts";
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
   * Whether all connections call at once, with one call in flight each, and again after the last reply. Then all make
   * the same number of calls, whatever the order in which the server reads them.
   */
  inRounds?: true;
}

const LARGEST_READ_BYTES = 256 * 1024;

/** The buffer of all connections. Only the number of replies is kept. */
const buffer = new Uint8Array(LARGEST_READ_BYTES);

/** All requests in flight, twice in a row, so that any sequence of requests is contiguous; and their replies. */
export class Block {
  readonly greeting: Uint8Array<ArrayBuffer>;
  readonly requests: Uint8Array<ArrayBuffer>;
  readonly replies: Uint8Array<ArrayBuffer>;
  readonly requestBytes: number;
  readonly replyBytes: number;
  /** How many of the requests have no reply while the load lasts. */
  readonly waiting: number;
  readonly #varies: { from: number; to: number };

  constructor({ speech, question, inFlight }: Pick<Job, "speech" | "question" | "inFlight">) {
    const exchanges = Array.from({ length: inFlight }, (_, index) => exchange(speech, question, index));
    this.greeting = concat([greeting(speech, question)]);
    this.requests = concat([...exchanges, ...exchanges].map(({ request }) => request));
    this.replies = concat(exchanges.map(({ reply }) => reply));
    this.requestBytes = exchanges[0].request.length;
    this.replyBytes = exchanges[inFlight - 1].reply.length;
    this.waiting = exchanges.filter(({ reply }) => reply.length === 0).length;
    this.#varies = exchanges[0].varies ?? { from: 0, to: 0 };
  }

  /** Compares received bytes with the expected bytes from a position on. */
  check(bytes: Uint8Array, position: number): void {
    const { from, to } = this.#varies;
    for (let index = 0; index < bytes.length; index++) {
      const at = (position + index) % this.replyBytes;
      const wanted = this.replies[(position + index) % this.replies.length];
      if (bytes[index] !== wanted && !(at >= from && at < to)) {
        const shown = new TextDecoder().decode(bytes.subarray(index, index + 64));
        throw new Error(`a reply is wrong at byte ${position + index}: ${JSON.stringify(shown)}`);
      }
    }
  }
}

/** One connection. */
class Caller {
  readonly #fd: number;
  readonly #number: number;
  readonly #poll: Poll;
  readonly #block: Block;
  /** When the unanswered calls were sent, and how many at each time. */
  readonly #sent: { ms: number; calls: number }[] = [];
  /** The position of the next byte to send in the block, and how many bytes are due. */
  #nextByte = 0;
  #dueBytes = 0;
  #waitsForRoom = false;
  #receivedBytes = 0;

  /** Connects, and sends the greeting. */
  constructor(port: number, number: number, poll: Poll, block: Block) {
    this.#number = number;
    this.#poll = poll;
    this.#block = block;
    this.#fd = connectTo(port);
    send(this.#fd, block.greeting);
    poll.add(this.#fd, number);
  }

  /** Makes calls. */
  call(calls: number): void {
    this.#sent.push({ ms: performance.now(), calls });
    this.#dueBytes += calls * this.#block.requestBytes;
    this.sendDue();
  }

  /** Sends as many of the due bytes as there is room for. */
  sendDue(): void {
    const { requests } = this.#block;
    const sentBytes = send(this.#fd, requests.subarray(this.#nextByte, this.#nextByte + this.#dueBytes));
    this.#dueBytes -= sentBytes;
    this.#nextByte = (this.#nextByte + sentBytes) % (requests.length / 2);
    if (this.#dueBytes > 0 !== this.#waitsForRoom) {
      this.#waitsForRoom = !this.#waitsForRoom;
      this.#poll.watchRoom(this.#fd, this.#number, this.#waitsForRoom);
    }
  }

  /** Reads once. Returns how many replies are now complete. */
  receive(meter: Meter): number {
    const bytes = receive(this.#fd, buffer);
    const { replies, replyBytes } = this.#block;
    if (this.#receivedBytes <= replies.length) this.#block.check(buffer.subarray(0, bytes), this.#receivedBytes);
    const before = Math.floor(this.#receivedBytes / replyBytes);
    this.#receivedBytes += bytes;
    const answered = Math.floor(this.#receivedBytes / replyBytes) - before;
    if (answered > 0) this.#record(answered, meter);
    return answered;
  }

  #record(answered: number, meter: Meter): void {
    const nowMs = performance.now();
    for (let left = answered; left > 0;) {
      const oldest = this.#sent[0];
      const calls = Math.min(left, oldest.calls);
      meter.record(nowMs - oldest.ms, calls);
      left -= calls;
      oldest.calls -= calls;
      if (oldest.calls === 0) this.#sent.shift();
    }
  }
}

/** All connections of a load. */
export class Callers {
  readonly meter = new Meter();
  readonly #poll = new Poll();
  readonly #callers: Caller[] = [];
  #inFlight = 0;

  /** Opens a connection. Returns its number. */
  open(port: number, block: Block): number {
    return this.#callers.push(new Caller(port, this.#callers.length, this.#poll, block)) - 1;
  }

  /** Makes calls on one connection. */
  call(number: number, calls: number): void {
    this.#inFlight += calls;
    this.#callers[number].call(calls);
  }

  /** Makes calls on each connection. */
  callAll(calls: number): void {
    for (let number = 0; number < this.#callers.length; number++) this.call(number, calls);
  }

  /** Waits for replies until a condition holds. Reports each connection that got some. */
  until(isOver: () => boolean, onReplies: (number: number, replies: number) => void): void {
    while (!isOver()) {
      this.#poll.wait(1, (number, isReadable, hasRoom) => {
        if (hasRoom) this.#callers[number].sendDue();
        const replies = isReadable ? this.#callers[number].receive(this.meter) : 0;
        this.#inFlight -= replies;
        if (replies > 0) onReplies(number, replies);
      });
    }
  }

  /** Waits until all calls are answered, except the waiting ones. */
  untilAnswered(waiting = 0): void {
    const endMs = performance.now() + LAST_ANSWER_MS;
    this.until(() => this.#inFlight === waiting || performance.now() > endMs, () => {});
    if (this.#inFlight > waiting) throw new Error(`${this.#inFlight - waiting} calls were never answered`);
  }

  /** Whether no call is in flight. */
  get areIdle(): boolean {
    return this.#inFlight === 0;
  }
}

if (import.meta.main) {
  const job: Job = JSON.parse(Deno.args[0]);
  const block = new Block(job);
  const callers = new Callers();
  for (let count = 0; count < job.connections; count++) callers.open(job.port, block);
  const onReplies = job.inRounds
    ? () => callers.areIdle && callers.callAll(1)
    : (number: number, replies: number) => callers.call(number, replies);

  callers.callAll(job.inFlight);
  const during = (extent: Extent): Sample => {
    const measurement = new Measurement(job.pid, extent, callers.meter);
    callers.until(() => measurement.isOver(), onReplies);
    return measurement.sample();
  };
  during(job.warmup);
  console.log(JSON.stringify(during(job.window)));
  callers.untilAnswered();
  Deno.exit();
}
