/**
 * One connection from its first byte to its last, over streams in memory: the whole pipeline of a server, and a peer that
 * sends what it is given, says that it has no more, and reads.
 *
 * In: the chunks to send. Out: what came back, how it ended, and what the server's operator was told. The clock leaps,
 * so that nothing here takes time, and the same chunks give the same bytes.
 */

import { setImmediate } from "node:timers";
import type { Commands } from "../../handlers/command.ts";
import { command, reply, unchecked } from "../../handlers/command.ts";
import { RpcError } from "../../errors.ts";
import { MAX_TIMER_MS } from "../../limits.ts";
import { serveOne } from "../support/serve_one.ts";
import { sleep } from "../../transport/clock.ts";
import { fromStreams, type Transport } from "../../transport/transport.ts";
import { concat } from "../support/wire.ts";
import { LeapingClock } from "./leaping_clock.ts";

/** Serves a connection: the shipped code, or a broken one that a test puts in its place. */
export type Serve = (transport: Transport, options: Parameters<typeof serveOne>[1]) => Promise<void>;

/** What came of a connection. */
export interface Conversation {
  /** All bytes that came back. */
  readonly replies: Uint8Array;
  /**
   * `closed` by the server, in order; `left` by the peer, which has had enough of a stream without end; `open`, where
   * nothing moves and nothing ever will.
   */
  readonly ending: "closed" | "left" | "open";
  /** What reached `onError`. */
  readonly errors: unknown[];
  /** Promises that were rejected and that nobody looked at. */
  readonly rejections: unknown[];
}

/** The peer leaves when so much has come back: a stream may be without end. */
const ENOUGH_BYTES = 512 * 1024;

/** How often time leaps before the peer leaves, and then before the connection counts as stuck. */
const LEAPS = 50;

type Params = Record<string, unknown>;

/** Commands that answer in every way there is, and that fail only on purpose. */
const COMMANDS: Commands = {
  ECHO: command({ number: 16, handler: ({ value }: Params) => value ?? null }),
  LATER: command({
    number: 17,
    async handler({ value, sleep: seconds }: Params, { clock, signal, meta }) {
      if (typeof seconds === "number" && seconds >= 0 && seconds < 1_000) await sleep(clock, seconds * 1000, signal);
      return reply(value ?? null, { meta });
    },
  }),
  REFUSE: command({
    handler({ value }: Params): never {
      throw new RpcError("REFUSED", "as was asked", { data: value });
    },
  }),
  CHECKED: command({
    schema: {
      "~standard": {
        version: 1,
        vendor: "packline",
        validate: (params) => ({
          issues: Object.keys(params as Params).map((key) => ({ message: "no", path: [key] })),
        }),
      },
    },
    handler: () => true,
  }),
  ITEMS: command({
    async *handler({ count }: Params) {
      for (let index = 0; index < Math.min(Number(count) || 0, 100); index++) yield [index];
      return "end";
    },
  }),
  UPLOAD: command({
    items: unchecked<unknown>(),
    async handler({ count }: Params, { items }) {
      let taken = 0;
      for await (const _ of items) if (++taken === count) break;
      return taken;
    },
  }),
  CHAT: command({
    items: { "~standard": { version: 1, vendor: "packline", validate: itemOfChat } },
    async *handler(_params: object, { items }) {
      for await (const item of items) yield [item];
    },
  }),
};

/** An item of CHAT: a number is none. */
function itemOfChat(value: unknown) {
  return typeof value === "number" ? { issues: [{ message: "no" }] } : { value };
}

/** Lets one connection run to its end. */
export async function converse(chunks: Uint8Array[], serve: Serve = serveOne): Promise<Conversation> {
  const clock = new LeapingClock();
  const errors: unknown[] = [];
  const rejections: unknown[] = [];
  const received: Uint8Array[] = [];
  let receivedBytes = 0;
  let moves = 0;
  let left = false;

  let next = 0;
  let lent = new Uint8Array(0);
  const readable = new ReadableStream<Uint8Array>({
    pull(controller) {
      moves++;
      lent.fill(0xee); // its source may reuse a chunk as soon as the next one is asked for
      if (next === chunks.length) return controller.close();
      lent = chunks[next++].slice();
      controller.enqueue(lent);
    },
  }, { highWaterMark: 0 });
  const writable = new WritableStream<Uint8Array>({
    write(bytes) {
      moves++;
      if (left) throw new Deno.errors.ConnectionReset("the peer has left");
      received.push(bytes.slice());
      receivedBytes += bytes.length;
    },
  });

  const onRejection = (event: PromiseRejectionEvent) => {
    event.preventDefault();
    rejections.push(event.reason);
  };
  addEventListener("unhandledrejection", onRejection);
  let ended = false;
  serve(fromStreams({ readable, writable, peer: "memory" }), {
    commands: COMMANDS,
    clock,
    onError: (error) => void errors.push(error),
    // The end of a server waits for its lines in the log, in real time.
    logLevel: "error",
    // The fuzz is one peer that does nothing but harm, and has no time in which to do it.
    maxStrikes: 100_000,
    frameTimeoutMs: MAX_TIMER_MS,
    writeTimeoutMs: MAX_TIMER_MS,
    idleTimeoutMs: Infinity,
  }).then(() => ended = true, (error) => void rejections.push(error));

  for (let leaps = 0; leaps < 2 * LEAPS;) {
    const before = moves;
    await turn();
    if (ended) break;
    if (moves !== before) continue;
    clock.leap();
    leaps++;
    left ||= receivedBytes > ENOUGH_BYTES || leaps > LEAPS;
  }
  await turn();
  removeEventListener("unhandledrejection", onRejection);
  return { replies: concat(...received), ending: !ended ? "open" : left ? "left" : "closed", errors, rejections };
}

/** Everything that can run now has run after it. */
function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
