/**
 * Streams of our own client that are broken off: by a server that grants what makes no sense or answers too early, and by a
 * shutdown in the middle of those of 100 clients. Each end is told with its code, each source is ended, and a file that was
 * sent is closed: both sanitizers are on.
 */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { command, unchecked } from "../../handlers/command.ts";
import { RpcError } from "../../errors.ts";
import { testWith } from "../production/programs.ts";
import { type Network, ScriptedServer, tcpNetwork, tlsNetwork } from "../support/scripted_server.ts";
import { overEach, TCP, TLS, UNIX } from "../support/transports.ts";
import { TickedTime } from "../support/ticked_time.ts";
import { withServer } from "../support/test_server.ts";
import type { Message } from "../support/wire.ts";
import { statisticsOf, until, untilAtRest } from "./beside.ts";
import { ChildServer } from "./child.ts";
import { FaultProxy } from "./fault_proxy.ts";

const many = <Item>(count: number, item: (index: number) => Item): Item[] =>
  Array.from({ length: count }, (_, i) => item(i));

const codeOf = async (call: Promise<unknown>): Promise<string> => {
  try {
    await call;
    return "value";
  } catch (error) {
    return error instanceof RpcError ? error.code : String(error);
  }
};

/** A source that counts what it gives, and is told when it ends. */
class Source {
  given = 0;
  ends = 0;

  async *items(count = Infinity, bytes = 10): AsyncGenerator<Uint8Array> {
    try {
      while (this.given < count) {
        this.given++;
        yield new Uint8Array(bytes);
      }
    } finally {
      this.ends++;
    }
  }
}

// A bad server -------------------------------------------------------------------------------------------------------

/** A test over each network: an upload has sent its request and its first item. */
function badServer(
  name: string,
  body: (scene: { server: ScriptedServer; client: Client; call: Promise<string>; source: Source }) => Promise<void>,
  count = Infinity,
): void {
  for (const [transport, listen] of [[TCP, tcpNetwork], [TLS, tlsNetwork]] as const) {
    testWith(transport.packages, `stream endings - a server that ${name} (${transport.name})`, async () => {
      using network: Network = await listen();
      const accepted = ScriptedServer.accept(network);
      await using client = await connect({ dial: () => network.dial(), timeoutMs: Infinity, random: () => 0 });
      await using server = await accepted;
      const source = new Source();
      const call = codeOf(client.call("UP", {}, { items: source.items(count) }));
      await server.requests(2);
      await body({ server, client, call, source });
      await until("the source is ended", () => source.ends === 1);
    });
  }
}

const absurd = Number.MAX_SAFE_INTEGER;

badServer("grants 2^53 - 1 items, again and again, gets all there are", async ({ server, call, source }) => {
  await server.reply(...many(5, () => ({ seq: 0, credit: absurd })));
  assertEquals(await server.requests(1_000), [
    ...many(999, () => ({ cmd: 0, seq: 0, item: new Uint8Array(10) })),
    { cmd: 0, seq: 0, end: true },
  ]);
  assertEquals(source.given, 1_000);
  await server.reply({ seq: 0, res: null });
  assertEquals(await call, "value");
}, 1_000);

badServer("grants for calls that there are not is not heard", async ({ server, client, call, source }) => {
  const other = codeOf(client.call("OTHER"));
  assertEquals(await server.request(), { cmd: "OTHER", seq: 1 });
  await server.reply({ seq: 77, credit: 5 }, { seq: 1, credit: 5 }, { seq: 1, res: null }, { seq: 1, credit: 5 });
  assertEquals(await other, "value");
  assertEquals([source.given, server.waiting], [1, 0]);
  await server.reply({ seq: 0, res: null });
  assertEquals(await call, "value");
});

for (const credit of [0, -1, 1.5, absurd + 1, "5", null, true]) {
  badServer(`grants ${Deno.inspect(credit)} has broken the protocol`, async ({ server, call }) => {
    await server.reply({ seq: 0, credit } as Message);
    assertEquals(await call, "BAD_REPLY");
    assertEquals(await server.rest(), [], "nothing more is said to it");
  });
}

