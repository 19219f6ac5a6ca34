/**
 * A client and a server in one process, with nothing between them that takes time: every connection is watched at both of its ends,
 * and can be broken off.
 *
 * In: commands, limits, and what a test has broken on purpose. Out: both ends, and what they still hold.
 */

import { resolveConnectOptions } from "../../client/connect_options.ts";
import type { ConnectOptions } from "../../client.ts";
import { RpcClient } from "../../client/rpc_client.ts";
import type { Commands } from "../../handlers/command.ts";
import { PacklineServer } from "../../handlers/server.ts";
import { ServerState } from "../../handlers/server_state.ts";
import type { Limits } from "../../limits.ts";
import { memoryPair } from "../../transport/memory.ts";
import { closeTransport, type Transport } from "../../transport/transport.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { type Passing, type WatchListener, WireWatch } from "./wire_watch.ts";

/** Changes the bytes that one end writes: a canary. */
export type Tamper = (where: Passing, bytes: Uint8Array) => Uint8Array;

/** What a world is made of. */
export interface WorldOptions {
  commands: Commands;
  limits?: Partial<Limits>;
  client?: Pick<ConnectOptions, "connectionsPerServer" | "maxInFlight" | "aliveMs">;
  random: () => number;
  watch: WatchListener;
  onError(error: unknown): void;
  tamper?: Tamper;
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
  readonly #served = new Set<Promise<void>>();

  constructor({ commands, limits, client, random, watch, onError, tamper }: WorldOptions) {
    const { clock } = this;
    const options = { ...limits, commands, clock, random, onError };
    this.#state = new ServerState(options);
    this.server = new PacklineServer(this.#state, options);
    const dial = () => {
      const link = new Link(new WireWatch(watch), tamper);
      this.#links.add(link);
      const served = this.server.accept(link.atServer).then(() => {
        this.#links.delete(link);
        this.#served.delete(served);
      });
      this.#served.add(served);
      return Promise.resolve(link.atClient);
    };
    this.client = new RpcClient({ ...resolveConnectOptions({ ...client, clock, dial, random }), onState: undefined });
  }

  /** Connections now. */
  get connections(): number {
    return this.#links.size;
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
    const counts = { ...load, usedBytes, unreadBytes, streams, inFlight, inCommands };
    return Object.entries(counts).filter(([, count]) => count !== 0).map(([name, count]) => `${name} is ${count}`);
  }

  /** Ends both. Returns what is left behind the end. */
  async close(): Promise<string[]> {
    const closed = this.client.close();
    const down = this.server.shutdown({ graceMs: 0 });
    await this.clock.advance(10_000);
    await Promise.all([closed, down, ...this.#served]);
    await turn();
    return this.clock.timers === 0 ? this.leftovers : [...this.leftovers, `${this.clock.timers} timers wait`];
  }
}

/** One connection. */
class Link {
  readonly atClient: Transport;
  readonly atServer: Transport;
  readonly #ends: [Transport, Transport];
  readonly #break: (error: Error) => void;

  constructor(watch: WireWatch, tamper: Tamper = (_, bytes) => bytes) {
    const { promise: broken, reject } = Promise.withResolvers<never>();
    broken.catch(() => {});
    this.#break = reject;
    const watched = (transport: Transport, end: "client" | "server"): Transport => ({
      peer: "memory",
      async read(into) {
        const readBytes = await Promise.race([transport.read(into), broken]);
        if (readBytes !== null) watch.pass(`${end} reads`, into.subarray(0, readBytes));
        return readBytes;
      },
      async write(bytes) {
        const sent = tamper(`${end} writes`, bytes);
        watch.pass(`${end} writes`, sent);
        for (let at = 0; at < sent.length;) {
          at += await Promise.race([transport.write(sent.subarray(at)), broken]);
        }
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
