/**
 * The samples of PROTOCOL.md and `samples.md`, read from their texts and played against a real server: every byte of a client is
 * sent, and every byte of the server compared. The notation is explained there, under "How to read the samples".
 *
 * So that no sample takes long, the server's clock jumps over a handler's sleep of up to a minute. A longer one must be cancelled or
 * run out of time.
 */

import { assertEquals, AssertionError } from "@std/assert";
import { encode } from "./msgpack.ts";
import { command, unchecked } from "../../handlers/command.ts";
import { tracked } from "../../handlers/tracked.ts";
import type { StandardSchema } from "../../handlers/standard_schema.ts";
import type { ListeningServer, ServeOptions } from "../../server.ts";
import { serve } from "./demo_server.ts";
import { type Clock, systemClock } from "../../transport/clock.ts";
import { settleShutdown } from "./peers.ts";
import { frame } from "./wire.ts";

/** A file of the project, as text. */
export const projectFile = (path: string) => Deno.readTextFile(new URL(`../../${path}`, import.meta.url));

/** PROTOCOL.md, and what it has no room for. */
export const text = await projectFile("PROTOCOL.md");
export const moreText = await projectFile("tests/samples.md");

/** How long a sample waits for bytes before it fails. */
const PATIENCE_MS = 10_000;

// The server of the samples -----------------------------------------------------------------------------------------

const repeatSchema: StandardSchema<{ text: string; times: number }> = {
  "~standard": {
    version: 1,
    vendor: "by hand",
    validate: (value) =>
      Number.isInteger((value as { times?: unknown }).times)
        ? { value: value as { text: string; times: number } }
        : { issues: [{ message: "must be an integer", path: ["times"] }] },
  },
};

export const commands = {
  MIRROR: command({ number: 16, handler: ({ value }: { value: unknown }) => value }),
  REPEAT: command({ number: 17, schema: repeatSchema, handler: ({ text, times }) => text.repeat(times) }),
  TODAY: command({ number: 18, handler: (): unknown => new Date(0) }),
  BUG: command({
    number: 19,
    handler: (): null => {
      throw new Error("a secret of the server");
    },
  }),
  FIRST: command({
    number: 20,
    items: unchecked<unknown>(),
    async handler(_params: object, { items }): Promise<unknown> {
      for await (const item of items) return item;
      return null;
    },
  }),
  LOG: command({
    number: 21,
    params: ["after"],
    async *handler({ after = -1 }: { after?: number }) {
      for (let id = after + 1; id < LINES.length; id++) yield tracked(id, LINES[id]);
    },
  }),
};

const LINES = ["one", "two", "three"];

/** The machine's clock, but for short waits that keep the process: a handler's sleep, and the grace of a shutdown. */
function hurriedClock(): Clock {
  let skippedMs = 0;
  return {
    ...systemClock,
    now: () => systemClock.now() + skippedMs,
    setTimer(callback, delayMs, keepAlive) {
      if (!keepAlive || delayMs > 60_000) return systemClock.setTimer(callback, delayMs, keepAlive);
      const skip = () => {
        skippedMs += delayMs;
        callback();
      };
      return systemClock.setTimer(skip, 0, true);
    },
  };
}

export function serveSamples(options: ServeOptions = {}): Promise<ListeningServer> {
  return serve({ port: 0, commands, clock: hurriedClock(), onError: () => {}, ...options });
}

// Samples -----------------------------------------------------------------------------------------------------------

/** What one side sends; a byte that may be any is `undefined`. */
export interface Bytes {
  kind: "bytes";
  side: string;
  bytes: (number | undefined)[];
  /** Whether the frame goes on, with anything. */
  open: boolean;
  comment: string;
}

export type Step = Bytes | { kind: "end"; side: string } | { kind: "event"; event: string };

interface Sample {
  name: string;
  options: ServeOptions;
  steps: Step[];
}

