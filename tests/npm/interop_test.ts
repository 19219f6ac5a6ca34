/** Deno, Node and Bun call each other, over TCP, TLS with a client's certificate, a unix socket, and WebSockets. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { connect, RpcError } from "../../mod.ts";
import { Certificates } from "../production/certificates.ts";
import { type Folder, type Program, testWith } from "../production/programs.ts";
import { openSocket } from "../support/peers.ts";
import { concat, request } from "../support/wire.ts";
import { output, type Runtime, start, withArchive } from "./runtimes.ts";

async function startService(runtime: Runtime, folder: Folder, places: unknown[]): Promise<Program> {
  const up = new RegExp(`(listening.*\\n[^]*){${places.length}}`);
  return await start(runtime, folder, ["service.mjs", JSON.stringify(places)], up);
}

function portsOf({ said }: Program): number[] {
  return [...said.matchAll(/listening on .*:(\d+)\n/g)].map(([, port]) => Number(port));
}

/** A client calls all of these servers, one after the other. */
async function callAll(runtime: Runtime, folder: Folder, servers: unknown[]): Promise<unknown[]> {
  const [program, ...flags] = runtime.command;
  const said = await output(program, [...flags, "caller.mjs", JSON.stringify(servers)], folder.path);
  return said.trim().split("\n").map((line) => JSON.parse(line));
}

const ANSWERS = {
  ...{ greeting: "Hello, Ada!", who: "anybody", last: 500, sum: 500_500, doubled: 1_001_000 },
  ...{ cancelled: "CANCELLED", late: "TIMEOUT", large: 900_008, together: 1_000 },
  ended: ["COUNT", "HOLD", "HOLD", "a listener of the handler's", "a listener of the handler's"],
};

const KNOWN = { ...ANSWERS, who: "CN=ada" };

/** What each way to a server answers. */
const WAYS = { TCP: ANSWERS, TLS: KNOWN, "a unix socket": ANSWERS, "ws://": ANSWERS, "wss://": KNOWN };

testWith(
  ["npm", "openssl"],
  "calls, streams both ways, a cancel and a deadline, between Deno and Node or Bun",
  async () => {
    const { folder, all } = await withArchive();
    await using certificates = await Certificates.begin();
    const authority = await certificates.selfSigned({ subject: "/CN=authority" });
    const ours = await certificates.signedBy(authority);
    const theirs = await certificates.signedBy(authority, { subject: "/CN=ada" });
    const ca = authority.cert;
    await using services = new AsyncDisposableStack();
    const reached = new Map<Runtime, unknown[]>();
    const programs: Program[] = [];
    for (const [index, runtime] of all.entries()) {
      const path = `${folder.path}/${index}.sock`;
      const places = [{ port: 0 }, { port: 0, tls: { cert: ours.cert, key: ours.key, ca } }, { path }];
      const service = services.use(await startService(runtime, folder, places));
      const [port, tlsPort] = portsOf(service);
      const tls = { cert: theirs.cert, key: theirs.key, ca };
      const urls = [{ url: `ws://127.0.0.1:${port}/` }, { url: `wss://127.0.0.1:${tlsPort}/`, tls }];
      reached.set(runtime, [{ port }, { port: tlsPort, tls }, { path }, ...urls]);
      programs.push(service);
    }
    const [deno, ...others] = all;
    const calls: [client: Runtime, servers: Runtime[]][] = [
      [deno, others],
      ...others.map((each) => [each, [deno]] as [Runtime, Runtime[]]),
    ];
    for (const [client, servers] of calls) {
      const answers = await callAll(client, folder, servers.flatMap((each) => reached.get(each) ?? []));
      for (const [index, server] of servers.entries()) {
        const name = `${client.name} calls ${server.name}, by ${Object.keys(WAYS).join(", ")}`;
        const ways = Object.values(WAYS);
        assertEquals(answers.slice(ways.length * index, ways.length * (index + 1)), ways, name);
        console.log(name);
      }
    }
    for (const service of programs) {
      service.kill("SIGTERM");
      await service.hear(/\{"finished":0,"cut":0\}\n/);
      assertEquals((await service.status).code, 0);
    }
  },
);

testWith(
  ["npm"],
  "a server of Node or Bun that is told to end answers what is in flight, and its process ends",
  async () => {
    const { folder, all: [, ...others] } = await withArchive();
    for (const runtime of others) {
      await using service = await startService(runtime, folder, [{ port: 0 }]);
      await using client = await connect({ port: portsOf(service)[0] });
      const stream = client.stream("COUNT", { to: 1e9 });
      await stream.next();
      const slow = client.call("SLOW");
      await client.call("PING"); // it has begun
      service.kill("SIGTERM");
      const ended = assertRejects(() => Array.fromAsync(stream), RpcError);
      assertEquals([await slow, (await ended).code], ["done", "GOING_AWAY"], runtime.name);
      await service.hear(/\{"finished":1,"cut":1\}\n/);
      assertEquals((await service.status).code, 0);
    }
  },
);

