/**
 * Callers that misuse their streams, on real sockets, beside good clients whose calls all succeed: those that vanish, that send
 * what nobody has granted, that never end, that send to a handler that never takes. Each has an end that its handler is
 * told, the memory has its bound, and nothing is left.
 *
 * A server that keeps whatever it is sent is the canary.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { HeldItems } from "../../handlers/held_items.ts";
import { command, type Commands, unchecked } from "../../handlers/command.ts";
import { RpcError } from "../../errors.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { ItemWindow } from "../../session/item_queue.ts";
import { newSeed, Random } from "../support/random.ts";
import { replaced } from "../support/replaced.ts";
import { overEach, TCP, TLS, type Transport, UNIX } from "../support/transports.ts";
import type { Peer } from "../support/peers.ts";
import { type TestServer, withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";
import { besideGoodClients, shown, statisticsOf, until, untilAtRest } from "./beside.ts";

const ALL = [TCP, TLS, UNIX];
const GOOD_CLIENTS = 8;

/** Handlers of callers' streams, and what becomes of them. */
class Handlers {
  /** How each that has ended has ended: `whole`, or a code. */
  readonly endings: string[] = [];
  running = 0;
  finallys = 0;
  /** Lets go those that wait for the test. */
  readonly letGo = Promise.withResolvers<void>();

  readonly commands: Commands = {
    /** Takes all. */
    TAKE: command({
      items: unchecked<unknown>(),
      handler: (_: object, { items }) =>
        this.#follow(async () => {
          let taken = 0;
          for await (const _ of items) taken++;
          return taken;
        }),
    }),
    /** Takes so many, then waits until the test lets it go, or the call has ended. */
    HOLD: command({
      items: unchecked<unknown>(),
      handler: ({ takes = 0 }: { takes?: number }, { items, signal }) =>
        this.#follow(async () => {
          const reader = items[Symbol.asyncIterator]();
          for (let left = takes; left > 0; left--) await reader.next();
          await Promise.race([this.letGo.promise, aborted(signal)]);
          return takes;
        }),
    }),
    /** Takes all, and is slow to clean up. */
    CLEAN: command({
      items: unchecked<unknown>(),
      handler: (_: object, { items }) =>
        this.#follow(async () => {
          try {
            for await (const _ of items);
          } finally {
            await this.letGo.promise;
          }
        }),
    }),
    /** Has little time. */
    SHORT: command({
      timeoutMs: 100,
      items: unchecked<unknown>(),
      handler: (_: object, { items }) =>
        this.#follow(async () => {
          for await (const _ of items);
        }),
    }),
  };

  async #follow<Result>(work: () => Promise<Result>): Promise<Result> {
    this.running++;
    try {
      const result = await work();
      this.endings.push("whole");
      return result;
    } catch (error) {
      this.endings.push(error instanceof RpcError ? error.code : String(error));
      throw error;
    } finally {
      this.running--;
      this.finallys++;
    }
  }
}

async function aborted(signal: AbortSignal): Promise<never> {
  signal.throwIfAborted();
  return await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
}

const many = <Item>(count: number, item: (index: number) => Item): Item[] =>
  Array.from({ length: count }, (_, i) => item(i));

const item = (value: unknown, seq = 1): Message => ({ cmd: 0, seq, item: value });
const essence = ({ seq, res, err }: Message): Message => err === undefined ? { seq, res } : { seq, err };

/** The next reply that is the last of its call: behind grants. */
async function finalOf(peer: Peer): Promise<Message> {
  const message = await peer.readReply();
  return "credit" in message ? await finalOf(peer) : essence(message);
}

/** A test of a misuse, over each transport and beside good clients. */
function misuse(
  name: string,
  body: (server: TestServer, handlers: Handlers) => Promise<void>,
  transports: readonly Transport[] = ALL,
): void {
  overEach(`hostile streams - ${name}`, async (transport) => {
    const handlers = new Handlers();
    await using server = await withServer({ commands: handlers.commands }, transport);
    const fared = await besideGoodClients(server.address, GOOD_CLIENTS, () => body(server, handlers));
    handlers.letGo.resolve();
    await untilAtRest(server.address);
    assertEquals(handlers.running, 0);
    console.log(shown(fared));
  }, transports);
}

