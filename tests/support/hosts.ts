/** Several scripted servers by name, for a client of many servers. Each can be down. */

import type { ConnectOptions } from "../../client.ts";
import type { Clock } from "../../transport/clock.ts";
import type { Transport } from "../../transport/transport.ts";
import { memoryNetwork, type Network, ScriptedServer } from "./scripted_server.ts";

/** In: names. Out: a `dial` for `connect()`, and the servers' ends of what it has dialled. */
export class Hosts {
  /** Each dial: the name, and the time on the clock. */
  readonly dials: { name: string; atMs: number }[] = [];
  /** Those that refuse connections. */
  readonly down = new Set<string>();
  readonly #clock: Clock;
  readonly #networks = new Map<string, Network>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** For `connect()`. */
  readonly dial: Required<ConnectOptions>["dial"] = (_signal, name): Promise<Transport> => {
    this.dials.push({ name, atMs: this.#clock.now() });
    if (this.down.has(name)) return Promise.reject(new Error(`${name} is down`));
    return this.#network(name).dial();
  };

  /** The next connection to one of them. */
  accept(name: string, options?: ConstructorParameters<typeof ScriptedServer>[1]): Promise<ScriptedServer> {
    return ScriptedServer.accept(this.#network(name), options);
  }

  /** The number of dials to one of them. */
  dialsTo(name: string): number {
    return this.dials.filter((dial) => dial.name === name).length;
  }

  #network(name: string): Network {
    const network = this.#networks.get(name) ?? memoryNetwork();
    this.#networks.set(name, network);
    return network;
  }
}
