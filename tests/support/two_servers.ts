/** A client with two scripted servers, `a` and `b`, in memory; time stands still unless it is told to go on. */

import { type Client, connect, type ConnectOptions } from "../../client.ts";
import { FakeClock, turn } from "./fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "./scripted_server.ts";

export interface TwoServers extends AsyncDisposable {
  readonly client: Client;
  readonly a: ScriptedServer;
  readonly b: ScriptedServer;
  readonly clock: FakeClock;
}

/**
 * Makes them. Each server can be reached once. Random numbers are 0 unless the options say else, so that calls go to `a`
 * if both servers are equally busy.
 */
export async function twoServers(options: ConnectOptions = {}): Promise<TwoServers> {
  const networks = { a: memoryNetwork(), b: memoryNetwork() };
  const clock = new FakeClock();
  const dialed = new Set<string>();
  const accepted = [ScriptedServer.accept(networks.a), ScriptedServer.accept(networks.b)];
  const client: Client = await connect({
    clock,
    random: () => 0,
    servers: ["a", "b"],
    dial(_signal, server) {
      if (dialed.has(server)) return Promise.reject(new Error(`${server} is down`));
      dialed.add(server);
      return networks[server as "a" | "b"].dial();
    },
    ...options,
  });
  const [a, b] = await Promise.all(accepted);
  while (client.servers.some(({ state }) => state !== "open")) await turn();
  return {
    ...{ client, a, b, clock },
    async [Symbol.asyncDispose]() {
      await client.close();
      await a[Symbol.asyncDispose]();
      await b[Symbol.asyncDispose]();
      if (clock.timers > 0) throw new Error(`${clock.timers} timers are left`);
    },
  };
}
