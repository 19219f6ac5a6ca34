/**
 * Counts what a call makes the process do: objects and bytes allocated, and calls of packline's own functions.
 *
 * Server and client run without sockets, each alone, with prepared bytes. Each work has three runs: one without
 * instruments, for the bytes (the growth of the heap, in a young generation so large that nothing is collected); one
 * with V8's sampling of every allocation, for the objects; one with V8's counts of function calls.
 *
 * In: `--save` to write WORK.md. Out: the table on stdout. Refused: a run in which V8 collected objects, by an error.
 */

import { Session } from "node:inspector";
import { connect } from "../client.ts";
import { command } from "../handlers/command.ts";
import { createServer } from "../mod.ts";
import { concat, frame, key, map } from "./wire.ts";
import { Answering, Prepared } from "./work_transports.ts";

/** Calls at a time, and in a run. */
const BATCH = 50;
const CALLS = 20_000;
const WARM_UP_CALLS = 100_000;

/** Makes calls, and resolves when all are answered. */
type Run = (calls: number) => Promise<void>;

const value = "x".repeat(100);
const values = new Map(Array.from({ length: BATCH }, (_, index) => [`user:${1000 + index}`, value]));

const commands = {
  GET: command({ number: 16, handler: ({ key }: { key: string }) => values.get(key) }),
  GET_LATER: command({
    number: 17,
    handler: async ({ key }: { key: string }) => {
      await undefined;
      return values.get(key);
    },
  }),
  COUNT: command({
    number: 18,
    handler: async function* ({ to }: { to: number }) {
      for (let number = 0; number < to; number++) yield number;
    },
  }),
};

const [CMD, SEQ, KEY, TO] = ["cmd", "seq", "key", "to"].map(key);
const keyOf = (index: number) => concat([KEY, key(`user:${1000 + index}`)]);
const seqOf = (index: number) => concat([SEQ, [0xcd, (1000 + index) >> 8, (1000 + index) & 255]]);

/** Requests of a server, by the name of the work. */
const REQUESTS: Record<string, (index: number) => Uint8Array> = {
  "PING": () => frame(map(1), CMD, [1]),
  "GET": (index) => frame(map(2), keyOf(index), CMD, [16]),
  "GET with `seq`": (index) => frame(map(3), keyOf(index), CMD, [16], seqOf(index)),
  "async GET with `seq`": (index) => frame(map(3), keyOf(index), CMD, [17], seqOf(index)),
};

function serverRun(requestOf: (index: number) => Uint8Array): Run {
  const transport = new Prepared();
  void createServer({ commands }).accept(transport);
  const requests = concat(Array.from({ length: BATCH }, (_, index) => requestOf(index)));
  return async (calls) => {
    for (let left = calls; left > 0; left -= BATCH) await transport.send(requests, BATCH);
  };
}

/** One stream of as many items. Its request and its end have little effect. */
function streamRun(): Run {
  const transport = new Prepared();
  void createServer({ commands }).accept(transport);
  return (items) => {
    const to = [0xce, items >>> 24, (items >>> 16) & 255, (items >>> 8) & 255, items & 255];
    return transport.send(frame(map(3), TO, to, CMD, [18], seqOf(0)), items + 1);
  };
}

async function clientRun(): Promise<Run> {
  const client = await connect({ commands, dial: () => Promise.resolve(new Answering(value, BATCH)) });
  const keys = [...values.keys()];
  return async (calls) => {
    for (let left = calls; left > 0; left -= BATCH) {
      const answers = [];
      for (const key of keys) answers.push(client.call.GET({ key }));
      await Promise.all(answers);
    }
  };
}

const session = new Session();
session.connect();

function post<Answer>(method: string, parameters: object = {}): Promise<Answer> {
  return new Promise((resolve, reject) =>
    session.post(method, parameters, (error, answer) => error ? reject(error) : resolve(answer as Answer))
  );
}

async function bytesOf(run: Run): Promise<number> {
  (globalThis as unknown as { gc(): void }).gc();
  const before = Deno.memoryUsage().heapUsed;
  await run(CALLS);
  const bytes = Deno.memoryUsage().heapUsed - before;
  if (bytes <= 0) throw new Error("Cannot count bytes: something was collected; run it by `deno task work`");
  return bytes / CALLS;
}

async function objectsOf(run: Run): Promise<number> {
  const all = { includeObjectsCollectedByMajorGC: true, includeObjectsCollectedByMinorGC: true };
  await post("HeapProfiler.startSampling", { samplingInterval: 1, ...all });
  await run(CALLS);
  const { profile } = await post<{ profile: { samples: unknown[] } }>("HeapProfiler.stopSampling");
  return profile.samples.length / CALLS;
}

interface Coverage {
  result: { url: string; functions: { functionName: string; ranges: { count: number }[] }[] }[];
}

/** Calls of packline's functions, without the functions of the benchmark. */
async function functionCallsOf(run: Run): Promise<number> {
  await post("Profiler.startPreciseCoverage", { callCount: true, detailed: false });
  await post("Profiler.takePreciseCoverage"); // begins at zero
  await run(CALLS);
  const { result } = await post<Coverage>("Profiler.takePreciseCoverage");
  await post("Profiler.stopPreciseCoverage");
  const root = new URL("..", import.meta.url).href;
  const own = result.filter(({ url }) => url.startsWith(root) && !url.startsWith(`${root}bench/`));
  const calls = own.flatMap(({ functions }) => functions.map(({ ranges }) => ranges[0].count));
  return calls.reduce((sum, count) => sum + count, 0) / CALLS;
}

const runs: [string, Run][] = [
  ...Object.entries(REQUESTS).map(([name, requestOf]): [string, Run] => [name, serverRun(requestOf)]),
  ["a stream's item", streamRun()],
  ["`client.call()` of GET", await clientRun()],
];
const lines = [
  "| work | bytes | objects | own function calls |",
  "| --- | ---: | ---: | ---: |",
];
for (const [, run] of runs) await run(WARM_UP_CALLS);
const bytes: number[] = [];
for (const [, run] of runs) bytes.push(await bytesOf(run));
await post("HeapProfiler.enable");
const objects: number[] = [];
for (const [, run] of runs) objects.push(await objectsOf(run));
await post("Profiler.enable"); // last: it discards the optimized code
for (const [index, [name, run]] of runs.entries()) {
  const calls = await functionCallsOf(run);
  lines.push(`| ${name} | ${bytes[index].toFixed(0)} | ${objects[index].toFixed(1)} | ${calls.toFixed(1)} |`);
}

const document = `# Work and memory of a call

Written by \`deno task --config bench/deno.json work --save\`. The table shows what a server or a client needs for one
call, with ${BATCH} calls at a time and without sockets.

- Bytes are the growth of V8's heap. Objects are its allocations. Optimized code sometimes makes one allocation for
  several objects.
- Own function calls are the calls of packline's functions, counted in code that is not optimized. Optimized code
  inlines most of them.
- GET takes a key of 9 characters, which counts as an object, and answers with a text of 100 characters. The row of
  \`client.call()\` includes its caller's object and array of promises.
- Microtasks are not counted, because V8 does not report them.

${lines.join("\n")}
`;
console.log(document);
if (Deno.args.includes("--save")) await Deno.writeTextFile(new URL("WORK.md", import.meta.url), document);
Deno.exit();
