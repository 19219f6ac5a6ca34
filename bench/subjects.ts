/**
 * Defines the servers in the benchmark: how each is started, and what loads it. To add one, write `servers/<name>.ts`
 * that prints its port as its first line, and add it here.
 */

import { TEXTS } from "./data.ts";
import { denoProcess, Process, versionOf } from "./process.ts";
import { redisCommand } from "./redis.ts";
import type { Question, Speech } from "./wire.ts";

/** One server of the benchmark. */
export interface Subject {
  /** Its name in the tables. */
  readonly name: string;
  readonly speech: Speech;
  /** Starts it, prepared for one kind of question. */
  start(question: Question): Promise<Server>;
}

/** A running subject. */
interface Server {
  readonly process: Process;
  readonly port: number;
}

export const PACKLINE = denoSubject("packline", "packline.ts");
export const TAPPED = denoSubject("packline, its calls watched", "packline.ts", "packline", "--tap");
export const FLOOR = denoSubject("raw Deno loop", "floor.ts");
export const ECHO = denoSubject("raw Deno echo", "echo.ts", "echo");
export const NAIVE = denoSubject("naive streams", "naive.ts");
export const HTTP = denoSubject("Deno.serve, JSON", "http.ts", "http");
export const WEB_SOCKET = denoSubject("WebSocket, JSON", "web_socket.ts", "library");
export const TRPC = denoSubject("tRPC", "trpc.ts", "library");
export const CAPNWEB = denoSubject("capnweb", "capnweb.ts", "library");
export const GRPC = denoSubject("grpc-js", "grpc.ts", "library");

export const ONE_WORKER = workersSubject(1);
export const TWO_WORKERS = workersSubject(2);

export const NODE: Subject = {
  name: "Node net, msgpackr",
  speech: "packline",
  start: () => listening(new Process("node", [new URL("servers/node.mjs", import.meta.url).pathname])),
};

export const REDIS: Subject = {
  name: "Redis",
  speech: "redis",
  async start() {
    // Redis cannot choose a free port, so use one that was free a moment ago.
    const port = freePort();
    const args = ["--bind", "127.0.0.1", "--port", `${port}`, "--save", "", "--appendonly", "no", "--daemonize", "no"];
    const process = new Process("redis-server", args);
    let line = "";
    while (!/ready to accept connections/i.test(line)) line = await process.line();
    using conn = await Deno.connect({ hostname: "127.0.0.1", port });
    const texts = redisCommand("MSET", ...[...TEXTS].flat());
    await new Blob([texts]).stream().pipeTo(conn.writable, { preventClose: true });
    await conn.read(new Uint8Array("+OK\r\n".length));
    return { process, port };
  },
};

/** Tries to start a subject. Returns the reason if it cannot start, otherwise `undefined`. */
export async function reasonToSkip(subject: Subject): Promise<string | undefined> {
  if (subject === REDIS && !await versionOf("redis-server", /(.)/)) return "redis-server was not found";
  if (subject === NODE && !await versionOf("node", /(.)/)) return "node was not found";
  try {
    const server = await subject.start("ping");
    await server.process[Symbol.asyncDispose]();
  } catch (error) {
    return (error as Error).message;
  }
}

function denoSubject(name: string, file: string, speech: Speech = "packline", ...args: string[]): Subject {
  return { name, speech, start: (question) => listening(denoProcess(`servers/${file}`, `${question}`, ...args)) };
}

function workersSubject(count: number): Subject {
  return {
    name: count === 1 ? "1 worker" : `${count} workers`,
    speech: "packline",
    start: () => listening(denoProcess("servers/workers.ts", `${count}`)),
  };
}

async function listening(process: Process): Promise<Server> {
  try {
    return { process, port: Number(await process.line()) };
  } catch (error) {
    await process[Symbol.asyncDispose]();
    throw error;
  }
}

function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  listener.close();
  return port;
}
