/**
 * Clients that call at a steady pace, over connections that are split, delayed and cut, and now and then lose patience.
 *
 * In: a proxy before a server, and a pace. Out: a ledger. Whatever happens, calls that wait are bounded: where the server
 * does not keep the pace, the load does not either.
 */

import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import type { commands } from "../faults/served.ts";
import type { FaultProxy, Faults } from "../faults/fault_proxy.ts";
import { Ledger, settled } from "../faults/ledger.ts";
import type { Random } from "../support/random.ts";

/** How long nothing may settle before a call that is still open is taken for lost. */
const PATIENCE_MS = 30_000;

/** Between two looks at the pace. */
const TICK_MS = 10;

/** Calls that may wait on each connection: of 16, together, less than a server has in flight at the most. */
const MOST_WAITING = 50;

/** One call in so many is given up: cancelled, out of time, or a stream that is left. */
const GIVEN_UP = 1 / 200;

/** About as many calls as a connection carries before it is cut, which hits what is in flight there. */
const CALLS_A_CUT = 1_200;
const BYTES_A_CALL = 110;

/** Items of a stream, in either direction, and bytes of one that is sent. */
const ITEMS = 20;
const ITEM_BYTES = 200;

/** What the proxy does to each connection. */
export function soakFaults(random: Random): Faults {
  return {
    largestPiece: random.pick([1_000, 100_000, 100_000]),
    longestDelayMs: random.chance(0.2) ? 2 : undefined,
    cut: {
      direction: "up",
      afterBytes: random.between(1, 2 * CALLS_A_CUT * BYTES_A_CALL),
      end: random.pick(["FIN", "RST"]),
    },
  };
}

type SoakClient = Client<typeof commands>;

/** What may come of a call beside its value. */
const LOST = ["CONNECTION_LOST"];
const GIVEN_UP_CODES = ["CANCELLED", "TIMEOUT", ...LOST];

/** The clients of one run. */
export class Load implements AsyncDisposable {
  readonly ledger = new Ledger();
  /** Calls in which something was made to go wrong, whether it then did or not; and those that a cut hit. */
  faulty = 0;
  #durationsMs: number[] = [];
  readonly #clients: SoakClient[];
  readonly #random: Random;
  #open = new Set<Promise<void>>();

  private constructor(clients: SoakClient[], random: Random) {
    this.#clients = clients;
    this.#random = random;
  }

  static async start(proxy: FaultProxy, connections: number, random: Random): Promise<Load> {
    const dials = Array.from(
      { length: connections },
      () => connect<typeof commands>({ port: proxy.port, timeoutMs: Infinity }),
    );
    return new Load(await Promise.all(dials), random);
  }

  /** Replies that came behind the end of their calls. */
  get lateReplies(): number {
    return this.#clients.reduce((sum, client) => sum + client.statistics().lateReplies, 0);
  }

