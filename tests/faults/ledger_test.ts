/**
 * 100,000 calls over connections that are split, delayed and cut: each settles once, with its own value or with a code
 * that is true, and the server ends with nothing in flight.
 *
 * The same run with something broken on purpose must not balance: four canaries say so.
 */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { command } from "../../handlers/command.ts";
import { DEFAULT_ALIVE_MS, DEFAULT_LIMITS } from "../../limits.ts";
import type { RpcError } from "../../errors.ts";
import { serve } from "../../server.ts";
import { ClientFace } from "../../client/client_face.ts";
import { RetryBudget } from "../../client/retries.ts";
import { RpcClient } from "../../client/rpc_client.ts";
import type { ClientConnection } from "../../client/client_connection.ts";
import { sleep, systemClock } from "../../transport/clock.ts";
import { fromStreams, type Transport } from "../../transport/transport.ts";
import { streamsOf } from "../support/streams.ts";
import { dialAddress, parseServer } from "../../transport/address.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { addressIn, overEach, TCP, type Transport as Way } from "../support/transports.ts";
import { newSeed, Random } from "../support/random.ts";
import { ErrorLog } from "../support/test_server.ts";
import { frame, takeFrames } from "../support/wire.ts";
import { untilAtRest } from "./beside.ts";
import { FaultProxy, type Faults } from "./fault_proxy.ts";
import { Ledger, settled } from "./ledger.ts";

/** What is made different in a run, to see whether it is noticed. */
interface Broken {
  /** What a client reads its replies through. */
  replies?: () => TransformStream<Uint8Array, Uint8Array>;
  connect?: (dial: Dial) => Promise<Client>;
  /** What the handler answers in place of the right value. */
  value?: (id: number) => number;
}

type Dial = (signal: AbortSignal) => Promise<Transport>;

interface Run {
  transport?: Way;
  calls: number;
  clients: number;
  /** Calls that each client makes at a time: more than may be in flight, so that some wait. */
  atATime: number;
  seed: number;
  broken?: Broken;
  /** How long nothing may settle before the run is given up. */
  patienceMs?: number;
}

interface Outcome {
  ledger: Ledger;
  faults: string[];
  cuts: number;
  seconds: number;
}

const MOST_WORK_MS = 20;

/** How long a caller waits at the most before it cancels, or gives a call to settle: some are answered, some not. */
const MOST_PATIENCE_MS = 80;

/** Behind so many bytes, one way or the other, a connection has been cut. */
const LATEST_CUT_BYTES = 50_000;

/** Every connection is split, and cut somewhere in what either side sends. */
function randomFaults(random: Random): Faults {
  return {
    largestPiece: random.pick([100, 1_000, 100_000]),
    longestDelayMs: 3,
    cut: {
      direction: random.pick(["up", "down"]),
      afterBytes: random.between(1, LATEST_CUT_BYTES),
      end: random.pick(["FIN", "RST"]),
    },
  };
}

async function run(
  { transport = TCP, calls, clients: clientCount, atATime, seed, broken = {}, patienceMs = 5_000 }: Run,
): Promise<Outcome> {
  const startMs = performance.now();
  const random = new Random(seed);
  const runs = new Uint8Array(calls);
  const valueOf = (id: number) => id * 7 + 1;
  const commands = {
    WORK: command({
      number: 16,
      async handler({ id, workMs }: { id: number; workMs: number }, { clock, signal }) {
        runs[id]++;
        if (workMs > 0) await sleep(clock, workMs, signal);
        return (broken.value ?? valueOf)(id);
      },
    }),
  };
  const errors = new ErrorLog();
  await using place = await transport.place();
  const server = await serve({ ...place.serve, commands, onError: errors.onError });
  await using proxy = await FaultProxy.start({ port: server.port, seed, faults: randomFaults });
  const dial: Dial = async (signal) => {
    const { port, url = `127.0.0.1:${port}`, tls } = addressIn(place, proxy.port);
    const dialed = await dialAddress(denoNetwork, { ...parseServer(url, 0), tls }, signal);
    if (!broken.replies) return dialed;
    const { readable, writable, close } = streamsOf(dialed);
    return fromStreams({ readable: readable.pipeThrough(broken.replies()), writable, close });
  };
  const connectClient = broken.connect ??
    ((dial) => connect({ dial, commands, lazy: true, timeoutMs: Infinity, random: () => random.next() }));
  const clients = await Promise.all(Array.from({ length: clientCount }, () => connectClient(dial)));

  const ledger = new Ledger();
  let next = 0;
  const makeCall = async (client: Client): Promise<void> => {
    const id = next++;
    const kind = random.pick([
      "plain",
      "plain",
      "plain",
      "plain",
      "plain",
      "plain",
      "cancel",
      "deadline",
      "idempotent",
    ]);
    const params = { id, workMs: random.between(0, MOST_WORK_MS) };
    const codes = ["CONNECTION_LOST", "OVERLOADED"];
    const expected = { value: valueOf(id), codes, runs: () => runs[id], mostRuns: 1 };
    if (kind === "cancel") {
      codes.push("CANCELLED");
      const patience = new AbortController();
      const timer = setTimeout(() => patience.abort(), random.between(0, MOST_PATIENCE_MS));
      await ledger.follow(client.reply("WORK", params, { signal: patience.signal }), expected);
      clearTimeout(timer);
    } else if (kind === "deadline") {
      codes.push("TIMEOUT");
      await ledger.follow(client.reply("WORK", params, { timeoutMs: random.between(1, MOST_PATIENCE_MS) }), expected);
    } else if (kind === "idempotent") {
      // Sent three times at most: some meet three connections that break.
      await ledger.follow(client.reply("WORK", params, { idempotent: true }), { ...expected, mostRuns: 3 });
    } else {
      await ledger.follow(client.reply("WORK", params), expected);
    }
  };
  const work = async (client: Client) => {
    while (next < calls) await makeCall(client);
  };
  const workers = clients.flatMap((client) => Array.from({ length: atATime }, () => work(client as Client)));
  if (!await settled(ledger, workers, patienceMs)) next = calls;

  const lateReplies = clients.reduce((sum, client) => sum + client.statistics().lateReplies, 0);
  const faults = ledger.close(lateReplies);
  await Promise.all(clients.map((client) => client.close()));
  await untilAtRest(addressIn(place, server.port));
  for (const error of errors.take()) faults.push(`error: ${error}`);
  await server.shutdown({ graceMs: 0 });
  return { ledger, faults, cuts: proxy.cuts, seconds: (performance.now() - startMs) / 1000 };
}

