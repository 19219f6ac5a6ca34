/**
 * Random calls, streams, uploads, cancels, deadlines and ends, in any order. Afterwards no place and no memory is taken,
 * every request has had one reply, and every call one line of the access log. STATS, TAP and the callers have seen the same
 * outcomes.
 */

import { assert, assertEquals } from "@std/assert";
import { accessLog } from "../../handlers/access_log.ts";
import { command, type Context, type Middleware } from "../../handlers/command.ts";
import { PacklineServer } from "../../handlers/server.ts";
import { type ServerOptions, ServerState } from "../../handlers/server_state.ts";
import type { TappedCall, Taps } from "../../handlers/tap.ts";
import type { ServerNetwork } from "../../transport/listen.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryPeer, type Peer, settle } from "../support/peers.ts";
import { newSeed, Random } from "../support/random.ts";
import type { Message } from "../support/wire.ts";

const STEPS = 20_000;
const STEPS_A_SERVER = 500;
const MAX_IN_FLIGHT = 3;
const MAX_IN_FLIGHT_TOTAL = 10;

/** The outcomes that TAP tells and STATS has for no command: refusals, and calls whose callers have gone. */
const NOT_COUNTED = new Set(["BAD_FRAME", "CONNECTION_LOST", "INVALID_MESSAGE", "SHUTTING_DOWN"]);

/** How often there is each outcome: a code, or `ok`. */
function tally(codes: Iterable<string | null | undefined>): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const code of codes) counts[code ?? "ok"] = (counts[code ?? "ok"] ?? 0) + 1;
  return counts;
}

/** A client and what it expects. */
class Caller {
  readonly peer: Peer;
  /** Final replies that are due. */
  readonly due = new Set<number>();
  dueInOrder = 0;
  seq = 0;
  /** Whether it has sent or got an end. */
  isLeaving = false;
  /** The codes of its replies. */
  readonly codes: (string | undefined)[] = [];

  /** @param name Its address at the server. */
  constructor(peer: Peer, readonly name: string) {
    this.peer = peer;
  }

  /** Whether it has every reply that it can get. */
  get isDone(): boolean {
    return this.isLeaving || this.due.size === 0 && this.dueInOrder === 0;
  }

  /** Takes the replies so far. */
  read(): void {
    for (const reply of this.peer.takeReady()) {
      if (reply.more || reply.credit !== undefined || reply.going !== undefined) continue;
      if (reply.err === "BAD_FRAME") this.isLeaving = true;
      else this.codes.push(reply.err as string | undefined);
      if (reply.seq === undefined) this.dueInOrder--;
      else assert(this.due.delete(reply.seq as number), `a second reply: ${Deno.inspect(reply)}`);
    }
  }
}

/** One server, and what happens to it. */
class World {
  readonly clock = new FakeClock();
  readonly state: ServerState;
  readonly server: PacklineServer;
  readonly random: Random;
  readonly callers: Caller[] = [];
  /** The callers that have sent their end. */
  readonly gone: Caller[] = [];
  lines = 0;
  begun = 0;
  /** Lets parts of handlers go on. */
  readonly gates: ((error?: Error) => void)[] = [];
  /** What TAP tells of each call. */
  readonly told: TappedCall[] = [];
  readonly #tap: ReturnType<Taps["open"]>;
  readonly #running = new Map<object, number>();
  #total = 0;

