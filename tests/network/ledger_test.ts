/**
 * The books of many thousand calls, uploads and streams between hosts whose packets are dropped silently, now of one, now of
 * another, in one direction or in both, for 50 ms to 3 s: each call settles once, with its own value or with a code that is
 * true; what is not idempotent ran once at the most, over all servers; no half upload was taken for a whole one.
 *
 * A server that runs calls twice, one that loses replies, and one that takes half an upload for a whole one are the canaries.
 */

import { assert, assertEquals } from "@std/assert";
import type { Program } from "../production/programs.ts";
import { BROKEN } from "../faults/stream_commands.ts";
import { Ledger } from "../faults/ledger.ts";
import { newSeed, Random } from "../support/random.ts";
import { type Direction, type Host, type Network, testOnNetwork } from "./hosts.ts";
import type { LedgerClientsOptions, LedgerClientsReport } from "./ledger_clients.ts";
import type { Broken, LedgerServerOptions, LedgerServerReport } from "./ledger_server.ts";
import { startHere, sum } from "./restarts.ts";

const HOSTS = 2;
const PORT = 1235;

const ALIVE_MS = 1_000;

/** What a busy machine may add. */
const SLACK_MS = 1_000;

/** How long a server waits for a sign of life at the most, by its own looks; then its handlers are told. */
const REST_MS = 2 * ALIVE_MS + 1_000 + SLACK_MS;

/** While packets pass, some call ends within this time: a client notices within 3.5 s, and dials again. */
const PATIENCE_MS = 6_000;

/** How long packets are dropped, and pass. */
const DROPPED_MS = [50, 3_000] as const;
const PASSED_MS = [50, 500] as const;

const DIRECTIONS: readonly (readonly Direction[])[] = [["incoming"], ["outgoing"], ["incoming", "outgoing"]];

/** How often that happens, in all and in the run of a canary. */
const DROPS = 12;
const CANARY_DROPS = 2;

/** An idempotent call is sent so often at the most. */
const MOST_SENT = 3;

/** Ids of a program's calls begin so far behind those of the one before. */
const IDS = 1_000_000;

interface Run {
  readonly ledger: Ledger;
  readonly faults: readonly string[];
  readonly calls: number;
  readonly outcomes: Record<string, number>;
}

