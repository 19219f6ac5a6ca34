/**
 * Clients that make calls of every kind and keep books of them, as a program.
 *
 * In: how they connect, as JSON; a line on stdin, when no more calls are to be made. Out: `clients ready`, and at the end
 * a line of JSON: what became of each call.
 */

import { type Client, connect, type ConnectOptions, RpcError } from "../../mod.ts";
import { linesOf } from "../../cli/lines.ts";
import { Ledger, settled } from "../faults/ledger.ts";
import {
  BROKEN,
  MOST_BYTES,
  MOST_ITEMS,
  readItems,
  type SourceBooks,
  sourceOf,
  sumOf,
} from "../faults/stream_commands.ts";
import { Random } from "../support/random.ts";
import { type LedgerCommands, valueOf } from "./ledger_server.ts";

/** What the program takes. */
export interface LedgerClientsOptions {
  readonly connect: ConnectOptions;
  readonly seed: number;
  /** The id of the first call: each program has its own. */
  readonly firstId: number;
  /** How long nothing may settle before the calls that are open are given up as lost. */
  readonly patienceMs: number;
}

/** What the caller knows of a call. */
export interface CallRecord extends SourceBooks {
  readonly id: number;
  readonly kind: Kind;
  readonly idempotent: boolean;
  /** Whether its caller read the stream to its end. */
  readonly readsAll: boolean;
  /** `value`, or a code. */
  outcome: string;
  /** Whether the error said that the server has not started it. */
  mayBeSentAgain: boolean;
}

/** What it says at the end. */
export interface LedgerClientsReport {
  readonly outcomes: Readonly<Record<string, number>>;
  readonly faultCounts: Ledger["faultCounts"];
  readonly faults: readonly string[];
  readonly calls: readonly CallRecord[];
}

type Kind = "WORK" | "UPLOAD" | "DOWNLOAD" | "CHAT";

/** What a caller may do with its call beside waiting for its end. */
type Whim = "none" | "cancel" | "deadline" | "throw" | "leave";

const CLIENTS = 4;

/** Calls that each client makes at a time. */
const AT_A_TIME = 16;

/** The longest pause between two of them: the machine has more to do than this. */
const MOST_PAUSE_MS = 60;

/** How long a handler works: mostly a little, sometimes for longer than most faults last. */
const MOST_WORK_MS = 20;
const MOST_LONG_WORK_MS = 3_000;

/** How long a caller waits at the most before it gives a call up. */
const MOST_PATIENCE_MS = 1_500;

class Callers {
  readonly ledger = new Ledger();
  readonly calls: CallRecord[] = [];
  isStopped = false;
  readonly #options: LedgerClientsOptions;
  readonly #random: Random;

  constructor(options: LedgerClientsOptions) {
    this.#options = options;
    this.#random = new Random(options.seed);
  }

  /** Makes one call after the other. */
  async run(client: Client<LedgerCommands>): Promise<void> {
    while (!this.isStopped) {
      await this.#call(client);
      await new Promise((resolve) => setTimeout(resolve, this.#random.between(0, MOST_PAUSE_MS)));
    }
  }

  async #call(client: Client<LedgerCommands>): Promise<void> {
    const random = this.#random;
    const kind = random.pick<Kind>(["WORK", "WORK", "WORK", "WORK", "UPLOAD", "DOWNLOAD", "CHAT"]);
    const ownWhim = ({ WORK: "none", UPLOAD: "throw", DOWNLOAD: "leave", CHAT: "leave" } as const)[kind];
    const whim = random.pick<Whim>(["none", "none", "none", "none", "cancel", "deadline", ownWhim]);
    const record: CallRecord = {
      id: this.#options.firstId + this.calls.length,
      kind,
      idempotent: (kind === "WORK" || kind === "DOWNLOAD") && random.chance(0.3),
      readsAll: whim !== "leave",
      outcome: "open",
      mayBeSentAgain: false,
      saidEnd: false,
      ends: 0,
    };
    this.calls.push(record);
    const patience = new AbortController();
    const patienceMs = random.between(1, MOST_PATIENCE_MS);
    const timer = whim === "cancel" ? setTimeout(() => patience.abort(), patienceMs) : undefined;
    // The others have all the time of the world: one whose reply is lost never settles.
    const timeoutMs = whim === "deadline" ? patienceMs : Infinity;
    const { value, call } = this.#begin(client, record, whim, { timeoutMs, signal: patience.signal });
    const codes = ["CONNECTION_LOST", ...CODES[whim]];
    record.outcome = await this.ledger.follow(
      call.catch((error) => {
        record.mayBeSentAgain = error instanceof RpcError && error.retryable;
        throw error;
      }),
      { value, codes },
    );
    clearTimeout(timer);
  }

  #begin(
    client: Client<LedgerCommands>,
    record: CallRecord,
    whim: Whim,
    given: { timeoutMs: number; signal: AbortSignal },
  ): { value: unknown; call: Promise<{ res: unknown }> } {
    const { id, kind, idempotent } = record;
    const random = this.#random;
    if (kind === "WORK") {
      const workMs = random.between(0, random.chance(0.02) ? MOST_LONG_WORK_MS : MOST_WORK_MS);
      return { value: valueOf(id), call: client.reply.WORK({ id, workMs }, { ...given, idempotent }) };
    }
    const sizes = Array.from({ length: random.between(1, MOST_ITEMS) }, () => random.below(MOST_BYTES));
    const leavesAt = whim === "leave" ? random.between(1, sizes.length) : -1;
    const value = whim === "leave" ? -1 : sumOf(sizes);
    if (kind === "DOWNLOAD") {
      const items = client.stream.DOWNLOAD({ id, sizes }, { ...given, idempotent });
      return { value, call: readItems(id, items, leavesAt) };
    }
    const items = sourceOf(id, sizes, whim === "throw" ? random.below(sizes.length) : -1, record);
    return {
      value,
      call: kind === "UPLOAD"
        ? client.reply.UPLOAD({ id }, { ...given, items })
        : readItems(id, client.stream.CHAT({ id }, { ...given, items }), leavesAt),
    };
  }
}

/** What a call may end with beside a loss. */
const CODES: Record<Whim, readonly string[]> = {
  none: [],
  cancel: ["CANCELLED"],
  deadline: ["TIMEOUT", "OVERLOADED"],
  throw: [BROKEN],
  leave: [],
};

if (import.meta.main) {
  const options: LedgerClientsOptions = JSON.parse(Deno.args[0]);
  const callers = new Callers(options);
  const connectOptions = options.connect as ConnectOptions<LedgerCommands>;
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => connect(connectOptions)));
  const running = clients.flatMap((client) => Array.from({ length: AT_A_TIME }, () => callers.run(client)));
  console.log("clients ready");
  for await (const _ of linesOf(Deno.stdin.readable)) break;
  callers.isStopped = true;
  const { ledger, calls } = callers;
  await settled(ledger, running, options.patienceMs);
  // Items of a stream that its reader has left come late, too: their number says nothing.
  const faults = ledger.close(0);
  await Promise.all(clients.map((client) => client.close()));
  const { outcomes, faultCounts } = ledger;
  const report: LedgerClientsReport = { outcomes, faultCounts, faults, calls };
  console.log(`report ${JSON.stringify(report)}`);
}
