/**
 * packline behind the balancers that people already run: `examples/haproxy` and `examples/nginx-stream`, each in front
 * of two servers under load, of which one is stopped or killed.
 */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect, RpcError } from "../../mod.ts";
import type { ServerStatistics } from "../../handlers/server_info.ts";
import { newSeed, Random } from "../support/random.ts";
import {
  example,
  Folder,
  onFreePort,
  type Package,
  type Program,
  startHaproxy,
  startNginx,
  startServer,
  testWith,
} from "./programs.ts";

/** Clients that always have so many calls in flight. */
const BUSY = 8;
const CALLS = 4;

/** Others that call once at a time and then rest, for less than a closing server waits. */
const RESTING = 92;
const SHORTEST_REST_MS = 50;
const LONGEST_REST_MS = 150;

/** A balancer, with the configuration of its example. */
interface Kind {
  readonly name: string;
  readonly packages: readonly Package[];
  readonly file: string;
  start(folder: Folder, config: string): Promise<Program>;
  /** Tells it that a server is about to go, as the comment at the top of the example says. */
  takeOut(balancer: Balancer, port: number): Promise<void>;
}

const HAPROXY: Kind = {
  name: "HAProxy",
  packages: ["haproxy"],
  file: "haproxy/haproxy.cfg",
  start: (folder, config) => startHaproxy(folder, config.replaceAll("/run/haproxy", folder.path)),
  async takeOut({ folder }) {
    using socket = await Deno.connect({ transport: "unix", path: `${folder.path}/admin.sock` });
    await socket.write(new TextEncoder().encode("set server packline/one state drain\n"));
    assertEquals(await new Response(socket.readable).text(), "\n");
  },
};

const NGINX: Kind = {
  name: "nginx",
  packages: ["nginx", "libnginx-mod-stream"],
  file: "nginx-stream/nginx.conf",
  start: startNginx,
  async takeOut({ folder, program }, port) {
    const path = `${folder.path}/nginx.conf`;
    const server = `server 127.0.0.1:${port}`;
    await Deno.writeTextFile(path, (await Deno.readTextFile(path)).replace(server, `${server} down`));
    program.said = "";
    program.kill("SIGHUP");
    await program.hear(/gracefully shutting down/);
  },
};

/** A balancer in front of two ports. */
class Balancer implements AsyncDisposable {
  private constructor(readonly port: number, readonly program: Program, readonly folder: Folder) {}

  static async start(
    kind: Kind,
    one: number,
    two: number,
    replacements: Record<string, string> = {},
  ): Promise<Balancer> {
    const folder = await Folder.make();
    return await onFreePort(async (port) => {
      const config = await example(kind.file, {
        "127.0.0.1:1235": `127.0.0.1:${port}`,
        "127.0.0.1:1236": `127.0.0.1:${one}`,
        "127.0.0.1:1237": `127.0.0.1:${two}`,
        ...replacements,
      });
      return new Balancer(port, await kind.start(folder, config), folder);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.program[Symbol.asyncDispose]();
    await this.folder[Symbol.asyncDispose]();
  }
}

/** Two servers that can be told apart by a limit of theirs, as INFO tells it. */
const ONE = 101;
const TWO = 102;

function startNumbered(number: number): Promise<Program & { port: number }> {
  return startServer("--max-strikes", String(number));
}

/** Which of the two a client is connected to. */
async function serverOf(client: Client): Promise<number> {
  return (await client.reply("INFO", {}, { idempotent: true })).res.limits.maxStrikes;
}

/** Some clients of one port. */
class Clients implements AsyncDisposable {
  private constructor(readonly all: Client[]) {}

  static async connect(port: number, count: number): Promise<Clients> {
    const clients = new Clients([]);
    for (let made = 0; made < count; made++) clients.all.push(await connect({ port }));
    return clients;
  }

  servers(): Promise<number[]> {
    return Promise.all(this.all.map(serverOf));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((client) => client.close()));
  }
}

/** A call that failed under load. */
interface Failure {
  client: number;
  idempotent: boolean;
  /** Whether it was made when the server was gone already. */
  late: boolean;
  code: string;
}

/** Clients that call all the time: the first of them are busy, the others rest in between. Half of the calls are idempotent. */
class Load {
  readonly failures: Failure[] = [];
  /** Set by the test, when a server is gone. */
  late = false;
  #done = 0;
  #wanted = Infinity;
  #reached = () => {};
  #stopped = false;
  readonly #random: Random;
  readonly #running: Promise<unknown>;

