/**
 * What an attacker reaches at a server with the default limits: how long a neighbour's PING waits, and how much memory the server
 * takes at the most. The figures are in docs/security.md. Takes six minutes:
 *
 *     deno task attacks
 *
 * In: nothing, or the names of some attacks. Out: a row for each. The server, the attacker and the neighbour are a process each, so
 * that none waits for another's work; the attacker is this file, too, with an attack as JSON on stdin.
 */

import { connect } from "../../client.ts";
import { DEFAULT_LIMITS } from "../../limits.ts";
import { connectPeer } from "../support/peers.ts";
import { concat, frame, request, unhex } from "../support/wire.ts";
import { ChildServer } from "./child.ts";

/** What an attacker does on each of its connections. */
interface Attack {
  readonly name: string;
  /**
   * - `flood`: sends the bytes over and over, and reads what comes.
   * - `hold`: sends them so many times, reads what comes, and stays.
   * - `unread`: sends them so many times, and reads nothing.
   * - `drip`: sends them one a second.
   * - `churn`: sends them, closes, and comes again.
   */
  readonly kind: "flood" | "hold" | "unread" | "drip" | "churn";
  readonly connections: number;
  readonly times?: number;
  readonly seconds?: number;
  /** The bytes as hexadecimal text, or what makes them; over and over in one write, for a flood. */
  readonly bytes: string | (() => Promise<string>);
}

const hexOf = (bytes: Uint8Array) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const uint32 = (value: number) => value.toString(16).padStart(8, "0");

/** A PING, or a DELAY without end, beside an array or a map of so many values. */
function heavy(command: "PING" | "DELAY", type: "dd" | "df", count: number, value: (index: number) => string): string {
  const head = command === "PING" ? "82 a3636d64 01" : "83 a3636d64 02 a5736c656570 cd0e10";
  const values = Array.from({ length: count }, (_, index) => value(index)).join("");
  return hexOf(frame(unhex(`${head} a178 ${type} ${uint32(count)} ${values}`)));
}

/** Values that are small on the wire and costly in memory or to read. */
const VALUES: Record<string, [type: "dd" | "df", value: (index: number) => string]> = {
  "maps with integer keys": ["dd", () => "82 cd03ff01 cd0a0c01"],
  "empty maps": ["dd", () => "80"],
  "empty binaries": ["dd", () => "c400"],
  "ever new keys": ["df", (index) => `a8${hexOf(new TextEncoder().encode(index.toString(36).padStart(8, "k")))}c0`],
  "64-bit integers": ["dd", () => "d37fffffffffffffff"],
};

/** As many of the values as a server takes in one message. */
async function heaviest(command: "PING" | "DELAY", name: string): Promise<string> {
  const [type, value] = VALUES[name];
  await using server = await ChildServer.start();
  let [least, most] = [1, Math.floor(DEFAULT_LIMITS.maxPayloadBytes / unhex(value(0)).length) - 100];
  while (most - least > least / 100) {
    const count = (least + most) >> 1;
    const bytes = unhex(heavy("PING", type, count, value));
    await using peer = await connectPeer({ port: server.port });
    await peer.send({ cmd: 1 }); // the first message of a connection must be a small one to be told from another protocol
    await peer.sendBytes(bytes);
    const [, reply] = await peer.readReplies(2);
    if (reply.res === "PONG") least = count;
    else most = count;
  }
  return heavy(command, type, least, value);
}

// The attacker ------------------------------------------------------------------------------------------------------

const DIALS_AT_ONCE = 64;