/** The points at which a caller can be gone; the last with all that was granted sent. */
const POINTS: [name: string, reach: (peer: Peer) => Promise<unknown>][] = [
  ["behind the request", (peer) => peer.send({ cmd: "TAKE", seq: 1, $items: true })],
  ["behind its first item", (peer) => peer.send({ cmd: "TAKE", seq: 1, $items: true }, item("a"))],
  ["behind a grant", async (peer) => {
    await peer.send({ cmd: "TAKE", seq: 1, $items: true }, item("a"));
    await peer.readReply();
  }],
  ["among what was granted", async (peer) => {
    await peer.send({ cmd: "TAKE", seq: 1, $items: true }, item("a"));
    const { credit } = await peer.readReply();
    await peer.send(...many(credit as number, () => item("b")));
  }],
];

for (const [end, transports] of [["RST", [TCP, TLS]], ["FIN", ALL], ["FIN after alive", ALL]] as const) {
  misuse(`callers that vanish (${end}) leave handlers that are told, and nothing else`, async (server, handlers) => {
    for (const [name, reach] of POINTS) {
      for (let round = 0; round < 5; round++) {
        await using peer = end === "RST" ? await server.connectResettable() : await server.connect();
        if (end === "FIN after alive") await peer.send({ cmd: 0, alive: 60_000 });
        await reach(peer);
        await until("its handler runs", () => handlers.running === 1 || handlers.endings.length > 0);
        if (end === "RST") peer.reset();
        else await peer.halfClose();
        await until(`the handler of one ${name} is told`, () => handlers.endings.length === 1);
        const [code] = handlers.endings.splice(0);
        assertEquals(code, end === "FIN" ? "CANCELLED" : "CONNECTION_LOST", name);
      }
    }
  }, transports);
}

misuse("items beyond the credit fail their call, once, and the connection goes on", async (server, handlers) => {
  await using peer = await server.connect();
  for (let seq = 1; seq <= 50; seq++) {
    await peer.send({ cmd: "HOLD", seq, $items: true }, ...many(1_000, () => item("x".repeat(100), seq)));
    assertEquals(essence(await peer.readReply()), { seq, err: "INVALID_MESSAGE" });
  }
  assertEquals(await peer.ask({ cmd: 1, seq: 99 }), { seq: 99, res: "PONG" });
  await until("all handlers are told", () => handlers.running === 0);
  assertEquals(handlers.endings, many(50, () => "INVALID_MESSAGE"));
});

misuse("floods of items for calls that have ended are read and dropped", async (server) => {
  await using peer = await server.connect();
  const flood = many(1_000, () => item(new Uint8Array(10_000), 1));
  await peer.send({ cmd: "SHORT", seq: 1, $items: true });
  assertEquals(await finalOf(peer), { seq: 1, err: "DEADLINE_EXCEEDED" });
  for (let round = 0; round < 10; round++) await peer.send(...flood);
  assertEquals(await peer.ask({ cmd: 1, seq: 2 }), { seq: 2, res: "PONG" });
  assertEquals((await statisticsOf(server.address)).refused.invalidMessage, 0);
});

