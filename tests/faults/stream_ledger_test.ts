/**
 * Uploads, downloads and streams both ways over connections that are split, delayed and cut: each call settles once, with its own
 * value or with a code that is true; its items come in order and none is missing; an upload that was broken off is whole at
 * neither end; each source is ended once, each handler's `finally` has run, and the server ends with nothing in flight.
 *
 * A server that forgets the end is the canary: it takes half an upload for a whole one.
 */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { CallerItems } from "../../handlers/caller_items.ts";
import { newSeed, Random } from "../support/random.ts";
import { replaced } from "../support/replaced.ts";
import { overEach, TCP, type Transport } from "../support/transports.ts";
import { withServer } from "../support/test_server.ts";
import { untilAtRest } from "./beside.ts";
import { FaultProxy, type Faults } from "./fault_proxy.ts";
import { Ledger, settled } from "./ledger.ts";
import {
  BROKEN,
  type HandlerBooks,
  MOST_BYTES,
  MOST_ITEMS,
  readItems,
  type SourceBooks,
  sourceOf,
  streamCommands,
  sumOf,
} from "./stream_commands.ts";

const CALLS = 3_000;
const CLIENTS = 6;
const AT_A_TIME = 12;

/** How long nothing may settle before a run is given up. */
const PATIENCE_MS = 10_000;

/** Behind so many bytes, one way or the other, a connection has been cut: some streams are hit, most are not. */
const LATEST_CUT_BYTES = 2_000_000;

/** How long a caller waits at the most before it gives a call up. */
const MOST_PATIENCE_MS = 100;

/** What a caller may do with its call beside waiting for its end. */
type Whim = "none" | "cancel" | "deadline" | "throw" | "leave";

/** What is known of a call at both ends. */
type Books = HandlerBooks & SourceBooks;

function randomFaults(random: Random): Faults {
  return {
    largestPiece: random.pick([1_000, 10_000, 100_000]),
    longestDelayMs: 3,
    cut: {
      direction: random.pick(["up", "down"]),
      afterBytes: random.between(1, LATEST_CUT_BYTES),
      end: random.pick(["FIN", "RST"]),
    },
  };
}

async function run(calls: number, seed: number, transport: Transport): Promise<{ ledger: Ledger; cuts: number }> {
  const random = new Random(seed);
  const ledger = new Ledger();
  const books: Books[] = Array.from(
    { length: calls },
    () => ({ runs: 0, finallys: 0, wholes: 0, saidEnd: false, ends: 0 }),
  );
  const commands = streamCommands((id) => books[id]);
  await using server = await withServer({ commands }, transport);
  await using proxy = await FaultProxy.start({ port: server.port, seed, faults: randomFaults });
  const { tls } = server.address;
  const clients: Client<typeof commands>[] = [];
  while (clients.length < CLIENTS) {
    // The first connection may be cut as well.
    const client = await connect({ port: proxy.port, tls, commands, random: () => random.next() }).catch(() => {});
    if (client) clients.push(client);
  }

  let next = 0;
  const makeCall = async (client: Client<typeof commands>): Promise<void> => {
    const id = next++;
    const kind = random.pick(["UPLOAD", "DOWNLOAD", "CHAT"] as const);
    const whims: Whim[] = ["none", "none", "none", "none", "cancel", "deadline", kind === "UPLOAD" ? "throw" : "leave"];
    const whim = random.pick(whims);
    const sizes = Array.from({ length: random.between(1, MOST_ITEMS) }, () => random.below(MOST_BYTES));
    const patience = new AbortController();
    const timer = whim === "cancel" && setTimeout(() => patience.abort(), random.below(MOST_PATIENCE_MS));
    const options = {
      signal: patience.signal,
      ...(whim === "deadline" && { timeoutMs: random.between(1, MOST_PATIENCE_MS) }),
    };
    const items = sourceOf(id, sizes, whim === "throw" ? random.below(sizes.length) : -1, books[id]);
    const leavesAt = whim === "leave" ? random.between(1, sizes.length) : -1;
    const call = kind === "UPLOAD"
      ? client.reply.UPLOAD({ id }, { ...options, items })
      : kind === "CHAT"
      ? readItems(id, client.stream.CHAT({ id }, { ...options, items }), leavesAt)
      : readItems(id, client.stream.DOWNLOAD({ id, sizes }, options), leavesAt);
    const outcome = await ledger.follow(call, {
      value: whim === "leave" ? -1 : sumOf(sizes),
      codes: [
        "CONNECTION_LOST",
        ...whim === "cancel"
          ? ["CANCELLED"]
          : whim === "deadline"
          ? ["TIMEOUT", "OVERLOADED"]
          : whim === "throw"
          ? [BROKEN]
          : [],
      ],
      runs: () => books[id].runs,
    });
    if (timer) clearTimeout(timer);
    const isUpload = kind !== "DOWNLOAD";
    if (outcome === "value" && isUpload && whim !== "leave" && books[id].wholes !== 1) {
      ledger.fault("halved", `call ${id} has a value, and its upload was whole ${books[id].wholes} times`);
    }
  };
  const work = async (client: Client<typeof commands>) => {
    while (next < calls) await makeCall(client);
  };
  const workers = clients.flatMap((client) => Array.from({ length: AT_A_TIME }, () => work(client)));
  if (!await settled(ledger, workers, PATIENCE_MS)) next = calls;
  await Promise.all(clients.map((client) => client.close()));
  await untilAtRest(server.address);
  for (const [id, { runs, finallys, wholes, saidEnd, ends }] of books.entries()) {
    if (wholes > 0 && !saidEnd) ledger.fault("halved", `call ${id} was broken off, and yet was whole at the server`);
    if (runs !== finallys) ledger.fault("lost", `call ${id} ran ${runs} times, its finally ${finallys} times`);
    if (ends > 1) ledger.fault("doubled", `the source of call ${id} was ended ${ends} times`);
  }
  server.errors.take(); // what a canary has broken
  return { ledger, cuts: proxy.cuts };
}

overEach(
  `stream ledger - ${CALLS} uploads, downloads and streams both ways over connections that break balance`,
  async (transport) => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const { ledger, cuts } = await run(CALLS, seed, transport);
    console.log(`${cuts} cuts`, ledger.outcomes);
    assertEquals(ledger.close(0), []);
    assertEquals(ledger.settled, CALLS);
    assert(cuts >= 10, `only ${cuts} connections were cut`);
    for (const outcome of ["value", "CANCELLED", "TIMEOUT", "CONNECTION_LOST", BROKEN]) {
      assert(ledger.outcomes[outcome] > 0, `no ${outcome}`);
    }
    assert(ledger.outcomes.value > CALLS / 3, "many calls must get through, or this shows nothing");
  },
);

Deno.test("stream ledger - canary: a server that takes half a stream for a whole one is caught", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  using _ = replaced(CallerItems.prototype, "cut", () =>
    function (this: CallerItems) {
      this.end();
    });
  const { ledger } = await run(1_000, seed, TCP);
  assert(ledger.faultCounts.halved > 0, `not caught: ${ledger.close(0).join("; ")}`);
});
