/**
 * The client: what `client/connect.ts` exports, and as a program the script that calls a server from a terminal.
 *
 * In: a command line. Out: replies on stdout, and an exit code. Refused: wrong arguments, each in one line on stderr.
 */

export * from "./client/connect.ts";

if (import.meta.main) {
  // Not awaited, as in server.ts: a module that is loaded later may import this one.
  import("./cli/client.ts").then(async ({ main, endNow }) => endNow(await main(Deno.args)));
}