overEach("ledger - 100,000 calls over 8 connections that break balance", async (transport) => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const { ledger, faults, cuts, seconds } = await run({ transport, calls: 100_000, clients: 8, atATime: 160, seed });
  console.log(`${cuts} cuts, ${seconds.toFixed(1)} s`, ledger.outcomes);
  assertEquals(faults, []);
  assertEquals(ledger.settled, 100_000);
  assert(cuts >= 20, `only ${cuts} connections were cut`);
  for (const code of ["value", "CANCELLED", "TIMEOUT", "CONNECTION_LOST"]) {
    assert(ledger.outcomes[code] > 0, `no ${code}`);
  }
  assert(ledger.outcomes.value > 50_000, "most calls must get through, or this shows nothing");
});

// Canaries -----------------------------------------------------------------------------------------------------------

/** Whole frames, as they come, through a function. */
function framesThrough(change: (frames: Uint8Array[]) => Uint8Array[]): TransformStream<Uint8Array, Uint8Array> {
  let held = new Uint8Array(0);
  return new TransformStream({
    transform(chunk, controller) {
      const { payloads, rest } = takeFrames(Uint8Array.from([...held, ...chunk]));
      held = new Uint8Array(rest);
      for (const bytes of change(payloads.map(frame))) controller.enqueue(bytes);
    },
  });
}

/** A client that forgets the calls of a connection that has ended. */
class ForgetfulCaller extends RpcClient {
  override onEnded(channel: ClientConnection, error: RpcError, _unanswered: unknown): void {
    super.onEnded(channel, error, []);
  }
}

async function connectForgetful(dial: Dial): Promise<Client> {
  const { maxInFlight, maxPayloadBytes } = DEFAULT_LIMITS;
  const caller = new ForgetfulCaller({
    ...{ servers: ["the server"], connectionsPerServer: 1, dial, numbers: new Map(), onState: undefined },
    ...{
      sequenced: true,
      aliveMs: DEFAULT_ALIVE_MS,
      policy: { idempotent: false, waitForReady: true, timeoutMs: Infinity },
    },
    ...{ maxInFlight, maxPayloadBytes, clock: systemClock, random: Math.random, retryBudget: new RetryBudget() },
  });
  await caller.open();
  return new ClientFace(caller, { meta: undefined, middleware: [] }) as unknown as Client;
}

const canaries: [name: string, broken: Broken, kind: keyof Ledger["faultCounts"]][] = [
  ["an encoder that drops a byte", {
    replies() {
      let frames = 0;
      return framesThrough((payloads) => payloads.map((bytes) => ++frames % 100 === 0 ? bytes.subarray(1) : bytes));
    },
  }, "untrue"],
  ["a dispatcher that answers twice", {
    replies: () => framesThrough((frames) => frames.flatMap((bytes) => [bytes, bytes])),
  }, "doubled"],
  ["a client that never settles on disconnect", { connect: connectForgetful }, "lost"],
  ["a handler that mixes up its callers", { value: (id) => (id ^ 1) * 7 + 1 }, "crossed"],
];

for (const [name, broken, kind] of canaries) {
  Deno.test(`ledger - canary: ${name} is caught`, async () => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const { ledger, faults } = await run({ calls: 5_000, clients: 2, atATime: 160, seed, broken, patienceMs: 1_000 });
    assert(ledger.faultCounts[kind] > 0, `not caught: ${faults.join("; ")}`);
  });
}