badServer(
  "answers before it has taken an item ends the source, and is sent no more",
  async ({ server, client, call }) => {
    await server.reply({ seq: 0, res: "early" });
    assertEquals(await call, "value");
    await server.reply({ seq: 0, credit: 100 }, { seq: 0, res: "again" });
    const next = codeOf(client.call("NEXT"));
    assertEquals(await server.request(), { cmd: "NEXT", seq: 1 });
    await server.reply({ seq: 1, res: null });
    assertEquals(await next, "value");
    assertEquals(client.statistics().lateReplies, 1);
  },
);

badServer("fails in the middle ends the source", async ({ server, call, source }) => {
  await server.reply({ seq: 0, credit: 10 });
  await server.requests(10);
  await server.reply({ seq: 0, err: "ENOUGH" });
  assertEquals(await call, "ENOUGH");
  assert(source.given <= 12, `${source.given} items`);
});

badServer("answers an upload with a stream has broken the protocol of its command", async ({ server, call }) => {
  await server.reply({ seq: 0, res: 1, more: true });
  assertEquals(await call, "BAD_REPLY");
  assertEquals(await server.request(), { cmd: 0, seq: 0, cancel: true });
});

badServer("closes its connection in the middle", async ({ server, call }) => {
  await server.reply({ seq: 0, credit: 10 });
  await server.requests(10);
  server.cut();
  assertEquals(await call, "CONNECTION_LOST");
});

