/**
 * Measures streams in both directions: large chunks, and many small records, beside a raw socket and gRPC.
 *
 * In: `--quick` for one short round; `--save` to write STREAMS.md; a word, to select the works whose title has it. Out:
 * a table on stdout, progress on stderr. However it ends, it leaves no process running.
 */

import { machine } from "./machine.ts";
import { denoProcess, leaveNoProcess } from "./process.ts";
import type { BesideSample, CallTimes, ClientJob, StreamJob, StreamSample } from "./stream_job.ts";
import { figure, median, table } from "./table.ts";

const MEBIBYTE = 1024 * 1024;

/** How much is transferred. */
interface Extent {
  readonly rounds: number;
  readonly bytes: number;
  readonly records: number;
}

const FULL: Extent = { rounds: 5, bytes: 256 * MEBIBYTE, records: 1_000_000 };
const QUICK: Extent = { rounds: 1, bytes: 64 * MEBIBYTE, records: 200_000 };

/** A subject: a server and a client, each with its arguments after the job. */
interface StreamSubject {
  readonly name: string;
  readonly server: string;
  readonly client: string;
  readonly args: readonly string[];
  /** The share of the small records that it transfers. */
  readonly recordShare?: number;
}

const PACKLINE: StreamSubject = { name: "packline", server: "streams.ts", client: "streams.ts", args: [] };
const WIDE: StreamSubject = { ...PACKLINE, name: "packline, credit 1,024", args: ["1024"] };
const PIPE: StreamSubject = { name: "raw socket", server: "pipe.ts", client: "pipe.ts", args: ["prepared"] };
const OWNED: StreamSubject = { ...PIPE, name: "raw socket, a buffer for each chunk", args: ["owned"] };
const BATCH: StreamSubject = { name: "raw batch", server: "pipe.ts", client: "pipe.ts", args: ["encoded"] };
const GRPC: StreamSubject = {
  name: "grpc-js",
  server: "grpc_streams.ts",
  client: "grpc_streams.ts",
  args: [],
  recordShare: 0.1, // otherwise it would take most of the time
};

/** One work, on several subjects that are compared with a raw socket. */
interface StreamWork extends Pick<StreamJob, "direction" | "chunkBytes"> {
  readonly title: string;
  readonly raw: StreamSubject;
  readonly subjects: readonly StreamSubject[];
}

const WORKS: StreamWork[] = (["download", "upload"] as const).flatMap((direction) => [
  ...[64 * 1024, MEBIBYTE].map((chunkBytes) => ({
    title: `${direction}, chunks of ${chunkBytes / 1024} KiB`,
    direction,
    chunkBytes,
    raw: PIPE,
    subjects: [PACKLINE, PIPE, OWNED, GRPC],
  })),
  {
    title: `${direction}, small records`,
    direction,
    chunkBytes: 0,
    raw: BATCH,
    subjects: direction === "download" ? [PACKLINE, WIDE, BATCH, PIPE, GRPC] : [PACKLINE, BATCH, PIPE, GRPC],
  },
]);

type Results = Map<StreamWork, Map<StreamSubject, StreamSample[]>>;

/** Runs one transfer, in two new processes. */
async function sample(work: StreamWork, subject: StreamSubject, extent: Extent): Promise<StreamSample> {
  const { direction, chunkBytes } = work;
  const { recordShare = 1 } = subject;
  const items = chunkBytes === 0 ? recordShare * extent.records : extent.bytes / chunkBytes;
  const job: StreamJob = { direction, chunkBytes, items };
  await using server = denoProcess(`servers/${subject.server}`, JSON.stringify(job), ...subject.args);
  const port = Number(await server.line());
  const clientJob: ClientJob = { ...job, port, pid: server.pid };
  await using client = denoProcess(`clients/${subject.client}`, JSON.stringify(clientJob), ...subject.args);
  return JSON.parse(await client.line());
}

async function measure(works: StreamWork[], extent: Extent): Promise<Results> {
  const results: Results = new Map(works.map((work) => [work, new Map(work.subjects.map((each) => [each, []]))]));
  for (let round = 0; round < extent.rounds; round++) {
    for (const work of works) {
      for (let turn = 0; turn < work.subjects.length; turn++) {
        const subject = work.subjects[(turn + round) % work.subjects.length];
        console.error(`round ${round + 1} of ${extent.rounds}: ${work.title}, ${subject.name}`);
        results.get(work)!.get(subject)!.push(await sample(work, subject, extent));
      }
    }
  }
  return results;
}

const HEADER = [
  "work",
  "who",
  "MiB/s",
  "items/s",
  "of raw, %",
  "CPU, server, µs/item",
  "CPU, client, µs/item",
  "CPU of raw, times",
];
const MEMORY_HEADER = ["RSS, server, MiB", "RSS, client, MiB"];

