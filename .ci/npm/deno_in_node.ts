/**
 * What the tests of `tests/client/` use of Deno, in Node: tests, TCP connections, a few files and errors.
 *
 * In: the calls of a test. Out: Node's own. Refused: all else of Deno, which leaves the test out, and says why.
 */

import { Buffer } from "node:buffer";
import { once } from "node:events";
import { rm } from "node:fs/promises";
import { connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import process from "node:process";
import { test as nodeTest, type TestContext } from "node:test";
import { inspect } from "node:util";
import { isNamed, type SystemErrorName } from "../../transport/runtime.ts";
import { nodeTransport } from "../../transport/node_transport.ts";

/** A test needs what Node does not have. */
class NotInNode extends Error {}

/** What is left out by name, and why. */
const LEFT_OUT: Record<string, string> = {
  "no time left is out of time, and not sent; Infinity is without end":
    "it takes half a minute: 12 days of a fake clock",
  "rollout - 2 servers are restarted in turn under clients that call now and then: nothing is lost":
    "Node accepts one connection a turn: of 30 that come at once, some may still wait when their server ends",
};

/** Loads a file of tests. */
export async function load(name: string, file: () => Promise<unknown>): Promise<void> {
  try {
    await file();
  } catch (error) {
    if (!(error instanceof NotInNode)) throw error;
    nodeTest(`all of ${name}`, { skip: error.message });
  }
}

/** After the last file: what a failed test has left open must not keep the program for ever. */
export function end(): void {
  nodeTest("nothing keeps the program", () => void setTimeout(() => process.exit(), 5_000).unref());
}

interface TestOptions {
  readonly name: string;
  readonly ignore?: boolean;
  readonly permissions?: unknown;
  readonly fn: () => unknown;
}

function test(first: string | TestOptions, second?: () => unknown): void {
  const { name, ignore, permissions, fn } = typeof first === "string"
    ? { name: first, fn: second } as TestOptions
    : first;
  let skip: string | boolean | undefined = ignore;
  if (permissions !== undefined) skip = "it needs the permissions of Deno";
  skip = LEFT_OUT[name] ?? skip;
  nodeTest(name, { skip }, async (context: TestContext) => {
    while (listening.length < 8) listening.push(await listenSoon());
    try {
      await fn();
    } catch (error) {
      if (!(error instanceof NotInNode)) throw error;
      context.skip(error.message);
    }
  });
}

/** Servers that listen already: `Deno.listen()` gives its port at once. */
const listening: Server[] = [];

async function listenSoon(): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }).listen(0, "127.0.0.1").unref();
  await once(server, "listening");
  return server;
}

function listen() {
  const server = (listening.shift() as Server).ref();
  const come: Socket[] = [];
  const wanted: ((socket: Socket) => void)[] = [];
  server.on("connection", (socket) => {
    const take = wanted.shift();
    if (take === undefined) come.push(socket);
    else take(socket);
  });
  const close = () => void server.close();
  const accept = async () => connectionOf(come.shift() ?? await new Promise((resolve) => wanted.push(resolve)));
  return {
    ...{ addr: server.address(), accept, close, [Symbol.dispose]: close },
    async *[Symbol.asyncIterator]() {
      const closed = once(server, "close");
      while (server.listening) {
        const next = await Promise.race([accept(), closed.then(() => undefined)]);
        if (next !== undefined) yield next;
      }
    },
  };
}

function connectionOf(socket: Socket) {
  const transport = nodeTransport(socket);
  return Object.assign(transport, {
    remoteAddr: { transport: "tcp", hostname: socket.remoteAddress, port: socket.remotePort },
    [Symbol.dispose]: () => transport.close(),
  });
}

const here = {
  ...{ args: [], inspect, listen, test },
  async connect({ hostname, port }: { hostname: string; port: number }) {
    const socket = connect({ host: hostname, port, allowHalfOpen: true, noDelay: true });
    await once(socket, "connect");
    return connectionOf(socket);
  },
  errors: new Proxy({}, {
    get: (_, name: SystemErrorName) => ({ [Symbol.hasInstance]: (error: unknown) => isNamed(error, name) }),
  }),
  makeTempFile: () => Promise.resolve(`${tmpdir()}/packline-${crypto.randomUUID()}`),
  remove: (path: string) => rm(path, { force: true }),
};

/** In place of Deno. */
export const Deno: unknown = new Proxy(here, {
  get(target, name) {
    if (name in target) return target[name as keyof typeof here];
    throw new NotInNode(`it needs Deno.${String(name)}`);
  },
});

// What the tests use, and Node 20 or 22 has not. The library does without, or brings it.
Object.assign(Uint8Array, { fromHex: (text: string) => Uint8Array.from(Buffer.from(text, "hex")) });
Object.assign(Uint8Array.prototype, {
  toHex(this: Uint8Array) {
    return Buffer.from(this).toString("hex");
  },
});
Array.fromAsync ??= async <Item>(items: AsyncIterable<Item> | Iterable<Item>) => {
  const all = [];
  for await (const item of items) all.push(item);
  return all;
};
Set.prototype.symmetricDifference ??= function <Item>(this: Set<Item>, other: Set<Item>) {
  return new Set([...this, ...other].filter((item) => this.has(item) !== other.has(item)));
};
