import { assertEquals, assertRejects } from "@std/assert";
import { RpcError } from "../../errors.ts";
import { denoNetwork } from "../../transport/deno_network.ts";
import { dialAddress, dialInTime, unreachable } from "../../transport/address.ts";
import { memoryPair } from "../../transport/memory.ts";
import { nodeNetwork } from "../../transport/node_network.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { socketPeer } from "../support/peers.ts";
import { replaced } from "../support/replaced.ts";

const isAwaited = () => true;

Deno.test("dialInTime() - what is dialed in time comes through, and no timer stays", async () => {
  const clock = new FakeClock();
  const [here] = memoryPair();
  assertEquals(await dialInTime(() => Promise.resolve(here), clock, new AbortController(), isAwaited), here);
  assertEquals(clock.timers, 0);
});

Deno.test("dialInTime() - a dial has ten seconds, but one that nobody waits for is soon given up", async () => {
  for (const [awaitedMs, givenUpMs] of [[Infinity, 10_000], [0, 2_000], [1_900, 2_000], [2_100, 4_000]]) {
    const clock = new FakeClock();
    const startMs = clock.now();
    const attempt = new AbortController();
    const dial = (signal: AbortSignal) =>
      new Promise<never>((_, reject) => signal.onabort = () => reject(signal.reason));
    const dialing = dialInTime(dial, clock, attempt, () => clock.now() - startMs < awaitedMs);
    const failed = assertRejects(() => dialing, Error, `no answer within ${givenUpMs} ms`);
    await clock.advance(givenUpMs - 1);
    assertEquals(attempt.signal.aborted, false);
    await clock.advance(1);
    await failed;
    assertEquals([attempt.signal.aborted, clock.timers], [true, 0]);
  }
});

Deno.test("dialInTime() - a dial that throws is one that failed", async () => {
  const clock = new FakeClock();
  const dial = () => {
    throw new Error("at once");
  };
  await assertRejects(() => dialInTime(dial, clock, new AbortController(), isAwaited), Error, "at once");
  assertEquals(clock.timers, 0);
});

Deno.test("dialAddress() - a host is dialed as the runtime takes it: without brackets, its name as in the DNS", async () => {
  const hosts = {
    "[::1]": "::1",
    "münchen.example": "xn--mnchen-3ya.example",
    "BÜRO_2.例え.テスト": "xn--bro_2-kva.xn--r8jz45g.xn--zckzah",
    "my_Service": "my_Service",
    "127.1": "127.1",
    "user@münchen.example": "user@münchen.example",
    "fe80::1%ü": "fe80::1%ü",
    "ü ü": "ü ü",
  };
  const dialed: string[] = [];
  const network = {
    ...denoNetwork,
    open({ hostname }: { hostname: string }) {
      dialed.push(hostname);
      return Promise.resolve(memoryPair()[0]);
    },
  };
  for (const hostname of Object.keys(hosts)) {
    await dialAddress(network, { hostname, port: 1 }, new AbortController().signal);
  }
  assertEquals(dialed, Object.values(hosts));
});

Deno.test("dialAddress() - certificates that are none are told before anything is sent", async () => {
  const address = { hostname: "127.0.0.1", port: 1, tls: { cert: "no certificate" } };
  const error = await assertRejects(() => dialAddress(denoNetwork, address, new AbortController().signal), RpcError);
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", true]);
});

Deno.test("dialAddress() - a name that no certificate can have leaves no connection open", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = { hostname: "127.1", port: listener.addr.port, tls: {} };
  const { signal } = new AbortController();
  const dialed = assertRejects(() => dialAddress(denoNetwork, address, signal), RpcError, "Invalid hostname: '127.1'");
  using conn = await listener.accept();
  await dialed;
  assertEquals(await conn.read(new Uint8Array(1)), null);
});

Deno.test("dialAddress() - a connection that opens in the moment in which its dial is given up is closed", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  for (const tls of [undefined, {}]) {
    const attempt = new AbortController();
    // As the runtime does: it looks at the signal once more when it has connected.
    using _ = replaced(Deno, "connect", (connect) =>
      (async ({ signal, ...place }: Deno.ConnectOptions) => {
        const conn = await connect(place);
        attempt.abort();
        signal?.throwIfAborted();
        return conn;
      }) as typeof Deno.connect);
    const address = { hostname: "127.0.0.1", port: listener.addr.port, tls };
    const dialed = dialInTime(
      (signal) => dialAddress(denoNetwork, address, signal),
      new FakeClock(),
      attempt,
      isAwaited,
    );
    const failed = assertRejects(() => dialed);
    using conn = await listener.accept();
    await failed;
    assertEquals(await conn.read(new Uint8Array(1)), null);
  }
});

Deno.test("dialAddress() - a server that accepts and says nothing keeps one socket, however many handshakes are given up", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const address = { hostname: "127.0.0.1", port: listener.addr.port, tls: {} };
  await using stack = new AsyncDisposableStack();
  for (let dials = 0; dials < 4; dials++) {
    const attempt = new AbortController();
    const failed = assertRejects(() => dialAddress(denoNetwork, address, attempt.signal), RpcError, "given up");
    const conn = await listener.accept();
    await conn.read(new Uint8Array(4_096)); // the handshake has begun
    attempt.abort(new Error("given up"));
    await failed;
    const peer = stack.use(socketPeer(conn));
    if (dials > 0) await peer.readToEnd();
  }
});

Deno.test("a dial over node:net or node:tls that was given up before it begins opens no connection", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const ended = (async () => {
    for await (const conn of listener) conn.close();
  })();
  const { port } = listener.addr;
  const signal = AbortSignal.abort(new Error("given up"));
  for (const tls of [undefined, {}]) {
    await assertRejects(() => nodeNetwork.open({ hostname: "127.0.0.1", port, tls }, signal), Error, "given up");
  }
  listener.close();
  await ended;
});

Deno.test("unreachable() - it says what to do where that is known", () => {
  const refused = unreachable("here:1", new Deno.errors.ConnectionRefused("os error 111"));
  assertEquals(refused.message, "CONNECTION_LOST: cannot reach here:1: connection refused; is the server running?");
  assertEquals(unreachable("here:1", "thrown").message, "CONNECTION_LOST: cannot reach here:1: thrown");
  assertEquals([refused.retryable, refused.cause instanceof Deno.errors.ConnectionRefused], [true, true]);
});

Deno.test("dialInTime() - what a late dial gives is closed, and is no unhandled rejection if it is no connection", async () => {
  const clock = new FakeClock();
  for (const late of [null, {}, undefined, 7]) {
    const dialed = Promise.withResolvers<never>();
    const unwanted = new AbortController();
    const dialing = assertRejects(
      () => dialInTime(() => dialed.promise, clock, unwanted, isAwaited),
      Error,
      "not wanted",
    );
    unwanted.abort(new Error("not wanted"));
    await dialing;
    dialed.resolve(late as never);
    await turn();
  }
  const given = () => dialInTime(() => Promise.resolve(null as never), clock, new AbortController(), isAwaited);
  await assertRejects(given, TypeError, "a pair of streams");
});
