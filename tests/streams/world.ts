/**
 * A client and a server in one process, with nothing between them that takes time: every connection is watched at both of its ends,
 * and can be broken off.
 *
 * In: commands and limits. Out: both ends, and what they still hold.
 */

import { resolveConnectOptions } from "../../client/connect_options.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { denoServerNetwork } from "../../transport/deno_server_network.ts";
import type { ConnectOptions } from "../../client.ts";
import { RpcClient } from "../../client/rpc_client.ts";
import type { Commands } from "../../handlers/command.ts";
import { PacklineServer } from "../../handlers/server.ts";
import { ServerState } from "../../handlers/server_state.ts";
import type { Limits } from "../../limits.ts";
import { memoryPair } from "../../transport/memory.ts";
import { closeTransport, type Transport, writeAll } from "../../transport/transport.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { type Passing, type WatchListener, WireWatch } from "./wire_watch.ts";

/** After this long without traffic, a client looks at its connection. */
const QUIET_MS = 1_000;

/** What a world is made of. */
export interface WorldOptions {
  commands: Commands;
  limits?: Partial<Limits>;
  client?: Pick<ConnectOptions, "connectionsPerServer" | "maxInFlight" | "aliveMs">;
  random: () => number;
  watch: WatchListener;
  onError(error: unknown): void;
}

/** How a connection ends: broken off for both, or by an end that leaves in order. */
export type End = "broken" | "client leaves" | "server leaves";

/** Both ends, and all between them. */
export class World {
  readonly clock = new FakeClock();
  readonly server: PacklineServer;
  readonly client: RpcClient;
  readonly #state: ServerState;
  readonly #links = new Set<Link>();
  /** When bytes have passed last. */
  #lastUseMs = this.clock.now();
  readonly #served = new Set<Promise<void>>();

  constructor({ commands, limits, client, random, watch, onError }: WorldOptions) {
    const { clock } = this;
    const options = { ...limits, commands, clock, random, onError };
    this.#state = new ServerState(options);
    this.server = new PacklineServer(this.#state, options, denoServerNetwork);
    const dial = () => {
      const watchOfLink = new WireWatch(watch);
      const pass = (where: Passing, bytes: Uint8Array) => {
        this.#lastUseMs = this.clock.now();
        watchOfLink.pass(where, bytes);
      };
      const link = new Link(pass);
      this.#links.add(link);
      const served = this.server.accept(link.atServer).then(() => {
        this.#links.delete(link);
        this.#served.delete(served);
      });
      this.#served.add(served);
      return Promise.resolve(link.atClient);
    };
    this.client = new RpcClient({
      ...resolveConnectOptions({ ...client, clock, dial, random }, denoNetwork),
      onState: undefined,
    });
  }

  /**
   * Lets everything run that is ready. Behind a quiet time, a client looks at its connection first, and waits for the runtime's
   * own timers.
   */
  turn(): Promise<void> {
    if (this.clock.now() - this.#lastUseMs < QUIET_MS) return turn();
    return new Promise((resolve) => setTimeout(resolve, 0));
  }

  /** Goes ahead in time. */
  async advance(byMs: number): Promise<void> {
    await this.clock.advance(byMs);
    await this.turn();
  }

  /** Ends the oldest connection. */
  end(how: End): void {
    const [link] = this.#links;
    link?.end(how);
  }

  /** What is held although no call is open, a line each. */
  get leftovers(): string[] {
    const { load } = this.#state;
    const { usedBytes, unreadBytes, streams } = this.client.itemBudget;
    const { inFlight, commands } = this.server.statistics();
    const inCommands = Object.values(commands).reduce((sum, { inFlight }) => sum + inFlight, 0);
    const { handlers, bytes } = load;
    const counts = { handlers, bytes, usedBytes, unreadBytes, streams, inFlight, inCommands };
    return Object.entries(counts).filter(([, count]) => count !== 0).map(([name, count]) => `${name} is ${count}`);
  }

  /** Ends both. Returns what is left behind the end. */
  async close(): Promise<string[]> {
    let isOver = false;
    const ended = this.client.close().then(() => this.server.shutdown({ graceMs: 0 }));
    void ended.then(() => Promise.all(this.#served)).then(() => isOver = true);
    for (let left = 20; left > 0 && !isOver; left--) {
      await turn();
      if (!isOver) await this.clock.advance(500);
    }
    if (!isOver) return ["it does not end"];
    return this.clock.timers === 0 ? this.leftovers : [...this.leftovers, `${this.clock.timers} timers wait`];
  }
}

/** One connection. */
class Link {
  readonly atClient: Transport;
  readonly atServer: Transport;
  readonly #ends: [Transport, Transport];
  readonly #break: (error: Error) => void;

  constructor(pass: (where: Passing, bytes: Uint8Array) => void) {
    const { promise: broken, reject } = Promise.withResolvers<never>();
    broken.catch(() => {});
    this.#break = reject;
    const watched = (transport: Transport, end: "client" | "server"): Transport => ({
      peer: "memory",
      async read(into) {
        const readBytes = await Promise.race([transport.read(into), broken]);
        if (readBytes !== null) pass(`${end} reads`, into.subarray(0, readBytes));
        return readBytes;
      },
      async write(bytes) {
        pass(`${end} writes`, bytes);
        await Promise.race([writeAll(transport, bytes), broken]);
        return bytes.length;
      },
      closeWrite: () => transport.closeWrite(),
      close: () => transport.close(),
      ref: () => transport.ref?.(),
      unref: () => transport.unref?.(),
      broken,
    });
    const [here, there] = this.#ends = memoryPair();
    this.atClient = watched(here, "client");
    this.atServer = watched(there, "server");
  }

  end(how: End): void {
    const [here, there] = this.#ends;
    if (how === "client leaves") void here.closeWrite().catch(() => {});
    else if (how === "server leaves") void there.closeWrite().catch(() => {});
    else {
      this.#break(new Deno.errors.ConnectionReset("broken off"));
      closeTransport(here);
      closeTransport(there);
    }
  }
}