  /** Calls at a pace, then waits until nothing is in flight, or nothing moves any more: see {@linkcode Ledger.open}. */
  async run(forMs: number, callsPerSecond: number): Promise<void> {
    const startMs = performance.now();
    let made = 0;
    for (let nowMs = startMs; nowMs < startMs + forMs; nowMs = performance.now()) {
      const due = (nowMs - startMs + TICK_MS) * callsPerSecond / 1000;
      for (; made < due && this.#open.size < MOST_WAITING * this.#clients.length; made++) this.#call();
      // What could not be made now is not made up for later.
      if (due < Infinity) made = Math.max(made, due);
      await new Promise((resolve) => setTimeout(resolve, TICK_MS));
    }
    // A call that is lost shall be found, not waited for.
    await settled(this.ledger, [...this.#open], PATIENCE_MS);
  }

  /** How long the calls have taken that got their value, since somebody asked; the shortest first. */
  takeDurationsMs(): number[] {
    return this.#durationsMs.splice(0).sort((a, b) => a - b);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
  }

  #call(): void {
    const client = this.#random.pick(this.#clients);
    const calling = this.#random.chance(0.03)
      ? this.#random.pick([() => this.#read(client), () => this.#upload(client), () => this.#chat(client)])()
      : this.#ask(client);
    this.#open.add(calling);
    void calling.then(() => this.#open.delete(calling));
  }

  async #ask(client: SoakClient): Promise<void> {
    const random = this.#random;
    const value = this.ledger.made;
    const workMs = random.chance(0.2) ? random.between(1, 20) : 0;
    const startMs = performance.now();
    let outcome: string;
    if (random.chance(GIVEN_UP)) {
      this.faulty++;
      const patience = new AbortController();
      const cancels = random.chance(0.5);
      const options = cancels ? { signal: patience.signal } : { timeoutMs: random.between(1, 15) };
      const call = client.reply("WORK", { value, workMs: 10 }, options);
      const timer = cancels && setTimeout(() => patience.abort(), random.between(0, 15));
      // A busy server may refuse what it cannot answer in time.
      const codes = cancels ? GIVEN_UP_CODES : [...GIVEN_UP_CODES, "OVERLOADED"];
      outcome = await this.ledger.follow(call, { value: 7 * value + 1, codes });
      if (timer) clearTimeout(timer);
    } else if (random.chance(0.02)) {
      const bytes = random.between(1_000, 20_000);
      const size = client.reply("BIG", { bytes }).then(({ res }) => ({ res: res.length }));
      outcome = await this.ledger.follow(size, { value: bytes, codes: LOST });
    } else {
      outcome = await this.ledger.follow(client.reply("WORK", { value, workMs }), {
        value: 7 * value + 1,
        codes: LOST,
      });
    }
    if (outcome === "CONNECTION_LOST") this.faulty++;
    if (outcome === "value") this.#durationsMs.push(performance.now() - startMs);
  }

  /** Reads a stream to its end, or leaves it. */
  async #read(client: SoakClient): Promise<void> {
    const leavesAt = this.#leavesAt();
    const items = countItems(client.stream("COUNT", { to: ITEMS }), leavesAt);
    const outcome = await this.ledger.follow(items, { value: leavesAt ?? ITEMS, codes: LOST });
    if (outcome === "CONNECTION_LOST") this.faulty++;
  }

  /** Sends a stream, whole or broken off by its source. */
  async #upload(client: SoakClient): Promise<void> {
    const throwsAt = this.#random.chance(0.25) ? this.#random.below(ITEMS) : undefined;
    if (throwsAt !== undefined) {
      this.faulty++;
      this.ledger.explainedLate++; // the answer to the cancel
    }
    const call = client.reply("UPLOAD", {}, { items: itemsOf(() => new Uint8Array(ITEM_BYTES), throwsAt) });
    const codes = throwsAt === undefined ? LOST : [BROKEN_SOURCE, ...LOST];
    const outcome = await this.ledger.follow(call, { value: ITEMS * ITEM_BYTES, codes });
    if (outcome === "CONNECTION_LOST") this.faulty++;
  }

  /** A stream both ways, to its end or left. */
  async #chat(client: SoakClient): Promise<void> {
    const leavesAt = this.#leavesAt();
    const items = countItems(client.stream("CHAT", {}, { items: itemsOf((index) => index + 1) }), leavesAt);
    const outcome = await this.ledger.follow(items, { value: leavesAt ?? ITEMS, codes: LOST });
    if (outcome === "CONNECTION_LOST") this.faulty++;
  }

  /** After how many items a stream is left, if it is. */
  #leavesAt(): number | undefined {
    if (this.#random.chance(0.75)) return undefined;
    const leavesAt = this.#random.between(1, ITEMS);
    this.faulty++;
    // Items that were under way, and the answer to the cancel.
    this.ledger.explainedLate += ITEMS - leavesAt + 1;
    return leavesAt;
  }
}

/** What a source of items throws, as the ledger sees it. */
const BROKEN_SOURCE = "Error: the source has broken";

/** The items of an upload; with an error in place of one of them, if that is asked for. */
function* itemsOf<Item>(item: (index: number) => Item, throwsAt?: number): Generator<Item> {
  for (let index = 0; index < ITEMS; index++) {
    if (index === throwsAt) throw new Error("the source has broken");
    yield item(index);
  }
}

/** How many items came, if each was one more than the one before; what lacks one is an error of its own. */
async function countItems(items: AsyncIterable<number>, leavesAt: number | undefined): Promise<{ res: number }> {
  let last = 0;
  for await (const item of items) {
    if (item !== last + 1) throw new RpcError("GAP", `${item} came behind ${last}`);
    last = item;
    if (item === leavesAt) break;
  }
  return { res: last };
}