/** Drops packets of one host after the other, and heals. */
async function dropNowAndThen(hosts: readonly Host[], count: number, random: Random): Promise<void> {
  for (; count > 0; count--) {
    await pause(random.between(...PASSED_MS));
    const host = random.pick(hosts);
    for (const direction of random.pick(DIRECTIONS)) await host.drop(direction);
    await pause(random.between(...DROPPED_MS));
    await host.heal();
  }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** What a program says at the end, and that it has said nothing else, on stderr either. */
async function reportOf<Report>(program: Program, ledger: Ledger): Promise<Report> {
  await program.say("end");
  const [, report] = await program.hear(/report (.*)\n/);
  const others = program.said.replace(/^\w+ (?:listening|ready)\n/, "").replace(`report ${report}\n`, "");
  if (others !== "") ledger.fault("untrue", `a program said ${others}`);
  return JSON.parse(report);
}

/** Compares what callers and handlers know. */
function compare(
  clients: readonly LedgerClientsReport[],
  servers: readonly LedgerServerReport[],
  ledger: Ledger,
): void {
  for (const { inFlight, connections } of servers) {
    if (inFlight > 0) ledger.fault("lost", `${inFlight} calls are still in flight at a server`);
    if (connections > 0) ledger.fault("lost", `${connections} connections are still open at a server`);
  }
  const faultCounts = Object.entries(sum(clients.map(({ faultCounts }) => faultCounts)));
  for (const [kind, count] of faultCounts) {
    if (count > 0) ledger.fault(kind as keyof Ledger["faultCounts"], `${count} at the clients`, count);
  }
  const books = new Map<number, { runs: number; wholes: number }>();
  for (const [id, { runs, finallys, wholes }] of servers.flatMap((server) => server.books)) {
    if (runs !== finallys) ledger.fault("lost", `call ${id} ran ${runs} times, its finally ${finallys} times`);
    const others = books.get(id) ?? { runs: 0, wholes: 0 };
    books.set(id, { runs: others.runs + runs, wholes: others.wholes + wholes });
  }
  for (const call of clients.flatMap(({ calls }) => calls)) {
    const { id, kind, idempotent, readsAll, outcome, mayBeSentAgain, saidEnd, ends } = call;
    const { runs, wholes } = books.get(id) ?? { runs: 0, wholes: 0 };
    const name = `${kind} ${id}, which ended with ${outcome},`;
    if (runs > (idempotent ? MOST_SENT : 1)) ledger.fault("doubled", `${name} ran ${runs} times`);
    if (mayBeSentAgain && !idempotent && runs > 0) ledger.fault("untrue", `${name} may be sent again, and yet ran`);
    if (outcome === "value" && runs === 0) ledger.fault("crossed", `${name} never ran`);
    if (wholes > 0 && !saidEnd) ledger.fault("halved", `${name} was broken off, and yet was whole at the server`);
    if (ends > 1) ledger.fault("doubled", `the source of ${name} was ended ${ends} times`);
    const takesItems = kind === "UPLOAD" || kind === "CHAT";
    if (takesItems && outcome === "value" && readsAll && wholes !== 1) {
      ledger.fault("halved", `${name} was whole ${wholes} times`);
    }
  }
}

async function run(network: Network, seed: number, drops: number, broken?: Broken): Promise<Run> {
  const ledger = new Ledger();
  await using owned = new AsyncDisposableStack();
  const hosts: Host[] = [];
  while (hosts.length < 2 * HOSTS) hosts.push(await network.addHost());
  const [serverHosts, clientHosts] = [hosts.slice(0, HOSTS), hosts.slice(HOSTS)];
  const servers = await Promise.all(serverHosts.map(async (host) => {
    const options: LedgerServerOptions = {
      hostname: host.address,
      port: PORT,
      idleTimeoutMs: 5_000,
      restMs: REST_MS,
      broken,
    };
    return owned.use(await startHere("ledger_server.ts", [JSON.stringify(options)], /server listening\n/, host));
  }));
  const clients = await Promise.all(clientHosts.map(async (host, index) => {
    const options: LedgerClientsOptions = {
      connect: { servers: serverHosts.map(({ address }) => `${address}:${PORT}`), aliveMs: ALIVE_MS },
      seed: seed + index,
      firstId: index * IDS,
      patienceMs: PATIENCE_MS,
    };
    return owned.use(await startHere("ledger_clients.ts", [JSON.stringify(options)], /clients ready\n/, host));
  }));
  await dropNowAndThen(hosts, drops, new Random(seed));
  const told = await Promise.all(clients.map((each) => reportOf<LedgerClientsReport>(each, ledger)));
  const kept = await Promise.all(servers.map((each) => reportOf<LedgerServerReport>(each, ledger)));
  compare(told, kept, ledger);
  return {
    ledger,
    calls: told.reduce((sum, { calls }) => sum + calls.length, 0),
    outcomes: sum(told.map(({ outcomes }) => outcomes)),
    faults: [...ledger.close(0), ...told.flatMap(({ faults }) => faults)],
  };
}

testOnNetwork(
  "network ledger - calls, uploads and streams over hosts whose packets are dropped balance",
  async (network) => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const { faults, calls, outcomes } = await run(network, seed, DROPS);
    console.log(`${calls} calls`, outcomes);
    assertEquals(faults, []);
    assertEquals(Object.values(outcomes).reduce((sum, count) => sum + count, 0), calls);
    for (const outcome of ["value", "CANCELLED", "TIMEOUT", "CONNECTION_LOST", BROKEN]) {
      assert(outcomes[outcome] > 0, `no ${outcome}`);
    }
    assert(calls > 5_000 && outcomes.value > calls / 2, "most calls must get through, or this shows nothing");
  },
);

const canaries: [name: string, broken: Broken, kind: keyof Ledger["faultCounts"]][] = [
  ["runs calls twice", "twice", "doubled"],
  ["loses replies", "mute", "lost"],
  ["takes half an upload for a whole one", "halved", "halved"],
];

for (const [name, broken, kind] of canaries) {
  testOnNetwork(`network ledger - canary: a server that ${name} is caught`, async (network) => {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    const { ledger, faults } = await run(network, seed, CANARY_DROPS, broken);
    assert(ledger.faultCounts[kind] > 0, `not caught: ${faults.join("; ")}`);
  });
}
