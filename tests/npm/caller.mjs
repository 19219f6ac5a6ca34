/**
 * A client of `service.mjs` that the tests start in Deno, Node and Bun alike. It forgets to close itself.
 *
 * In: the options of `connect()` for each server, as JSON, and what to do. Out: what came of it, as JSON. Refused: nothing.
 */

import { connect } from "@packline/packline/client";
import process from "node:process";

const [servers, task] = process.argv.slice(2);
const codeOf = (error) => error.code;

async function* numbers(to) {
  for (let n = 1; n <= to; n++) yield n;
}

async function callAll(client) {
  const greeting = await client.call.GREET({ name: "Ada" });
  const who = await client.call.WHO();
  let last = 0;
  for await (const n of client.stream.COUNT({ to: 1e6 })) {
    last = n;
    if (n === 500) break;
  }
  const sum = await client.call.SUM({}, { items: numbers(1_000) });
  let doubled = 0;
  for await (const n of client.stream.DOUBLE({}, { items: numbers(1_000) })) doubled += n;
  const patience = new AbortController();
  const held = client.call.HOLD({}, { signal: patience.signal });
  await client.call.PING(); // it has begun
  patience.abort();
  const cancelled = await held.catch(codeOf);
  const late = await client.call.HOLD({}, { timeoutMs: 500 }).catch(codeOf);
  const large = (await client.call.GREET({ name: "x".repeat(900_000) })).length;
  const together = new Set(await Promise.all(Array.from({ length: 1_000 }, (_, n) => client.call.GREET({ name: n }))));
  const ended = [];
  while (ended.length < 5) ended.push(...await client.call.ENDED());
  return { greeting, who, last, sum, doubled, cancelled, late, large, together: together.size, ended: ended.sort() };
}

async function beLost(client) {
  const held = client.call.HOLD();
  await client.call.PING();
  console.log("held");
  console.log(await held.catch(codeOf));
  console.log(await client.call.GREET({ name: "again" }, { timeoutMs: 20_000 }));
}

for (const options of JSON.parse(servers)) {
  const client = await connect(options);
  if (task === "be lost") await beLost(client);
  else console.log(JSON.stringify(await callAll(client)));
}