/** The samples of a text, each named for the heading it stands under. */
export function samplesOf(markdown: string): Sample[] {
  const samples: Sample[] = [];
  let heading = "";
  for (const [, title, options, body] of markdown.matchAll(/^#+ (.*)$|^```packline(.*)\n((?:.*\n)*?)```$/gm)) {
    if (title !== undefined) {
      heading = title;
      continue;
    }
    samples.push({
      name: `${heading}, sample ${samples.length + 1}`,
      options: Object.fromEntries(
        [...options.matchAll(/(\w+)=(\d+|true)/g)].map(([, name, value]) => [name, JSON.parse(value)]),
      ),
      steps: stepsOf(body),
    });
  }
  return samples;
}

export function stepsOf(body: string): Step[] {
  const steps: Step[] = [];
  for (const line of body.trimEnd().split("\n")) {
    const side = line.slice(0, 2);
    const [hex, comment = ""] = line.slice(3).split(/ {2,}/);
    const last = steps.at(-1);
    if (side === "--") steps.push({ kind: "event", event: line.slice(4) });
    else if (hex === "FIN") steps.push({ kind: "end", side: side[0] });
    else if (side === "C:" || side === "S:") steps.push({ kind: "bytes", side: side[0], comment, ...bytesOf(hex) });
    else if (side !== "  " || last?.kind !== "bytes") throw new SyntaxError(`not a line of a sample: ${line}`);
    else Object.assign(last, { bytes: [...last.bytes, ...bytesOf(hex).bytes], open: bytesOf(hex).open });
  }
  return steps;
}

/** `78*3 ?? 0a` as bytes. */
export function bytesOf(hex: string): { bytes: (number | undefined)[]; open: boolean } {
  const open = / ?\.\.\.$/;
  const bytes = hex.replace(open, "").split(" ").filter(Boolean).flatMap((token) => {
    const [, byte, times = "1"] = token.match(/^([0-9a-f]{2}|\?\?)(?:\*(\d+))?$/) ?? [];
    if (byte === undefined) throw new SyntaxError(`not a byte of a sample: ${token}`);
    return new Array(Number(times)).fill(byte === "??" ? undefined : parseInt(byte, 16));
  });
  return { bytes, open: open.test(hex) };
}

/** Bytes as a sample writes them, so that a failure shows what could stand there instead. */
export function shown(bytes: readonly (number | undefined)[]): string {
  const tokens: string[] = [];
  for (let index = 0, end = 0; index < bytes.length; index = end) {
    while (end < bytes.length && bytes[end] === bytes[index]) end++;
    const token = bytes[index]?.toString(16).padStart(2, "0") ?? "??";
    if (end - index < 16) tokens.push(...new Array(end - index).fill(token));
    else tokens.push(`${token}*${end - index}`);
  }
  return tokens.join(" ");
}

/** A client that knows bytes and frames. */
export class RawClient implements Disposable {
  readonly #conn: Deno.TcpConn;
  readonly #watchdog: ReturnType<typeof setTimeout>;
  #timedOut = false;

  constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
    this.#watchdog = setTimeout(() => {
      this.#timedOut = true;
      conn.close();
    }, PATIENCE_MS);
  }

  static async connect({ port }: ListeningServer): Promise<RawClient> {
    return new RawClient(await Deno.connect({ port }));
  }

  async write(bytes: Uint8Array): Promise<void> {
    let sent = 0;
    while (sent < bytes.length) sent += await this.#conn.write(bytes.subarray(sent));
  }

  end(): Promise<void> {
    return this.#conn.closeWrite();
  }

  /** The next bytes, exactly as many. */
  async take(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    let taken = 0;
    while (taken < length) {
      const more = await this.#conn.read(bytes.subarray(taken)).catch((error) => {
        if (this.#timedOut) return null;
        throw error;
      });
      if (more === null) {
        const why = this.#timedOut ? "no more bytes came" : "the server has closed";
        throw new AssertionError(`${why}, after ${shown([...bytes.subarray(0, taken)]) || "nothing"}`);
      }
      taken += more;
    }
    return bytes;
  }

  /** The next frame, whole: read as PROTOCOL.md tells. */
  async takeFrame(): Promise<{ frame: Uint8Array; payload: Uint8Array }> {
    const header = [...await this.take(2)];
    let length = ((header[0] - 32) & 255) << 8 | ((header[1] - 32) & 255);
    if (length === 0xffff) {
      header.push(...await this.take(4));
      length = header.slice(2).reduce((sum, byte) => sum * 256 + byte, 0);
    }
    const rest = await this.take(length + 1);
    assertEquals(rest[length], 0x0a);
    return { frame: new Uint8Array([...header, ...rest]), payload: rest.subarray(0, length) };
  }

  /** Fails if anything comes before the end. */
  async takeEnd(): Promise<void> {
    const byte = await this.take(1).then((byte) => byte, (error) => {
      if (this.#timedOut || !(error instanceof AssertionError)) throw error;
    });
    if (byte) throw new AssertionError(`the server says more than the sample: ${shown([...byte])} ...`);
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#watchdog);
    if (!this.#timedOut) this.#conn.close();
  }
}

/** Plays a sample's client against a server of its own; rejects where the server does not play its part. */
export async function run({ options, steps }: Sample): Promise<void> {
  let isReady = true;
  const server = await serveSamples({ ready: () => isReady, ...options });
  using others = new DisposableStack();
  let client: RawClient | undefined;
  let ended = false;
  try {
    for (const step of steps) {
      if (step.kind === "event") {
        if (step.event === "another client connects") {
          const other = others.use(await RawClient.connect(server));
          await other.write(frame(encode({ cmd: 1 })));
          await other.takeFrame();
        } else if (step.event === "the service says that it is not ready") {
          isReady = false;
        } else {
          assertEquals(step.event, "the server is told to shut down");
          void server.shutdown({ graceMs: 3_600_000 }); // beyond what the clock jumps over
          await settleShutdown();
        }
        continue;
      }
      client ??= others.use(await RawClient.connect(server));
      if (step.kind === "bytes") await (step.side === "C" ? send(client, step) : receive(client, step));
      else if (step.side === "S") await client.takeEnd();
      else await client.end();
      ended ||= step.kind === "end";
    }
    if (!ended) await client?.end();
    await client?.takeEnd();
  } finally {
    others.dispose();
    await server.shutdown({ graceMs: 0 });
  }
}

function send(client: RawClient, { bytes }: Bytes): Promise<void> {
  return client.write(Uint8Array.from(bytes, (byte) => byte ?? 0));
}

async function receive(client: RawClient, { bytes, open }: Bytes): Promise<void> {
  const received = open ? (await client.takeFrame()).frame : await client.take(bytes.length);
  const compared = Array.from(
    received.subarray(0, bytes.length),
    (byte, at) => bytes[at] === undefined ? undefined : byte,
  );
  assertEquals(shown(compared), shown(bytes));
}

/** `{cmd: 1, $items: true, a: nil}` as JSON. */
export function quoteKeys(message: string): string {
  return message.replaceAll(/([{,] *)([\w$]+):/g, '$1"$2":').replaceAll(/: nil\b/g, ": null");
}

/** The samples of PROTOCOL.md, of the other text, and of both. */
export const documentSamples = samplesOf(text);
export const moreSamples = samplesOf(moreText);
export const samples = [...documentSamples, ...moreSamples];