Deno.test("stream endings - a server that grants all and reads nothing: the source is not asked for what cannot leave", async () => {
  using network = tcpNetwork();
  const accepted = network.accept();
  const client = await connect({ dial: () => network.dial(), timeoutMs: Infinity });
  const transport = await accepted;
  const source = new Source();
  const call = codeOf(client.call("UP", {}, { items: source.items(Infinity, 100_000) }));
  const greeting = new Uint8Array(1_000_000);
  await transport.read(greeting);
  const grant = new ScriptedServer(transport, { reads: false });
  await grant.reply({ seq: 0, credit: absurd });
  let given = 0;
  for (let still = 0; still < 20;) {
    still = source.given === given ? still + 1 : 0;
    given = source.given;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  console.log(`${given} items of 100 kB were asked for`);
  assert(given < 200, `${given} items: more than a kernel takes`);
  await client.close();
  assertEquals(await call, "CLOSED");
  await until("the source is ended", () => source.ends === 1);
  await grant[Symbol.asyncDispose]();
});

// Files --------------------------------------------------------------------------------------------------------------

const FILE_BYTES = 4 * 1024 * 1024;

/** What breaks an upload off, and the code that its caller gets. */
type BreakOff = [
  name: string,
  command: string,
  code: string,
  make?: (scene: { client: Client; proxy: FaultProxy; patience: AbortController }) => unknown,
];

const BREAK_OFFS: BreakOff[] = [
  ["its end", "TAKE", "value"],
  ["an early answer", "EARLY", "value"],
  ["the handler's error", "FAIL", "FAILED"],
  ["a command that there is not", "NOTHING", "CMD_NOT_FOUND"],
  ["its caller's abort", "WAIT", "CANCELLED", ({ patience }) => patience.abort()],
  ["its deadline", "SHORT", "DEADLINE_EXCEEDED"],
  ["the end of the client", "WAIT", "CLOSED", ({ client }) => client.close()],
  ["a lost connection (FIN)", "WAIT", "CONNECTION_LOST", ({ proxy }) => proxy.cutAll("FIN")],
  ["a lost connection (RST)", "WAIT", "CONNECTION_LOST", ({ proxy }) => proxy.cutAll("RST")],
];

overEach("stream endings - a file that was sent is closed, whatever has ended its upload", async (transport) => {
  let running = 0;
  const taking = (work: (items: AsyncIterable<unknown>, signal: AbortSignal) => Promise<unknown>) =>
    command({
      items: unchecked<Uint8Array>(),
      async handler(_: object, { items, signal }) {
        running++;
        try {
          return await work(items, signal);
        } finally {
          running--;
        }
      },
    });
  const first = (items: AsyncIterable<unknown>) => items[Symbol.asyncIterator]().next();
  const wait = async (items: AsyncIterable<unknown>, signal: AbortSignal) => {
    await first(items);
    signal.throwIfAborted();
    await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  };
  const commands = {
    TAKE: taking(async (items) => {
      let bytes = 0;
      for await (const chunk of items) bytes += (chunk as Uint8Array).length;
      assertEquals(bytes, FILE_BYTES);
    }),
    EARLY: taking(first),
    FAIL: taking(async (items) => {
      await first(items);
      throw new RpcError("FAILED");
    }),
    WAIT: taking(wait),
    SHORT: { ...taking(wait), timeoutMs: 50 },
  };
  const path = await Deno.makeTempFile();
  await Deno.writeFile(path, new Uint8Array(FILE_BYTES));
  await using server = await withServer({ commands }, transport);
  const { address } = server;
  for (const [name, cmd, code, breakOff] of BREAK_OFFS) {
    await using proxy = await FaultProxy.start({ port: server.port });
    const at = address.path === undefined ? { ...address, port: proxy.port } : address;
    if (address.path !== undefined && code === "CONNECTION_LOST") continue; // the proxy knows ports
    const client = await connect({ ...at, timeoutMs: Infinity });
    const patience = new AbortController();
    const file = await Deno.open(path);
    const call = codeOf(client.call(cmd, {}, { items: file.readable, signal: patience.signal }));
    if (breakOff !== undefined) {
      await until("it runs", () => running === 1);
      await breakOff({ client, proxy, patience });
    }
    assertEquals(await call, code, name);
    await until(`the file is closed by ${name}`, () => isClosed(file));
    await client.close();
    await until("the handler has ended", () => running === 0);
  }
  await untilAtRest(address);
  await Deno.remove(path);
}, [TCP, TLS, UNIX]);

function isClosed(file: Deno.FsFile): boolean {
  try {
    file.statSync();
    return false;
  } catch (error) {
    return error instanceof Deno.errors.BadResource;
  }
}

// A shutdown ---------------------------------------------------------------------------------------------------------

const CLIENTS = 100;
const GRACE_MS = 1_000;

overEach(
  "stream endings - SIGTERM in the middle of the streams of 100 clients: what ends in time is answered, the rest is told",
  async (transport) => {
    await using server = await ChildServer.start({ args: ["--grace", String(GRACE_MS / 1000)], transport });
    const clients = await Promise.all(many(CLIENTS, () => connect({ ...server.address, timeoutMs: Infinity })));
    const sources = many(CLIENTS, () => new Source());
    const finish = Promise.withResolvers<void>();
    async function* finite(source: Source) {
      try {
        yield new Uint8Array(10);
        await finish.promise;
        yield new Uint8Array(10);
      } finally {
        source.ends++;
      }
    }
    async function* slow(source: Source) {
      for await (const item of source.items()) {
        yield item;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    }
    const read = async (stream: AsyncGenerator<unknown>) => {
      for await (const _ of stream);
    };
    // Uploads that end within the grace, uploads and streams both ways that never do, and downloads.
    const expected = many(CLIENTS, (index) => ["value", "GOING_AWAY", "GOING_AWAY", "GOING_AWAY"][index % 4]);
    const calls = clients.map((client, index) => {
      const source = sources[index];
      if (index % 4 === 0) return codeOf(client.call("TALLY", {}, { items: finite(source) }));
      if (index % 4 === 1) return codeOf(client.call("TALLY", {}, { items: slow(source) }));
      if (index % 4 === 2) return codeOf(read(client.stream("ECHO", {}, { items: slow(source) })));
      source.ends++; // it has none
      return codeOf(read(client.stream("TICK", { interval: 0.02 })));
    });
    await until("all are in flight", async () => (await statisticsOf(server.address)).inFlight === CLIENTS);
    using time = new TickedTime();
    server.kill("SIGTERM");
    finish.resolve();
    assertEquals(await Promise.all(calls), expected);
    const toldMs = time.ms;
    const { code, stderr } = await server.end();
    const endedMs = time.ms;
    console.log(`told after ${toldMs.toFixed(0)} ms, ended after ${endedMs.toFixed(0)} ms`);
    assertEquals(code, 0, stderr);
    assert(toldMs < GRACE_MS + 2_000 && endedMs < GRACE_MS + 2_500, `${toldMs} ms, ${endedMs} ms`);
    await Promise.all(clients.map((client) => client.close()));
    await until("all sources are ended", () => sources.every(({ ends }) => ends === 1));
  },
  Deno.build.os === "windows" ? [] : [TCP, TLS],
);