  constructor(clients: readonly Client[]) {
    const seed = newSeed();
    console.log(`seed ${seed}`);
    this.#random = new Random(seed);
    this.#running = Promise.all(
      clients.flatMap((client, index) =>
        Array.from({ length: index < BUSY ? CALLS : 1 }, (_, lane) => this.#run(client, index, lane))
      ),
    );
  }

  /** How many calls have been answered. */
  get answered(): number {
    return this.#done;
  }

  /** Resolves when so many more calls have been answered. */
  async more(calls: number): Promise<void> {
    this.#wanted = this.#done + calls;
    await new Promise<void>((resolve) => this.#reached = resolve);
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#running;
  }

  async #run(client: Client, index: number, lane: number): Promise<void> {
    const idempotent = (index + lane) % 2 === 0;
    for (let count = 0; !this.#stopped; count++) {
      if (index >= BUSY) await rest(this.#random.between(SHORTEST_REST_MS, LONGEST_REST_MS));
      const { late } = this;
      try {
        await client.reply("DELAY", { sleep: count % 10 / 1000 }, { idempotent });
        if (++this.#done === this.#wanted) this.#reached();
      } catch (error) {
        if (!(error instanceof RpcError)) throw error;
        this.failures.push({ client: index, idempotent, late, code: error.code });
      }
    }
  }
}

/** Asks a server until what it tells of its connections holds, twice: it may be about to accept one more. */
async function connectionsOf(
  client: Client,
  holds: (connections: ServerStatistics["connections"]) => boolean,
): Promise<void> {
  for (let times = 0; times < 2;) {
    times = holds((await client.reply("STATS")).res.connections) ? times + 1 : 0;
  }
}

function rest(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

for (const kind of [HAPROXY, NGINX]) {
  testWith(kind.packages, `behind ${kind.name}, a server that is stopped under load loses no call`, async () => {
    await using one = await startNumbered(ONE);
    await using two = await startNumbered(TWO);
    await using balancer = await Balancer.start(kind, one.port, two.port);
    await using clients = await Clients.connect(balancer.port, BUSY + RESTING);
    assertEquals(new Set(await clients.servers()), new Set([ONE, TWO]));

    const load = new Load(clients.all);
    await load.more(1_000);
    one.kill("SIGTERM");
    assertEquals((await one.status).code, 0);
    await load.more(1_000);
    await load.stop();
    assertEquals(load.failures, []);
    assertEquals(new Set(await clients.servers()), new Set([TWO]));
    console.log(`${kind.name}, a server terminated under load: ${load.answered} calls answered, 0 failed`);
  });

  testWith(kind.packages, `behind ${kind.name}, a server that is killed loses what was in flight on it`, async () => {
    await using one = await startNumbered(ONE);
    await using two = await startNumbered(TWO);
    await using balancer = await Balancer.start(kind, one.port, two.port);
    await using clients = await Clients.connect(balancer.port, BUSY);
    const servers = await clients.servers();

    const load = new Load(clients.all);
    await load.more(1_000);
    one.kill("SIGKILL");
    await one.status;
    load.late = true;
    await load.more(1_000);
    await load.stop();
    // Half of the calls of each of its clients. A process takes its time to die: its port may take a connection more.
    assert(load.failures.length >= CALLS / 2 * servers.filter((server) => server === ONE).length);
    for (const { client, ...failure } of load.failures) {
      assertEquals(servers[client], ONE);
      assertEquals(failure, { idempotent: false, late: false, code: "CONNECTION_LOST" });
    }
    assertEquals(new Set(await clients.servers()), new Set([TWO]));
    console.log(
      `${kind.name}, a server killed under load: ${load.answered} calls answered, ` +
        `${load.failures.length} in flight on it CONNECTION_LOST, none of them idempotent`,
    );
  });

  testWith(
    kind.packages,
    `behind ${kind.name}, clients with a connection for each call lose none if it is told first`,
    async () => {
      await using one = await startNumbered(ONE);
      await using two = await startNumbered(TWO);
      await using balancer = await Balancer.start(kind, one.port, two.port);
      let answered = 0;
      let stopped = false;
      const callEachAnew = async () => {
        while (!stopped) {
          await using client = await connect({ port: balancer.port });
          await client.reply("PING");
          answered++;
        }
      };
      const load = Promise.all(Array.from({ length: BUSY }, callEachAnew));
      load.catch(() => {}); // it is awaited below
      await using direct = await connect({ port: one.port });
      await connectionsOf(direct, ({ accepted }) => accepted > 50);
      await kind.takeOut(balancer, one.port);
      await connectionsOf(direct, ({ open }) => open === 1);
      one.kill("SIGTERM");
      assertEquals((await one.status).code, 0);
      const before = answered;
      while (answered < before + 50) await rest(1);
      stopped = true;
      await load;
      console.log(`${kind.name}, told first, with a connection for each call: ${answered} calls answered, 0 failed`);
    },
  );

  testWith(kind.packages, `behind ${kind.name}, a client that ends its half still gets its answers`, async () => {
    await using one = await startNumbered(ONE);
    await using two = await startNumbered(TWO);
    await using balancer = await Balancer.start(kind, one.port, two.port);
    using conn = await Deno.connect({ hostname: "127.0.0.1", port: balancer.port });
    // DELAY, as the article's client sends it, for a tenth of a second: { sleep: 0.1, cmd: 2 }.
    const delay = "2035 82 a5736c656570 cb3fb999999999999a a3636d64 02 0a".replaceAll(" ", "");
    await conn.write(Uint8Array.fromHex(delay));
    await conn.closeWrite();
    const reply = new Uint8Array(await new Response(conn.readable).arrayBuffer());
    assertEquals(reply.subarray(0, 13).toHex(), "203982a3726573a4444f4e45a5");
    assertEquals(reply.length, 28);
  });
}

/** How often HAProxy looks, here. */
const OFTEN = { "inter 1s": "inter 200ms" };

testWith(HAPROXY.packages, "HAProxy takes a server that drains out of service, and cuts nothing", async () => {
  await using one = await startNumbered(ONE);
  await using two = await startNumbered(TWO);
  await using balancer = await Balancer.start(HAPROXY, one.port, two.port, OFTEN);
  await using clients = await Clients.connect(balancer.port, BUSY);
  const client = clients.all[(await clients.servers()).indexOf(ONE)];

  const call = client.reply("DELAY", { sleep: 1 });
  call.catch(() => {}); // it is awaited below
  await client.reply("PING"); // now the server has the one before it as well
  one.kill("SIGTERM");
  await balancer.program.hear(/Server packline\/one is DOWN/);
  assertEquals((await call).res, "DONE");
});

testWith(HAPROXY.packages, "HAProxy finds out a server that accepts and does not answer", async () => {
  using hung = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using two = await startNumbered(TWO);
  await using balancer = await Balancer.start(HAPROXY, hung.addr.port, two.port, OFTEN);
  await balancer.program.hear(/Server packline\/one is DOWN, reason: Layer7 timeout/);
  await using clients = await Clients.connect(balancer.port, 4);
  assertEquals(new Set(await clients.servers()), new Set([TWO]));
});