misuse("a caller that never ends has the time of its call", async (server, handlers) => {
  await using peer = await server.connect();
  await peer.send({ cmd: "SHORT", seq: 1, $items: true }, item("a"));
  assertEquals(await finalOf(peer), { seq: 1, err: "DEADLINE_EXCEEDED" });
  await peer.send({ cmd: "TAKE", seq: 2, ttl: 100, $items: true });
  assertEquals(await finalOf(peer), { seq: 2, err: "DEADLINE_EXCEEDED" });
  assertEquals(handlers.endings, ["DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]);
});

misuse(
  "a handler that hangs in its finally keeps its place, and its caller has been told",
  async (server, handlers) => {
    await using peer = await server.connect();
    await peer.send({ cmd: "CLEAN", seq: 1, $items: true }, item("a"));
    await until("it runs", () => handlers.running === 1);
    await peer.send({ cmd: 0, seq: 1, cancel: true });
    assertEquals(await finalOf(peer), { seq: 1, err: "CANCELLED" });
    assertEquals((await statisticsOf(server.address)).inFlight, 1);
    handlers.letGo.resolve();
    await until("it has ended", () => handlers.running === 0);
    assertEquals(handlers.endings, ["CANCELLED"]);
  },
);

// The bound ----------------------------------------------------------------------------------------------------------

/** What the rules of a window do not count: names of fields, headers, what was taken before. */
const SLACK = 1.3;

/** Uploads whose handlers take one item and no more, until nothing moves. Returns how much was read of them. */
async function receivedOf(server: TestServer, handlers: Handlers, uploads: number, bytes: number): Promise<number> {
  await using client = await connect(server.address);
  async function* source() {
    while (true) yield new Uint8Array(bytes);
  }
  const calls = many(uploads, () => assertRejects(() => client.call("HOLD", { takes: 1 }, { items: source() })));
  await until("they run", () => handlers.running === uploads);
  let received = -1;
  for (let still = 0; still < 10;) {
    const now = server.server.statistics().bytes.received;
    still = now === received ? still + 1 : 0;
    received = now;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  await client.close();
  await Promise.all(calls);
  return received;
}

const SIZES: [uploads: number, bytes: number][] = [[1, 1], [1, 65_536], [1, 1_000_000], [16, 65_536], [16, 1_000_000]];

overEach(
  "hostile streams - of uploads that no handler takes, no more is read than the memory holds, whatever their size",
  async (transport) => {
    for (const [uploads, bytes] of SIZES) {
      const handlers = new Handlers();
      await using server = await withServer({ commands: handlers.commands }, transport);
      const received = await receivedOf(server, handlers, uploads, bytes);
      const { maxQueuedBytes, maxPayloadBytes } = DEFAULT_LIMITS;
      const bound = SLACK * (maxQueuedBytes + uploads * (maxPayloadBytes + bytes));
      console.log(`${uploads} uploads, items of ${bytes} B: ${(received / 2 ** 20).toFixed(2)} MiB read`);
      assert(received < bound, `${received} bytes were read of ${uploads} uploads of ${bytes} bytes each`);
      if (bytes === 1) assert(received < 20_000, `${received} bytes were read of items of a byte`);
      await until("all are told", () => handlers.running === 0);
      await untilAtRest(server.address);
    }
  },
  ALL,
);

Deno.test("hostile streams - canary: a server that keeps all items that it is sent is caught", async () => {
  const handlers = new Handlers();
  await using server = await withServer({ commands: handlers.commands });
  using _grants = replaced(ItemWindow.prototype, "grant", (grant) =>
    function (this: ItemWindow) {
      return 200 + 0 * grant.call(this);
    });
  using _adds = replaced(ItemWindow.prototype, "add", () => () => true);
  using _keeps = replaced(HeldItems.prototype, "mayKeep", () => () => true);
  using _has = replaced(HeldItems.prototype, "hasRoomFor", () => () => true);
  const received = await receivedOf(server, handlers, 1, 1_000_000);
  assert(
    received > SLACK * (DEFAULT_LIMITS.maxQueuedBytes + DEFAULT_LIMITS.maxPayloadBytes + 1_000_000),
    `${received}`,
  );
  await until("it is told", () => handlers.running === 0);
});

Deno.test("hostile streams - random misuse: no call is left, no handler takes half a stream for a whole one", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const handlers = new Handlers();
  await using server = await withServer({ commands: handlers.commands, maxStrikes: 100_000 });
  let ends = 0;
  for (let round = 0; round < 100; round++) {
    await using peer = await server.connect();
    for (let left = random.below(50); left > 0; left--) {
      const seq = random.below(4);
      const message = random.pick<Message>([
        { cmd: random.pick(["TAKE", "TAKE", "SHORT"]), seq, $items: true },
        item(new Uint8Array(random.below(2_000)), seq),
        item(null, seq),
        { cmd: 0, seq, cancel: true },
        { cmd: 0, seq, credit: 5 },
        { cmd: 0, seq, end: true },
      ]);
      if ("end" in message) ends++;
      await peer.send(message);
    }
    if (random.chance(0.5)) await peer.halfClose();
  }
  await until("all handlers are told", () => handlers.running === 0);
  const wholes = handlers.endings.filter((ending) => ending === "whole").length;
  console.log(`${handlers.endings.length} handlers, ${wholes} of them with a whole stream; ${ends} ends`);
  assert(wholes > 0 && wholes <= ends);
  await untilAtRest(server.address);
});
