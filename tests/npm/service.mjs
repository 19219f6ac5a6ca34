/**
 * A server that the tests start in Deno, Node and Bun alike.
 *
 * In: where to listen, as JSON. Out: a line for each place; at SIGTERM the report of its shutdown. Refused: nothing.
 */

import { command, createServer } from "@packline/packline";
import process from "node:process";

/** What has ended so far. */
const ended = [];

const commands = {
  GREET: command(({ name }) => `Hello, ${name}!`),
  WHO: command((_params, { certificate }) => certificate?.subject ?? "anybody"),
  COUNT: command(async function* ({ to }) {
    try {
      for (let n = 1; n <= to; n++) yield n;
    } finally {
      ended.push("COUNT");
    }
  }),
  SUM: command(async (_params, { items }) => {
    let sum = 0;
    for await (const n of items) sum += n;
    return sum;
  }),
  DOUBLE: command(async function* (_params, { items }) {
    for await (const n of items) yield 2 * n;
  }),
  HOLD: command((_params, { signal }) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener("abort", () => {
        ended.push("HOLD");
        reject(signal.reason);
        throw new Error("a listener of the handler's");
      });
    })
  ),
  SLOW: command(() => new Promise((resolve) => setTimeout(() => resolve("done"), 300))),
  ENDED: command(() => ended.splice(0).sort()),
  FLOOD: command(async function* () {
    while (true) yield new Uint8Array(60_000);
  }),
  ECHO: command((params) => params),
  MEMORY: command(() => process.memoryUsage().rss),
  FETCH: command(() => {
    try {
      server.fetch(new Request("http://127.0.0.1/"));
    } catch (error) {
      return `${error}`;
    }
  }),
};

const server = createServer({ commands, webOrigins: [], onError: (error) => ended.push(error.message) });
for (const place of JSON.parse(process.argv[2])) console.log(`listening on ${(await server.listen(place)).address}`);
process.on("SIGTERM", async () => console.log(JSON.stringify(await server.shutdown({ graceMs: 1_000 }))));
