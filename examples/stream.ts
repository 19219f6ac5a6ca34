/**
 * A stream: the handler is an async generator, and the caller reads it in a loop. The caller sets the pace: by default
 * the handler is at most 256 items ahead. When the caller leaves the loop, the handler ends and its `finally` runs.
 *
 *     deno run --allow-net examples/stream.ts
 */

import { command, connect, serve } from "../mod.ts";

let produced = 0;

const PRIMES = command({
  number: 16,
  summary: "Streams the primes",
  async *handler() {
    try {
      for (let n = 2;; n++) {
        let divisor = 2;
        while (divisor * divisor <= n && n % divisor !== 0) divisor++;
        if (divisor * divisor <= n) continue;
        produced++;
        yield n;
      }
    } finally {
      console.log("the handler has ended");
    }
  },
});

await using server = await serve({ port: 0, commands: { PRIMES } });
await using client = await connect({ port: server.port, commands: { PRIMES } });

for await (const prime of client.stream.PRIMES({}, { credit: 4 })) {
  console.log(prime);
  if (prime > 10) break;
}
await client.call.PING(); // when this is answered, the server has seen the end of the stream
console.log(produced < 16 ? "the handler stayed close to its reader" : `the handler ran ahead to ${produced}`);