testWith(["npm"], "server.fetch of Node or Bun says that it can open no WebSocket, and what can", async () => {
  const { folder, all: [, ...others] } = await withArchive();
  for (const runtime of others) {
    await using service = await startService(runtime, folder, [{ port: 0 }]);
    await using client = await connect({ port: portsOf(service)[0] });
    assertEquals(
      await client.call("FETCH"),
      "TypeError: Cannot open a WebSocket in fetch: only Deno can. In Node and Bun, let the server listen on a port of its own, with webOrigins",
      runtime.name,
    );
  }
});

testWith(
  ["npm"],
  "clients of Deno, Node and Bun whose server is killed are told so, and find the next one",
  async () => {
    const { folder, all: [, ...others] } = await withArchive();
    for (const runtime of others) {
      const first = await startService(runtime, folder, [{ port: 0 }]);
      const [port] = portsOf(first);
      await using caller = await start(
        runtime,
        folder,
        ["caller.mjs", JSON.stringify([{ port }]), "be lost"],
        /held\n/,
      );
      await using client = await connect({ port });
      const held = assertRejects(() => client.call("HOLD"), RpcError);
      await client.call("PING");
      first.kill("SIGKILL");
      await first[Symbol.asyncDispose]();
      assertEquals((await held).code, "CONNECTION_LOST");
      await caller.hear(/held\nCONNECTION_LOST\n/);
      await using _second = await startService(runtime, folder, [{ port }]);
      await caller.hear(/Hello, again!\n/);
      assertEquals((await caller.status).code, 0);
      assertEquals(await client.call("GREET", { name: "again" }), "Hello, again!");
    }
  },
);

testWith(
  ["npm"],
  "a client that leaves a unix socket of Node is noticed, also while nothing is read from it",
  async () => {
    const { folder, all } = await withArchive();
    for (const runtime of all.filter(({ name }) => name.startsWith("Node"))) {
      const path = `${folder.path}/left.sock`;
      await using _service = await startService(runtime, folder, [{ path }]);
      await using client = await connect({ path });
      const conn = await openSocket({ path });
      // Calls without a number wait for each other. With too many of them, nothing is read.
      await conn.write(concat(...Array.from({ length: 2_000 }, () => request({ cmd: "HOLD" }))));
      while (!((await client.call("STATS")).commands.HOLD?.inFlight >= 1_000));
      conn.close();
      const lateMs = performance.now() + 5_000;
      let ended: unknown[] = [];
      while (ended.length === 0 && performance.now() < lateMs) ended = await client.call("ENDED") as unknown[];
      assertEquals(ended[0], "HOLD", runtime.name);
    }
  },
);

/** The most that a server may grow for a peer that does not read. */
const MOST_BYTES = 64 * 2 ** 20;

testWith(["npm", "openssl"], "a peer that does not read costs a server of Node or Bun little memory", async () => {
  const { folder, all: [, ...others] } = await withArchive();
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned({ subject: "/CN=authority" });
  const ours = await certificates.signedBy(authority);
  for (const server of others) {
    const tls = { cert: ours.cert, key: ours.key };
    await using service = await startService(server, folder, [{ port: 0 }, { port: 0, tls }]);
    const [port, tlsPort] = portsOf(service);
    await using client = await connect({ port });
    const memory = () => client.call("MEMORY") as Promise<number>;
    for (const isTls of [false, true]) {
      const before = await memory();
      using conn = await openSocket(isTls ? { port: tlsPort, tls: { ca: authority.cert } } : { port });
      const call = request({ cmd: "ECHO", text: "x".repeat(50_000) });
      let sentBytes = 0;
      const flood = (async () => {
        while (sentBytes < 2 ** 29) sentBytes += await conn.write(call.subarray(sentBytes % call.length));
      })().catch(() => {});
      // It is held back when nothing has left for many calls of another client.
      for (let calls = 0, last = -1; calls < 300; calls++) {
        if (sentBytes !== last) calls = 0;
        last = sentBytes;
        await memory();
      }
      const grown = await memory() - before;
      console.log(`${server.name}, ${isTls ? "TLS" : "TCP"}: took ${mebi(sentBytes)}, and grew by ${mebi(grown)}`);
      assert(grown < MOST_BYTES && sentBytes < MOST_BYTES);
      conn.close();
      await flood;
    }
  }
});

function mebi(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