function resultTable(results: Results): string {
  const rows = [...results].flatMap(([work, bySubject]) => {
    const middle = (subject: StreamSubject, of: (sample: StreamSample) => number) =>
      median(bySubject.get(subject)!.map(of));
    const cpu = ({ serverCpu, clientCpu }: StreamSample) => serverCpu + clientCpu;
    const { raw } = work;
    return work.subjects.map((subject) => [
      work.title,
      subject.name,
      figure(work.chunkBytes === 0 ? NaN : middle(subject, ({ bytesPerSecond }) => bytesPerSecond / MEBIBYTE)),
      figure(middle(subject, ({ itemsPerSecond }) => itemsPerSecond)),
      figure(100 * middle(subject, (each) => each.itemsPerSecond) / middle(raw, (each) => each.itemsPerSecond)),
      figure(middle(subject, ({ serverCpu }) => serverCpu)),
      figure(middle(subject, ({ clientCpu }) => clientCpu)),
      figure(middle(subject, cpu) / middle(raw, cpu)),
      figure(middle(subject, ({ serverRss }) => serverRss / MEBIBYTE)),
      figure(middle(subject, ({ clientRss }) => clientRss / MEBIBYTE)),
    ]);
  });
  return table([...HEADER, ...MEMORY_HEADER], rows);
}

/** Calls during an upload. A word that selects works may leave them out. */
const BESIDE_TITLE = "PING beside an upload";

async function measureBeside({ rounds, bytes }: Extent): Promise<BesideSample[]> {
  const samples: BesideSample[] = [];
  const chunkBytes = 64 * 1024;
  const job: StreamJob = { direction: "upload", chunkBytes, items: 4 * bytes / chunkBytes };
  for (let round = 0; round < rounds; round++) {
    console.error(`round ${round + 1} of ${rounds}: ${BESIDE_TITLE}`);
    await using server = denoProcess("servers/streams.ts", JSON.stringify(job));
    const port = Number(await server.line());
    await using client = denoProcess("clients/beside.ts", JSON.stringify({ ...job, port, pid: server.pid }));
    samples.push(JSON.parse(await client.line()));
  }
  return samples;
}

function besideTable(samples: BesideSample[]): string {
  const row = (title: string, times: CallTimes[]) => [
    title,
    figure(median(times.map(({ calls }) => calls))),
    figure(median(times.map(({ p50 }) => p50))),
    figure(median(times.map(({ p99 }) => p99))),
  ];
  return table(["PING, one at a time, on one connection", "calls", "p50, µs", "p99, µs"], [
    row("alone", samples.map(({ alone }) => alone)),
    row("during an upload of chunks of 64 KiB", samples.map(({ beside }) => beside)),
  ]);
}

function report(tables: string, machine: string, { rounds, bytes, records }: Extent): string {
  return `# Streams

Written by \`deno task --config bench/deno.json streams --save\`.

${machine}
Each row is the median of ${rounds} rounds. Every sample has a new server and a new client, each in its own process. The rows
of a section take turns, after a warm-up of a quarter of the work. Chunks: ${
    bytes / MEBIBYTE
  } MiB are transferred, from one buffer
that the sender reuses. Small records: ${
    figure(records)
  } maps of a number and a text, about 50 bytes per frame. gRPC transfers
a tenth of them.

- *Raw socket*: \`Deno.listen\` and \`Deno.connect\`. A simple loop writes the same chunks, and another reads them into
  one buffer of 256 KiB. Nothing is copied or passed on. The frames of small records are prepared in advance.
- *A buffer for each chunk*: the same, but each chunk is read into a new buffer, which the reader may keep, like a reader
  of packline. In Deno 2.9.6 a new buffer of 64 KiB takes 13 µs, and copying the chunk takes 2 µs.
- *Raw batch*: packline's codec encodes each small record as a frame. A simple loop writes batches of 1,000, and
  another decodes and counts the records. The bytes and values are the same, without calls, credit, turns and
  iterators.
- CPU is the user and system time of the whole process. RSS is the maximum of a process, above its value after the
  warm-up.

${tables}
`;
}

if (import.meta.main) {
  const [isQuick, saves] = ["--quick", "--save"].map((flag) => Deno.args.includes(flag));
  const words = Deno.args.filter((argument) => argument !== "--quick" && argument !== "--save");
  const works = WORKS.filter(({ title }) => words.every((word) => title.includes(word)));
  const hasBeside = words.every((word) => BESIDE_TITLE.includes(word));
  if (works.length === 0 && !hasBeside) {
    console.error(`No work is named ${words.join(" ")}. Usage: deno task streams [--quick] [--save] [WORD]`);
    Deno.exit(2);
  }
  await leaveNoProcess(async () => {
    const extent = isQuick ? QUICK : FULL;
    const tables: string[] = [];
    if (works.length > 0) tables.push(resultTable(await measure(works, extent)));
    if (hasBeside) tables.push(besideTable(await measureBeside(extent)));
    console.log(tables.join("\n\n"));
    if (saves) {
      const text = report(tables.join("\n\n"), await machine(), extent);
      await Deno.writeTextFile(new URL("STREAMS.md", import.meta.url), text);
    }
  });
}