async function attack({ kind, connections, bytes, times = 1 }: Attack, port: number): Promise<void> {
  const sent = unhex(bytes as string);
  const chunk = kind === "flood" ? concat(...new Array(Math.ceil(65_536 / sent.length)).fill(sent)) : sent;
  const discard = async (conn: Deno.Conn) => {
    const into = new Uint8Array(65_536);
    while (await conn.read(into) !== null);
  };
  const writeAll = async (conn: Deno.Conn, bytes: Uint8Array) => {
    for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
  };
  const deeds: Record<Attack["kind"], (conn: Deno.Conn) => Promise<void>> = {
    async flood(conn) {
      void discard(conn).catch(() => {});
      while (true) await writeAll(conn, chunk);
    },
    async hold(conn) {
      for (let sent = 0; sent < times; sent++) await writeAll(conn, chunk);
      await discard(conn);
    },
    async unread(conn) {
      for (let sent = 0; sent < times; sent++) await writeAll(conn, chunk);
      await new Promise(() => {});
    },
    async drip(conn) {
      for (let at = 0;; at = (at + 1) % chunk.length) {
        await writeAll(conn, chunk.subarray(at, at + 1));
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    },
    async churn(conn) {
      await writeAll(conn, chunk);
      conn.close();
    },
  };
  const run = async () => {
    do {
      try {
        await deeds[kind](await Deno.connect({ hostname: "127.0.0.1", port }));
      } catch {
        // The server has ended the connection, or has no room.
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    } while (kind === "flood" || kind === "churn");
  };
  for (let dialled = 0; dialled < connections; dialled++) {
    void run();
    if (dialled % DIALS_AT_ONCE === 0) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  console.log("attacking");
  await new Promise((resolve) => setTimeout(resolve, 1e9)); // until it is killed
}

// The neighbour -----------------------------------------------------------------------------------------------------

/** The pause between two calls of the neighbour. */
const PAUSE_MS = 5;

const quantile = (sorted: readonly number[], share: number) => sorted[Math.floor(share * (sorted.length - 1))];

/** Starts an attack on a port, in a process of its own. Disposing of it ends it. */
export async function startAttack(one: Attack, port: number): Promise<AsyncDisposable> {
  const file = new URL(import.meta.url).pathname;
  const attacker = new Deno.Command("sh", {
    args: [
      "-c",
      'ulimit -n 20000; exec "$0" "$@"',
      ...[
        Deno.execPath(),
        "run",
        "--quiet",
        "--no-check",
        "--allow-net=127.0.0.1",
        "--allow-run",
        "--allow-read",
        file,
      ],
      ...["--attack", String(port)],
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "inherit",
  }).spawn();
  const bytes = typeof one.bytes === "string" ? one.bytes : await one.bytes();
  await new Blob([JSON.stringify({ ...one, bytes })]).stream().pipeTo(attacker.stdin); // too long for an argument
  const reader = attacker.stdout.getReader();
  await reader.read(); // it attacks
  return {
    async [Symbol.asyncDispose]() {
      attacker.kill("SIGKILL");
      await reader.cancel();
      await attacker.status;
    },
  };
}

async function measure(one: Attack): Promise<void> {
  await using server = await ChildServer.start({ openFiles: 20_000 });
  await using client = await connect({ port: server.port, timeoutMs: 60_000, aliveMs: 0 }); // it waits as long as it takes
  await client.call.PING();
  const attacking = await startAttack(one, server.port);
  const waits: number[] = [];
  for (const endMs = performance.now() + 1000 * (one.seconds ?? 8); performance.now() < endMs;) {
    const startMs = performance.now();
    await client.call.PING();
    waits.push(performance.now() - startMs);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  const { connections, inFlight, refused } = await client.call.STATS();
  await attacking[Symbol.asyncDispose]();
  waits.sort((a, b) => a - b);
  const [peak] = (await said(`cat /proc/${server.process.pid}/status`)).match(/(?<=VmHWM:\s+)\d+/) ?? [];
  const load = (await said("cat /proc/loadavg")).split(" ")[0];
  const ms = (share: number) => quantile(waits, share).toFixed(1);
  const figures = [ms(0.5), ms(0.99), ms(1), (Number(peak) / 1024).toFixed(0), connections.open, inFlight];
  const refusals = [connections.refused, refused.overloaded, refused.badFrame];
  console.log(`| ${[one.name, ...figures, refusals.join(" + "), load].join(" | ")} |`);
}

async function said(command: string): Promise<string> {
  const { stdout } = await new Deno.Command("sh", { args: ["-c", command] }).output();
  return new TextDecoder().decode(stdout);
}

// The attacks -------------------------------------------------------------------------------------------------------

const text = (ascii: string) => hexOf(new TextEncoder().encode(ascii));
/** A frame of 1 MiB with a map of binary data, of which so many bytes come: one that begins with no map is refused at once. */
const part = (bytes: number) => `1f1f 00100000 81a178c6000ffff8 ${"00".repeat(bytes - 14)}`;

/** All attacks, in the order of the table. */
export const ATTACKS: readonly Attack[] = allAttacks();

function allAttacks(): Attack[] {
  const all: Attack[] = [
    { name: "nobody", kind: "hold", connections: 0, bytes: "" },
    { name: "PING", kind: "flood", connections: 1, bytes: hexOf(request({ cmd: 1 })) },
    { name: "PING, 64 connections", kind: "flood", connections: 64, bytes: hexOf(request({ cmd: 1 })) },
    { name: "STATS", kind: "flood", connections: 1, bytes: hexOf(request({ cmd: 4 })) },
    { name: "DELAY without sleep (INVALID_SLEEP)", kind: "flood", connections: 1, bytes: hexOf(request({ cmd: 2 })) },
    {
      name: "TICK count=-1 (INVALID_PARAMS)",
      kind: "flood",
      connections: 1,
      bytes: hexOf(request({ cmd: "TICK", count: -1 })),
    },
    {
      name: "DELAY and its cancel",
      kind: "flood",
      connections: 1,
      bytes: hexOf(concat(request({ cmd: 2, sleep: 60, seq: 1 }), request({ cmd: 0, seq: 1, cancel: true }))),
    },
    {
      name: "HTTP, and again, from 16 connections",
      kind: "churn",
      connections: 16,
      bytes: text("POST / HTTP/1.1\r\nHost: a\r\n\r\n"),
    },
    {
      name: "a PING and a close, from 64 connections",
      kind: "churn",
      connections: 64,
      bytes: hexOf(request({ cmd: 1 })),
    },
    { name: "a byte a second, 2,000 connections", kind: "drip", connections: 2_000, seconds: 16, bytes: part(20) },
    { name: "64 KiB of a frame of 1 MiB, 1,000 connections", kind: "hold", connections: 1_000, bytes: part(65_536) },
    {
      name: "1 MiB of it less a byte, 1,000 connections",
      kind: "hold",
      connections: 1_000,
      seconds: 25,
      bytes: part(1_048_575),
    },
    { name: "idle, 9,000 connections", kind: "hold", connections: 9_000, bytes: hexOf(request({ cmd: 1 })) },
    { name: "idle, 12,000 connections", kind: "hold", connections: 12_000, bytes: hexOf(request({ cmd: 1 })) },
    {
      name: "70 x 1,024 DELAY 3600",
      kind: "hold",
      connections: 70,
      bytes: hexOf(concat(...Array.from({ length: 1_024 }, (_, seq) => request({ cmd: 2, sleep: 3600, seq })))),
    },
    {
      name: "replies of 50 KB that nobody reads, 100 connections",
      kind: "unread",
      connections: 100,
      times: 400,
      seconds: 25,
      bytes: hexOf(request({ cmd: "ECHO", data: "x".repeat(50_000) })),
    },
  ];
  for (const name of Object.keys(VALUES)) {
    const bytes = () => heaviest("PING", name);
    all.push({ name: `PING with ${name}`, kind: "flood", connections: 1, bytes });
    all.push({ name: `PING with ${name}, 8 connections`, kind: "flood", connections: 8, bytes });
  }
  for (const name of ["maps with integer keys", "empty maps", "empty binaries"]) {
    const bytes = () => heaviest("DELAY", name);
    all.push({
      name: `held DELAY with ${name}, 100 x 20`,
      kind: "hold",
      connections: 100,
      times: 20,
      seconds: 20,
      bytes,
    });
  }
  return all;
}

if (import.meta.main) {
  const [flag, port] = Deno.args;
  if (flag === "--attack") await attack(await new Response(Deno.stdin.readable).json(), Number(port));
  console.log("| attack | PING p50 ms | p99 | longest | peak MiB | open | in flight | refused | load |");
  for (const one of ATTACKS) if (Deno.args.length === 0 || Deno.args.includes(one.name)) await measure(one);
}