  constructor(random: Random) {
    this.random = random;
    const counting: Middleware = (_call, next) => (this.begun++, next());
    const options: ServerOptions = {
      clock: this.clock,
      maxInFlight: MAX_IN_FLIGHT,
      maxInFlightTotal: MAX_IN_FLIGHT_TOTAL,
      maxHeldBytes: random.pick([2_000, 20_000, 200_000]),
      maxTotalHeldBytes: random.pick([5_000, 1_000_000]),
      maxQueuedBytes: random.pick([1_000, 4_000_000]),
      maxStrikes: 100_000,
      handlerTimeoutMs: random.pick([200, Infinity]),
      halfOpenTimeoutMs: 2_000,
      maxPayloadBytes: 20_000,
      middleware: [accessLog(() => void this.lines++), counting, (call, next) => this.#middle(call, next)],
      commands: this.#commands(),
      onError() {},
    };
    this.state = new ServerState(options);
    this.#tap = this.state.registry.taps.open({ command: undefined, slowMs: 0 });
    this.#watch();
    this.server = new PacklineServer(this.state, options, {} as ServerNetwork);
  }

  /** Lets TAP tell of every call. */
  #watch(): void {
    this.state.registry.taps.gather(this.#tap);
    this.#tap.room = Infinity;
  }

  /** Waits until the test lets it go on, or fail. */
  gate(): Promise<void> {
    return new Promise((resolve, reject) => this.gates.push((error) => error ? reject(error) : resolve()));
  }

  /** Runs a handler, and checks that it has a place. */
  async #placed<Value>({ connection }: Context, run: () => Promise<Value>): Promise<Value> {
    const before = this.#running.get(connection) ?? 0;
    this.#running.set(connection, before + 1);
    this.#total++;
    assert(before < MAX_IN_FLIGHT && this.#total <= MAX_IN_FLIGHT_TOTAL, `${before} and ${this.#total} run`);
    try {
      return await run();
    } finally {
      this.#running.set(connection, this.#running.get(connection)! - 1);
      this.#total--;
    }
  }

  /** A middleware that does what its caller wants. */
  async #middle(call: Context, next: () => Promise<{ res: unknown }>): Promise<{ res: unknown }> {
    switch (call.params.middle) {
      case "answers":
        return { res: "own" };
      case "answers early":
        void next();
        return { res: "early" };
      case "answers amid":
        void next();
        await this.gate();
        return { res: "amid" };
      case "passes late":
        await this.gate();
        return await next();
      case "fails":
        void next();
        throw new Error("middleware");
      case "replaces":
        await next();
        return { res: "replaced" };
      case "races":
        return await Promise.race([next(), this.gate().then(() => ({ res: "raced" }))]);
      case "aborts": {
        const aborted = new Promise<never>((_, reject) =>
          call.signal.addEventListener("abort", () => reject(call.signal.reason))
        );
        return await Promise.race([next(), aborted]);
      }
      default:
        return await next();
    }
  }

