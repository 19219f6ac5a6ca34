/**
 * Shows where the CPU time of a call goes: to each folder of packline, to the runtime, or to the kernel.
 *
 * A server or a client runs under `perf`, with V8's names of compiled functions. A sample belongs to the nearest
 * JavaScript function on its stack, so runtime work that a function of packline causes counts for its folder.
 *
 * In: `--save` to write PROFILE.md; words, to select the works whose title has one of them. Out: a table on stdout.
 * Needs Linux and `perf`.
 */

import type { Job } from "./load.ts";
import { machine } from "./machine.ts";
import type { Sample } from "./measure.ts";
import { flaggedProcess } from "./process.ts";
import { figure, table } from "./table.ts";

/** The places where time goes, in the order of the table, each with a test for its functions. */
const PLACES: readonly (readonly [place: string, isIn: (stack: Stack) => boolean])[] = [
  ["kernel", ({ isKernel }) => isKernel],
  ["collector's threads", ({ thread }) => thread.startsWith("V8")],
  ["event loop, no JavaScript", ({ nearest }) => nearest === undefined],
  ["the bench's handler or caller", ({ nearest }) => /\/bench\//.test(nearest!)],
  ...["codec", "session", "handlers", "client", "transport"].map((room) =>
    [`${room}/`, ({ nearest }: Stack) => nearest!.includes(`/${room}/`)] as const
  ),
  ["streams, sockets, timers of the runtime", () => true],
];

/** One sample. */
interface Stack {
  readonly thread: string;
  readonly isKernel: boolean;
  /** The nearest JavaScript function, with its file. */
  readonly nearest: string | undefined;
}

interface ProfiledWork extends Pick<Job, "question" | "connections" | "inFlight"> {
  readonly title: string;
  /** The place that the time belongs to. */
  readonly of: "server" | "client";
}

const ONE = { connections: 1, inFlight: 1, of: "server" } as const;
const MANY = { connections: 1, inFlight: 1_000, of: "server" } as const;

const WORKS: readonly ProfiledWork[] = [
  { title: "PING, 1,000 in flight", question: "ping", ...MANY },
  { title: "GET, 1,000 in flight", question: "get", ...MANY },
  { title: "GET with `seq`, 1,000 in flight", question: "get, seq", ...MANY },
  { title: "async GET with `seq`, 1,000 in flight", question: "get, seq, async", ...MANY },
  { title: "a record in, 20 records out, 64 in flight", question: "list", ...MANY, inFlight: 64 },
  { title: "GET, 50 connections", question: "get", ...ONE, connections: 50 },
  { title: "16 KiB there and back", question: 2 ** 14, ...ONE },
  { title: "64 KiB there and back", question: 2 ** 16, ...ONE },
  { title: "1 MiB there and back", question: 2 ** 20, ...ONE },
  { title: "16 MiB there and back", question: 2 ** 24, ...ONE },
  { title: "GET, client, 64 in flight", question: "get", connections: 1, inFlight: 64, of: "client" },
  { title: "GET, client, one in flight", question: "get", connections: 1, inFlight: 1, of: "client" },
];

const WARM_UP_MS = 2_500;
const WINDOW_MS = 4_000;
/** `perf` records within the window. */
const RECORD_SECONDS = "3";

/** V8 writes the names of functions where `perf` finds them. It also writes a log, which is not needed. */
const namesForPerf = (folder: string) =>
  `--v8-flags=--perf-basic-prof,--no-logfile-per-isolate,--logfile=${folder}/log`;

/** Runs one work. Returns the CPU time of a call in µs, and the share of each place. */
async function profile({ question, connections, inFlight, of }: ProfiledWork): Promise<[number, Map<string, number>]> {
  const isServer = of === "server";
  const folder = await Deno.makeTempDir();
  const flags = [namesForPerf(folder)];
  await using server = flaggedProcess(isServer ? flags : [], "servers/packline.ts");
  const job: Job = {
    port: Number(await server.line()),
    pid: server.pid,
    speech: isServer ? "packline" : "library",
    question,
    connections,
    inFlight,
    warmup: { ms: WARM_UP_MS, calls: 0, longestMs: WARM_UP_MS },
    window: { ms: WINDOW_MS, calls: 0, longestMs: WINDOW_MS },
  };
  await using load = isServer
    ? flaggedProcess([], "load.ts", JSON.stringify(job))
    : flaggedProcess(flags, "clients/packline.ts", JSON.stringify(job));
  try {
    await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS + 500));
    const pid = `${isServer ? server.pid : load.pid}`;
    const path = `${folder}/perf`;
    await perf("record", "-g", "-F", "4000", "-p", pid, "-o", path, "--", "sleep", RECORD_SECONDS);
    const sample: Sample = JSON.parse(await load.line());
    const script = await perf("script", "-i", path, "--no-inline", "-F", "comm,ip,sym,dso");
    return [isServer ? sample.serverCpu : sample.clientCpu, sharesOf(script)];
  } finally {
    await Deno.remove(folder, { recursive: true });
    await Deno.remove(`/tmp/perf-${isServer ? server.pid : load.pid}.map`);
  }
}

async function perf(...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command("perf", { args }).output();
  if (!success) throw new Error(`perf has failed: ${new TextDecoder().decode(stderr)}`);
  return new TextDecoder().decode(stdout);
}

function sharesOf(script: string): Map<string, number> {
  const shares = new Map(PLACES.map(([place]) => [place, 0]));
  const samples = script.split("\n\n").map((text) => text.trim().split("\n")).filter(({ length }) => length > 1);
  for (const [thread, ...frames] of samples) {
    const nearest = frames.map((line) => /JS:(.*) \(/.exec(line)?.[1]).find((name) => name !== undefined);
    const stack = { thread: thread.trim(), isKernel: frames[0].includes("[kernel"), nearest };
    const [place] = PLACES.find(([, isIn]) => isIn(stack))!;
    shares.set(place, shares.get(place)! + 1 / samples.length);
  }
  return shares;
}

const words = Deno.args.filter((arg) => !arg.startsWith("--"));
const rows: string[][] = [];
for (const work of WORKS.filter(({ title }) => words.length === 0 || words.some((word) => title.includes(word)))) {
  console.error(work.title);
  const [cpu, shares] = await profile(work);
  rows.push([work.title, figure(cpu), ...[...shares.values()].map((share) => figure(share * cpu))]);
}
const result = table(["work", "CPU", ...PLACES.map(([place]) => place)], rows);
console.log(result);
if (Deno.args.includes("--save")) {
  const text = `# Where the time goes

Written by \`deno task --config bench/deno.json profile --save\`. CPU time of a call in µs, of the server, or of the client if
the work says so. See profile.ts for how it is divided. V8's names for \`perf\` cost a few percent, so compare the figures
with each other, not with RESULTS.md.

${await machine()}
${result}
`;
  await Deno.writeTextFile(new URL("PROFILE.md", import.meta.url), text);
}
