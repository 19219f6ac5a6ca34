/**
 * Who notices what, after how long: one fault between a client's host and a server's, and what becomes of a call in flight,
 * of a quiet stream and of the next call on an idle connection.
 *
 * In: a fault, and what the client is set to. Out: for each of the three, what its caller got and what its handler was told,
 * with times from the fault on. Refused: a machine that permits no network of its own.
 */

import { Child, type Happened } from "./child.ts";
import { type Host, Network } from "./hosts.ts";

/** What can be in use when a fault comes. */
export const SITUATIONS = ["call", "stream", "next"] as const;

export type Situation = (typeof SITUATIONS)[number];

/** The two hosts, and the program on each. */
interface Scene {
  readonly serverHost: Host;
  readonly server: Child;
  readonly client: Child;
}

/** Something that goes wrong between a client and a server. */
export interface Fault {
  readonly name: string;
  inflict(scene: Scene): void | Promise<void>;
  /** Who is dead from then on, and notices nothing. */
  readonly dead?: "client" | "server";
  /** Who stands still from then on, until the other has noticed. */
  readonly stopped?: "client" | "server";
  /** Whether packets pass again after a while. */
  readonly heals?: boolean;
}

/** All that is tried. */
export const faults = {
  bothWays: { name: "packets dropped both ways", inflict: ({ serverHost }) => dropAll(serverHost) },
  toServer: { name: "packets to the server dropped", inflict: ({ serverHost }) => serverHost.drop("incoming") },
  toClient: { name: "packets to the client dropped", inflict: ({ serverHost }) => serverHost.drop("outgoing") },
  healed: {
    name: "packets dropped both ways, then no more",
    inflict: ({ serverHost }) => dropAll(serverHost),
    heals: true,
  },
  linkRemoved: { name: "link of the server removed", inflict: ({ serverHost }) => serverHost.removeLink() },
  serverKilled: { name: "server killed (`kill -9`)", inflict: ({ server }) => server.kill("SIGKILL"), dead: "server" },
  clientKilled: { name: "client killed (`kill -9`)", inflict: ({ client }) => client.kill("SIGKILL"), dead: "client" },
  serverStopped: {
    name: "server stopped (SIGSTOP)",
    inflict: ({ server }) => server.kill("SIGSTOP"),
    stopped: "server",
  },
  clientStopped: {
    name: "client stopped (SIGSTOP)",
    inflict: ({ client }) => client.kill("SIGSTOP"),
    stopped: "client",
  },
} satisfies Record<string, Fault>;

async function dropAll(host: Host): Promise<void> {
  await host.drop("incoming");
  await host.drop("outgoing");
}

/** How something ended, or that it did not. */
export interface Ending {
  /** The caller's code, `DONE`, or what the handler was told; `undefined` if nothing came for as long as was waited. */
  readonly code: string | undefined;
  readonly afterMs: number;
  /** Whether the time is from the moment at which a stopped process went on. */
  readonly sinceResumed: boolean;
}

/** Both ends of one call; `undefined` where there is nobody: a process that is dead, a handler that never began. */
export interface Observation {
  readonly caller: Ending | undefined;
  readonly handler: Ending | undefined;
}

export interface ObserveOptions {
  /** The client's `aliveMs`; its default if this is missing. */
  readonly aliveMs?: number;
  /** How long is waited for somebody to notice, in milliseconds. */
  readonly patienceMs: number;
  /** When a fault that heals does, in milliseconds. */
  readonly healAfterMs: number;
}

/** Where the server listens: its host has all ports to itself. */
const PORT = 1235;

/** After this time the next call is made: what the system tells of a fault has come by then. */
const NEWS_MS = 200;

/** Inflicts a fault, and watches. */
export async function observe(fault: Fault, options: ObserveOptions): Promise<Record<Situation, Observation>> {
  const { aliveMs, patienceMs, healAfterMs } = options;
  await using network = await Network.make();
  const serverHost = await network.addHost();
  const clientHost = await network.addHost();
  const address = { hostname: serverHost.address, port: PORT };
  await using server = await Child.start(serverHost, "waiting_server.ts", address, "server listening");
  await using client = await Child.start(clientHost, "waiting_client.ts", { ...address, aliveMs }, "client ready");
  const begun = () => ["call", "stream"].every((each) => server.what(`${each} begun`) !== undefined);
  await server.until(begun, patienceMs);

  const callsNext = fault.dead !== "client" && fault.stopped !== "client";
  const open = SITUATIONS.filter((each) => each !== "next" || callsNext);
  const callerEnd = (each: Situation) => client.what(`${each} ended`);
  const handlerEnd = (each: Situation) => server.what(`${each} aborted`) ?? server.what(`${each} finished`);
  const hasHandler = (each: Situation) => server.what(`${each} begun`) !== undefined;

  const startMs = performance.now();
  await fault.inflict({ serverHost, server, client });
  await sleep(NEWS_MS);
  if (callsNext) await client.say("next");
  if (fault.heals) {
    await sleep(startMs + healAfterMs - performance.now());
    await serverHost.heal();
    await server.say("release");
  }
  const sides = {
    client: { child: client, hasNoticed: () => open.every(callerEnd) },
    server: { child: server, hasNoticed: () => open.filter(hasHandler).every(handlerEnd) },
  };
  // What stands still notices when it goes on, and that is when the other side has noticed.
  const order = fault.stopped === "client" ? ["server", "client"] as const : ["client", "server"] as const;
  let resumedMs = Infinity;
  for (const side of order) {
    const { child, hasNoticed } = sides[side];
    if (side === fault.dead) continue;
    if (side === fault.stopped) {
      resumedMs = performance.now();
      child.kill("SIGCONT");
    }
    const fromMs = side === fault.stopped ? resumedMs : startMs;
    await child.until(hasNoticed, Math.max(0, fromMs + patienceMs - performance.now()));
  }

  const endMs = performance.now();
  const ending = (side: "client" | "server", happened: Happened | undefined): Ending => {
    const sinceResumed = side === fault.stopped;
    const fromMs = sinceResumed ? resumedMs : startMs;
    return { code: happened?.detail, afterMs: (happened?.atMs ?? endMs) - fromMs, sinceResumed };
  };
  const observations = SITUATIONS.map((each): [Situation, Observation] => [each, {
    caller: fault.dead === "client" || !open.includes(each) ? undefined : ending("client", callerEnd(each)),
    handler: fault.dead === "server" || !hasHandler(each) ? undefined : ending("server", handlerEnd(each)),
  }]);
  return Object.fromEntries(observations) as Record<Situation, Observation>;
}

function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, Math.max(0, milliseconds)));
}