  #commands() {
    const { random } = this;
    const some = async () => {
      for (let count = random.below(3); count > 0; count--) await this.gate();
    };
    return {
      NOW: command(() => "now"),
      SOON: command((_: object, context) => this.#placed(context, () => Promise.resolve({ a: 1 }))),
      HOLD: command((_: object, context) => this.#placed(context, some)),
      KIND: command((_: object, context) =>
        this.#placed(context, () =>
          Promise.race([
            some(),
            new Promise<never>((_, reject) =>
              context.signal.addEventListener("abort", () => reject(context.signal.reason))
            ),
          ]))
      ),
      LARGE: command((_: object, context) => this.#placed(context, async () => (await some(), "x".repeat(30_000)))),
      MIDDLE: command((_: object, context) => this.#placed(context, async () => (await some(), "x".repeat(3_000)))),
      ODD: command((_: object, context) => this.#placed(context, async () => (await some(), (() => {}) as unknown))),
      COUNT: command(() => this.#count()),
      STUBBORN: command(() => {
        const items = this.#count();
        return { [Symbol.asyncIterator]: () => ({ next: () => items.next() }) } as AsyncIterable<unknown>;
      }),
      SUM: command((_: object, context) =>
        this.#placed(context, async () => {
          await some();
          let count = 0;
          for await (const _ of context.items ?? []) {
            if (++count > random.below(20)) break;
            await some();
          }
          await some();
          return count;
        })
      ),
      ECHO: command(async function* (_: object, { items }) {
        for await (const item of items ?? []) yield item;
      }),
    };
  }

  async *#count(): AsyncGenerator<unknown, unknown> {
    const { random } = this;
    for (let count = random.below(6); count > 0; count--) {
      if (random.chance(0.5)) await this.gate();
      yield random.pick([1, "text", { a: [1] }, "x".repeat(2_000), random.chance(0.1) ? () => {} : 2]);
    }
    if (random.chance(0.1)) throw new Error("a stream");
    return "end";
  }

  connect(): void {
    const [peer, there] = memoryPeer();
    const caller = new Caller(peer, `caller ${this.state.counts.connectionsAccepted}`);
    Object.assign(there, { peer: caller.name });
    this.callers.push(caller);
    void this.server.accept(there).then(() => caller.isLeaving = true);
  }

  /** One thing happens. */
  async step(): Promise<void> {
    const { random } = this;
    if (this.callers.length === 0 || this.callers.length < 4 && random.chance(0.02)) this.connect();
    const caller = random.pick(this.callers);
    const { peer } = caller;
    const send = (...messages: Message[]) => void peer.send(...messages).catch(() => caller.isLeaving = true);
    const seq = random.between(Math.max(1, caller.seq - 6), caller.seq + 1);
    const [kind, rare] = [random.below(100), random.below(100)];
    if (kind < 40) {
      if (!caller.isLeaving) {
        send(...Array.from({ length: random.pick([1, 1, 1, 2, 8]) }, () => this.#request(caller)));
      }
    } else if (kind < 50) {
      send(
        ...Array.from({ length: random.between(1, 4) }, () => ({ cmd: 0, seq, item: "x".repeat(random.below(900)) })),
      );
    } else if (kind < 55) {
      send({ cmd: 0, seq, end: true });
    } else if (kind < 62) {
      send({ cmd: 0, seq, cancel: true });
    } else if (kind < 67) {
      send({ cmd: 0, seq, credit: random.between(1, 5) });
    } else if (kind < 80) {
      for (let count = random.between(1, 4); count > 0 && this.gates.length > 0; count--) {
        const [gate] = this.gates.splice(random.below(this.gates.length), 1);
        gate(random.chance(0.1) ? new Error("a handler") : undefined);
      }
    } else if (kind < 86) {
      await this.clock.advance(random.pick([1, 5, 50, 300]));
    } else if (kind < 94) {
      await turn();
    } else if (kind < 95) {
      if (random.chance(0.3)) send(random.pick<Message>([{ cmd: 0, notice: true }, { cmd: 0, alive: 60_000 }]));
    } else if (kind < 96) {
      if (random.chance(0.3) && !caller.isLeaving) {
        caller.dueInOrder++;
        send({ cmd: 1, bad: 1, seq: -5 });
      }
    } else if (rare < 5) {
      caller.isLeaving = true;
      if (random.chance(0.5)) void peer.halfClose().catch(() => {});
      else peer.close();
      this.gone.push(...this.callers.splice(this.callers.indexOf(caller), 1));
    } else if (rare < 7) {
      caller.isLeaving = true;
      void peer.sendBytes(new Uint8Array([1, 2, 3, 4, 5])).catch(() => {});
    } else if (rare < 9) {
      for (const connection of this.state.connections) connection.drain(500);
    } else if (rare < 11) {
      for (const connection of this.state.connections) connection.cut("a test");
      for (const each of this.callers) each.isLeaving = true;
    }
    if (random.chance(0.8)) caller.read();
  }

  #request(caller: Caller): Message {
    const { random } = this;
    const fields: Message = {
      cmd: random.pick([
        ...["NOW", "SOON", "HOLD", "KIND", "LARGE", "MIDDLE", "ODD", "COUNT", "STUBBORN", "SUM", "ECHO", "NONE"],
        1,
      ]),
      middle: random.pick([
        ...["", "", "", "", "answers", "answers early", "answers amid", "passes late", "fails", "replaces", "races"],
        "aborts",
      ]),
    };
    if (random.chance(0.1)) fields.weight = "x".repeat(random.below(1_500));
    if (random.chance(0.2)) fields.ttl = random.pick([1, 20, 400]);
    if (random.chance(0.7)) {
      fields.seq = ++caller.seq;
      caller.due.add(caller.seq);
      if (random.chance(0.3)) fields.credit = random.between(1, 3);
      if (random.chance(0.4)) fields.$items = true;
    } else {
      caller.dueInOrder++;
    }
    return fields;
  }

  /** Lets all go on to its end. */
  async finish(): Promise<void> {
    for (let round = 0; round < 300; round++) {
      for (const gate of this.gates.splice(0)) gate();
      for (const caller of this.gone) caller.read();
      for (const caller of this.callers) {
        caller.read();
        const cancels = [...caller.due].map((seq) => ({ cmd: 0, seq, cancel: true }));
        if (cancels.length > 0) void caller.peer.send(...cancels).catch(() => {});
      }
      await this.clock.advance(50);
      await settle(2);
      if (this.gates.length === 0 && round > 60 && this.isQuiet) break;
    }
    for (const caller of this.callers) caller.read();
  }

  get isQuiet(): boolean {
    const { handlers, bytes } = this.state.load;
    return handlers === 0 && bytes === 0 && this.callers.every((caller) => caller.isDone);
  }

  /** Fails if anything is left of the calls. */
  check(): void {
    const { load } = this.state;
    const inFlight = this.state.registry.entries().map(({ name, counts }) => `${name} ${counts.inFlight}`);
    assertEquals([load.handlers, load.bytes, this.gates.length], [0, 0, 0], "handlers, bytes and gates");
    assertEquals(inFlight.filter((text) => !text.endsWith(" 0")), []);
    assertEquals(this.lines, this.begun, "lines of the access log");
    const report = this.#tap.report();
    this.#watch();
    this.told.push(...report.calls);
    assertEquals(report.leftOut, 0);
    for (const caller of this.callers) {
      if (caller.isLeaving) continue;
      assertEquals([[...caller.due], caller.dueInOrder], [[], 0]);
      const told = this.told.filter(({ peer }) => peer === caller.name);
      assertEquals(tally(caller.codes), tally(told.map(({ code }) => code)), caller.name);
    }
    this.#compareCounts();
  }

  /** Fails if STATS counts other outcomes than TAP tells. */
  #compareCounts(): void {
    const { commands, refused } = this.state.report.statistics();
    const counted: Record<string, number> = { CMD_NOT_FOUND: refused.unknownCommand, OVERLOADED: refused.overloaded };
    const add = (code: string, calls: number) => counted[code] = (counted[code] ?? 0) + calls;
    for (const { calls, errors } of Object.values(commands)) {
      add("ok", calls);
      for (const [code, failed] of Object.entries(errors)) {
        add(code, failed);
        add("ok", -failed);
      }
    }
    const told = tally(this.told.map(({ code }) => code));
    for (const code of new Set([...Object.keys(counted), ...Object.keys(told)])) {
      if (!NOT_COUNTED.has(code)) assertEquals(counted[code] ?? 0, told[code] ?? 0, code);
    }
  }
}

Deno.test("after random calls, no place and no memory is taken, and each call has its reply and its line", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  for (let steps = 0; steps < STEPS; steps += STEPS_A_SERVER) {
    const world = new World(random);
    for (let step = 0; step < STEPS_A_SERVER; step++) await world.step();
    if (random.chance(0.7)) {
      await world.finish();
      world.check();
    }
    const shutdown = world.server.shutdown({ graceMs: random.pick([0, 300]) });
    const closing = random.chance(0.5) ? world.callers : [];
    for (const { peer } of closing) peer.close();
    for (const caller of world.callers) caller.isLeaving = true;
    await world.finish();
    await shutdown;
    await world.finish();
    world.check();
    assertEquals(world.state.connections.size, 0);
    for (const { peer } of world.callers) peer.close();
    await settle(3);
    assertEquals(world.clock.timers, 0);
  }
});
