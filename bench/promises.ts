/** Measures the memory of a pending promise: the minimum for a waiting call. Out: bytes, as a line. */

import { rssBytes } from "./measure.ts";

const PROMISES = 50_000;

const resolvers: (() => void)[] = [];

function wait(promises: number): void {
  for (let count = 0; count < promises; count++) void new Promise<void>((resolve) => resolvers.push(resolve));
}

wait(PROMISES / 50);
const before = rssBytes(Deno.pid);
wait(PROMISES);
console.log((rssBytes(Deno.pid) - before) / PROMISES);
