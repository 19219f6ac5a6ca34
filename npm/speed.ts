/**
 * Compares what a call costs on Deno, Node and Bun: a server and a client of each runtime, in turns, on this machine.
 *
 * In: nothing. Out: the table of docs/node.md. Refused: nothing.
 */

import { type Runtime, start, withArchive } from "../tests/npm/runtimes.ts";

const ROUNDS = 5;

const SERVER = `
import { command, serve } from "@packline/packline";
import process from "node:process";
const CPU = command(() => { const { user, system } = process.cpuUsage(); return user + system; });
console.log("on " + (await serve({ port: 0, commands: { CPU } })).port);
`;

const CLIENT = `
import { connect } from "@packline/packline/client";
import process from "node:process";
const client = await connect({ port: Number(process.argv[2]) });
const cpu = () => { const { user, system } = process.cpuUsage(); return user + system; };
const rates = [];
for (const [width, count] of [[1, 20_000], [64, 200_000]]) {
  const run = (calls) => Promise.all(Array.from({ length: width }, async () => {
    for (let n = 0; n < calls / width; n++) await client.call.PING();
  }));
  await run(count / 2); // until it is compiled
  const [servers, own, startMs] = [await client.call.CPU(), cpu(), performance.now()];
  await run(count);
  const ms = performance.now() - startMs;
  const [atServer, atClient] = [await client.call.CPU() - servers, cpu() - own];
  rates.push({ perSecond: count / ms * 1000, cpu: (atServer + atClient) / count });
}
console.log(JSON.stringify(rates));
await client.close();
`;

interface Rate {
  readonly perSecond: number;
  readonly cpu: number;
}

const { folder, all } = await withArchive();
await folder.write("speed_server.mjs", SERVER);
await folder.write("speed_client.mjs", CLIENT);

async function measure(runtime: Runtime): Promise<Rate[]> {
  await using server = await start(runtime, folder, ["speed_server.mjs"], /on \d+\n/);
  const [, port] = await server.hear(/on (\d+)\n/);
  await using client = await start(runtime, folder, ["speed_client.mjs", port], /^\[.*\]\n/m);
  return JSON.parse((await client.hear(/^\[.*\]\n/m))[0]);
}

const found = new Map<Runtime, Rate[][]>(all.map((each) => [each, []]));
for (let round = 0; round < ROUNDS; round++) {
  for (const [runtime, rates] of found) rates.push(await measure(runtime));
}

function median(numbers: number[]): number {
  return numbers.sort((a, b) => a - b)[Math.floor(numbers.length / 2)];
}

console.log("| client and server | 1 in flight: calls/s | CPU of a call | 64 in flight: calls/s | CPU of a call |");
console.log("| --- | --- | --- | --- | --- |");
const [first] = found.values();
for (const [{ name }, rates] of found) {
  const cells = [0, 1].flatMap((width) =>
    (["perSecond", "cpu"] as const).map((what) =>
      (median(rates.map((each) => each[width][what])) / median(first.map((each) => each[width][what]))).toFixed(2)
    )
  );
  console.log(`| ${name} | ${cells.join(" | ")} |`);
}
console.log(`medians of ${ROUNDS} rounds, Deno's is 1, by TCP on loopback`);
