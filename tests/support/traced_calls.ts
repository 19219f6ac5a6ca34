/**
 * A program that makes calls of one kind, to a server of its own.
 *
 * In: the name of the kind; an address for `fetch()`. Out: what the test wants to compare, as JSON on stdout. With "hang" it
 * runs until its stdin ends.
 */

import { type Client, command, connect, RpcError, serve, unchecked } from "../../mod.ts";
import { connectResettable, connectTcp } from "./peers.ts";

const [kind, url] = Deno.args;

const turn = () => new Promise((resolve) => setTimeout(resolve));

const hanging = Promise.withResolvers<void>();

// Not typed by the commands, which use it themselves.
let inner: Client;

const commands = {
  GREET: command(({ name }: { name: string }) => `Hello, ${name}!`),
  META: command((_params: object, { meta }) => ({ ...meta })),
  /** Calls another command, after a while. */
  OUTER: command(async ({ command }: { command: string }) => {
    await turn();
    return await inner.call(command) as string;
  }),
  /** Passes on the metadata of its own call. */
  FORWARD: command(async (_params: object, { meta }) => {
    await turn();
    return await inner.call("LEFT", {}, { meta: { ...meta } }) as string;
  }),
  LEFT: command(async () => (await turn(), "left")),
  RIGHT: command(async () => (await turn(), "right")),
  FETCH: command(async () => {
    await turn();
    return await (await fetch(url, { method: "POST", body: "{}" })).text();
  }),
  REFUSE: command((): null => {
    throw new RpcError("NO_SUCH_BOOK", "there is none");
  }),
  FAIL: command(({ code }: { code: string }): null => {
    throw new RpcError(code);
  }),
  BREAK: command((): null => {
    throw new Error("a bug");
  }),
  SEND_A_MAP: command((): null => new Map() as never),
  HANG: command(async () => {
    hanging.resolve();
    await new Promise<never>(() => {});
  }),
  COUNT: command(async function* () {
    yield 1;
    await turn();
    await inner.call("LEFT");
    yield 2;
    return "end";
  }),
  FOREVER: command(async function* () {
    for (;;) {
      yield 1;
      await turn();
    }
  }),
  STORE: command({
    items: unchecked<number>(),
    async handler(_params: object, { items }) {
      let sum = 0;
      for await (const item of items) sum += item;
      return sum;
    },
  }),
};

await using server = await serve({ port: 0, commands, onError: () => {} });
const client = inner = await connect({ port: server.port, commands });

const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

const kinds: Record<string, () => Promise<unknown>> = {
  one: () => client.call.GREET({ name: "Ada" }),
  async failures() {
    await client.outcome.REFUSE();
    await client.outcome.BREAK();
    await client.outcome.SEND_A_MAP();
    await inner.outcome("NO_SUCH_COMMAND");
    const patience = new AbortController();
    const hung = client.outcome.HANG({}, { signal: patience.signal });
    await hanging.promise;
    patience.abort();
    await hung;
    const items = (function* () {
      yield 1;
      throw new TypeError("no more");
    })();
    await client.call.STORE({}, { items }).catch(() => {});
  },
  async parents() {
    const both = [client.call.OUTER({ command: "LEFT" }), client.call.OUTER({ command: "RIGHT" })];
    await Promise.all(both);
    await client.call.FETCH();
  },
  async streams() {
    for await (const _ of client.stream.COUNT());
    for await (const _ of client.stream.FOREVER()) break;
    await client.call.STORE({}, {
      items: (async function* () {
        yield 1;
        await turn();
        await client.call.RIGHT();
        yield 2;
      })(),
    });
  },
  async given() {
    const own = await client.call.META({}, { meta: { traceparent: TRACEPARENT, token: "t" } });
    const none = await client.call.META({}, { meta: { traceparent: "nonsense" } });
    await using other = await connect({ port: server.port, commands, meta: { traceparent: TRACEPARENT } });
    return [own, none, await other.call.META()];
  },
  async forwarded() {
    await client.call.FORWARD();
    await client.call.FORWARD({}, { meta: { traceparent: TRACEPARENT } });
  },
  /** Two requests without seq and without a traceparent: the second begins when the first has ended. */
  async bare() {
    await using peer = await connectTcp(server.port);
    await peer.send({ cmd: "LEFT" }, { cmd: "RIGHT" });
    await peer.readReplies(2);
  },
  /** A caller that vanishes. */
  async gone() {
    const peer = await connectResettable({ port: server.port });
    await peer.send({ cmd: "HANG" });
    await hanging.promise;
    peer.reset();
  },
  /** What never reaches a handler: there is no room, too little time, or no such message. */
  async refused() {
    await using full = await serve({ port: 0, commands, maxInFlight: 1, maxInFlightTotal: 1 });
    await using holder = await connectTcp(full.port);
    await using other = await connectTcp(full.port);
    // One that promises signs of life is read on when its places are taken.
    await holder.send({ cmd: 0, alive: 60_000 }, { cmd: "HANG", seq: 1 });
    await hanging.promise;
    await other.ask({ cmd: "GREET", seq: 1, meta: { traceparent: TRACEPARENT } });
    await other.ask({ cmd: "GREET", seq: -1 });
    await holder.ask({ cmd: "GREET", seq: 2, ttl: 1 });
    await holder.send({ cmd: "GREET", seq: 3 }, { cmd: 0, seq: 3, cancel: true });
    await holder.readReplies(1);
  },
  async many() {
    for (let n = 0; n < 3; n++) await client.call.GREET({ name: "Ada" });
  },
  async codes() {
    for (let n = 0; n < 70; n++) await client.outcome.FAIL({ code: `CODE_${n}` });
    await client.outcome.FAIL({ code: "CODE_0" });
  },
  hang() {
    client.call.HANG().catch(() => {});
    return hanging.promise;
  },
};

console.log(JSON.stringify({ port: server.port, result: await kinds[kind]() }));
if (kind === "hang") await Deno.stdin.read(new Uint8Array(1));
await client.close();
