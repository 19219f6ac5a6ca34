/**
 * Connections that wait in the accept queue of a server that stops: how many are reset, with the kernel's
 * `net.ipv4.tcp_migrate_req` off and on. All clients make a connection for each call.
 *
 *     deno run --no-prompt -A tests/network/accept_queue.ts [--clients 50] [--restarts 20] [--pause-ms 10]
 *
 * Out: a table in Markdown, on stdout. Refused: a machine that permits no network namespaces, with the reason and exit code
 * 1. The setting is made on a host of the experiment's own, not on this machine.
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { newSeed } from "../support/random.ts";
import { Network } from "./hosts.ts";
import { restartUnderLoad, SETUPS, shown } from "./restarts.ts";

const SETTING = "net.ipv4.tcp_migrate_req";

const WAYS = [
  ["two workers stop, two workers start", SETUPS.workers],
  ["one starts on the same port, the other stops", SETUPS.overlapping],
] as const;

if (import.meta.main) {
  const flags = parseArgs(Deno.args, { string: ["clients", "restarts", "pause-ms"] });
  const problem = await Network.problem();
  if (problem !== undefined) {
    console.error(`no network namespaces here: ${problem}`);
    Deno.exit(1);
  }
  console.log(`| servers | \`${SETTING}\` | restarts | calls | failed |`);
  console.log("| --- | ---: | ---: | ---: | ---: |");
  for (
    const [name, setup] of WAYS
  ) {
    for (const value of [0, 1]) {
      await using network = await Network.make();
      const host = await network.addHost();
      await host.setKernel(SETTING, value);
      const { restarts, calls } = await restartUnderLoad(setup, {
        host,
        clients: Number(flags.clients ?? 50),
        restarts: Number(flags.restarts ?? 20),
        pauseMs: Number(flags["pause-ms"] ?? 10),
        settleMs: 1_200,
        seed: newSeed(),
        eachAnew: true,
      });
      console.log(`| ${[name, value, restarts, calls.DONE, shown(calls)].join(" | ")} |`);
    }
  }
}
