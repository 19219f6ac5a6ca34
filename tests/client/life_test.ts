/** Every call settles; a connection that is of no use is given up; what waits is bounded. */

import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { type ClientMiddleware, connect, type ConnectOptions } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { serve } from "../support/demo_server.ts";
import { memoryPair } from "../../transport/memory.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

Deno.test("a stream beyond maxInFlight that cannot begin says so within the time of a call", async () => {
  using network = memoryNetwork();
  const clock = new FakeClock();
  await using client = await connect({ dial: () => network.dial(), clock, maxInFlight: 2, timeoutMs: 3_000 });
  await using server = await ScriptedServer.accept(network);
  const open = [client.stream("NEWS"), client.stream("NEWS")];
  const first = open.map((stream) => stream.next());
  await server.requests(2);
  for (const seq of [0, 1]) await server.reply({ seq, res: "welcome", more: true });
  await Promise.all(first);
  const waiting = client.stream("NEWS").next();
  const late = assertRejects(() => waiting, RpcError);
  await clock.advance(3_010);
  const error = await late;
  assertEquals([error.code, error.retryable], ["TIMEOUT", true]);
  assertStringIncludes(
    error.message,
    "no reply within 3000 ms, and the call was not sent: 2 calls and streams before it",
  );
  // Those that have begun have no end.
  const item = open[0].next();
  await clock.advance(1e6);
  await server.reply({ seq: 0, res: "late news", more: true });
  assertEquals((await item).value, "late news");
});

Deno.test("an idempotent call that ends its server each time is sent three times", async () => {
  using network = memoryNetwork();
  await using client = await connect({ dial: () => network.dial(), random: () => 0 });
  const call = assertRejects(() => client.reply("POISON", {}, { idempotent: true }), RpcError);
  let sends = 0;
  for (; sends < 3; sends++) {
    const server = await ScriptedServer.accept(network);
    assertEquals((await server.request()).cmd, "POISON");
    server.cut();
  }
  const error = await call;
  assertEquals([error.code, error.retryable], ["CONNECTION_LOST", false]);
  assertStringIncludes(error.message, "sent 3 times");
});

Deno.test("a server that answers once and goes is not dialled without a pause", async () => {
  using network = memoryNetwork();
  const clock = new FakeClock();
  let dials = 0;
  const dial = () => {
    dials++;
    return network.dial();
  };
  await using client = await connect({ dial, clock, random: () => 1, timeoutMs: Infinity });
  let running = true;
  const serving = (async () => {
    while (running) {
      const server = await ScriptedServer.accept(network);
      const request = await server.message();
      if (request === undefined) break;
      const seq = "max" in request ? (await server.request()).seq : request.seq;
      await server.reply({ seq: seq as number, res: 1 });
      server.cut();
    }
  })();
  const calling = (async () => {
    while (running) {
      await client.reply("A").catch(() => {});
      await turn();
    }
  })();
  for (let step = 0; step < 100; step++) await clock.advance(100);
  assert(dials >= 4 && dials <= 16, `${dials} dials in 10 s`);
  running = false;
  await client.close();
  await calling;
  network.dial().then((transport) => transport.closeWrite());
  await serving;
});

Deno.test("without seq, a silent connection is given up, and the next dial is tried", async () => {
  using network = memoryNetwork();
  const clock = new FakeClock();
  const dial = () => network.dial();
  await using client = await connect({ dial, clock, random: () => 0, sequenced: false, timeoutMs: 1_000 });
  await using silent = await ScriptedServer.accept(network);
  const late = assertRejects(() => client.reply("A"), RpcError);
  await silent.request();
  await clock.advance(1_010);
  assertEquals((await late).code, "TIMEOUT");
  const accepted = ScriptedServer.accept(network);
  await clock.advance(10_010);
  const next = client.reply("B");
  await using healthy = await accepted;
  assertEquals((await healthy.request()).cmd, "B");
  await healthy.reply({ res: 2 });
  assertEquals((await next).res, 2);
});

Deno.test("a byte now and then that never completes a reply is silence", async () => {
  using network = memoryNetwork();
  const clock = new FakeClock();
  await using client = await connect({ dial: () => network.dial(), clock, timeoutMs: 100 });
  await using server = await ScriptedServer.accept(network);
  const late = assertRejects(() => client.reply("A"), RpcError);
  await server.request();
  await server.send(Uint8Array.of(0x7f, 0x7f));
  for (let step = 0; step < 105; step++) {
    await server.send(Uint8Array.of(0)).catch(() => {}); // at last it is cut off
    await clock.advance(100);
  }
  await late;
  assertEquals(client.state, "idle");
});

Deno.test("calls that wait while the server is away are bounded", async () => {
  let isAway = false;
  const clock = new FakeClock();
  const [here, there] = memoryPair();
  const dial = () => isAway ? Promise.reject(new Error("away")) : Promise.resolve(here);
  const client = await connect({ dial, clock, random: () => 1, timeoutMs: Infinity });
  const server = new ScriptedServer(there);
  isAway = true;
  server.cut();
  await turn();
  const text = "x".repeat(900_000);
  const calls = Array.from({ length: 400 }, () => client.reply("A", { text }));
  const outcomes = Promise.allSettled(calls);
  await client.close();
  const codes = (await outcomes).map((outcome) => outcome.status === "rejected" ? outcome.reason.code : "none");
  const refused = codes.filter((code) => code === "OVERLOADED").length;
  assert(refused > 80 && refused < 150, `${refused} refused`);
  await server[Symbol.asyncDispose]();
});

Deno.test("a connection that brings reply after reply to no call is ended", async () => {
  using network = memoryNetwork();
  await using client = await connect({ dial: () => network.dial() });
  await using server = await ScriptedServer.accept(network);
  const call = assertRejects(() => client.reply("A"), RpcError);
  await server.request();
  await server.reply(...Array.from({ length: 100_001 }, (_, n) => ({ seq: 10 + n, res: 1 })));
  assertEquals((await call).code, "BAD_REPLY");
});

Deno.test("many calls share one listener on their signal, and an abort ends each of them", async () => {
  using network = memoryNetwork();
  await using client = await connect({ dial: () => network.dial() });
  await using _server = await ScriptedServer.accept(network);
  const controller = new AbortController();
  let listeners = 0;
  const { signal } = controller;
  const add = signal.addEventListener.bind(signal), remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args));
  signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args));
  const calls = Array.from({ length: 1_000 }, () => client.reply("A", {}, { signal }));
  assertEquals(listeners, 1);
  const outcomes = Promise.allSettled(calls);
  controller.abort();
  const codes = new Set((await outcomes).map((outcome) => outcome.status === "rejected" && outcome.reason.code));
  assertEquals([...codes], ["CANCELLED"]);
});

Deno.test("many clients and their calls share one listener on their signal, until the last is closed", async () => {
  using network = memoryNetwork();
  const controller = new AbortController();
  const { signal } = controller;
  let listeners = 0;
  const add = signal.addEventListener.bind(signal), remove = signal.removeEventListener.bind(signal);
  signal.addEventListener = (...args: Parameters<typeof add>) => (listeners++, add(...args));
  signal.removeEventListener = (...args: Parameters<typeof remove>) => (listeners--, remove(...args));
  const open = (options: ConnectOptions) =>
    Promise.all(Array.from({ length: 11 }, () => connect({ dial: () => network.dial(), lazy: true, ...options })));
  const clients = await open({ signal });
  const callers = await open({});
  const calls = callers.map((client) => client.outcome("A", {}, { signal }));
  assertEquals(listeners, 1);
  await Promise.all([clients[0], ...callers].map((client) => client.close()));
  await Promise.all(calls);
  assertEquals([listeners, clients[1].state], [1, "idle"]);
  await Promise.all(clients.map((client) => client.close()));
  assertEquals(listeners, 0);

  const others = await open({ signal });
  assertEquals(listeners, 1);
  controller.abort();
  assertEquals(others.map(({ state }) => state), Array(11).fill("closed"));
});

Deno.test("what is no signal is refused each time, leaves no timer, no call in the counts and no open items", async () => {
  const passing: ClientMiddleware = (_call, next) => next();
  for (const middleware of [[], [passing]]) {
    using network = memoryNetwork();
    const clock = new FakeClock();
    await using client = await connect({ dial: () => network.dial(), clock, middleware });
    await using _server = await ScriptedServer.accept(network);
    const signal = new AbortController() as unknown as AbortSignal; // the controller in place of its signal
    const { timers } = clock;
    for (let time = 0; time < 2; time++) {
      await assertRejects(() => client.reply("A", {}, { signal }), TypeError, "must be an AbortSignal");
      await assertRejects(
        async () => await client.stream("A", {}, { signal }).next(),
        TypeError,
        "must be an AbortSignal",
      );
    }
    let returns = 0;
    const items = {
      [Symbol.asyncIterator]: () => items,
      next: () => Promise.resolve({ done: false, value: 1 }),
      return: () => Promise.resolve({ done: true, value: returns++ }),
    };
    await assertRejects(() => client.reply("A", {}, { signal, items }), TypeError, "must be an AbortSignal");
    await assertRejects(async () => await client.stream("A", {}, { signal, items }).next(), TypeError);
    await turn();
    assertEquals(returns, 2, "the items were told to end");
    const { begun, inFlight } = client.statistics();
    assertEquals([begun, inFlight, clock.timers], [0, 0, timers]);
  }
});

Deno.test("a client that comes back from a computation reads the end that waits there before it writes", async () => {
  await using server = await serve({ port: 0, idleTimeoutMs: 600 });
  // The server closes the connection up to a second late (RELIABILITY.md), and on a busy machine later.
  const code = `
    import { connect } from "${new URL("../../client.ts", import.meta.url)}";
    const client = await connect({ port: ${server.port} });
    await client.call("PING");
    for (const end = performance.now() + 3_000; performance.now() < end;);
    console.log(await client.call("PING"));`;
  assertEquals(await run(code), "PONG\n");
});

Deno.test("a client that was not closed does not keep the program running; an open call does", async () => {
  await using server = await serve({ port: 0 });
  const client = `
    import { connect } from "${new URL("../../client.ts", import.meta.url)}";
    const client = await connect({ port: ${server.port} });`;
  assertEquals(await run(`${client} console.log(await client.call("PING"));`), "PONG\n");
  assertEquals(
    await run(`${client} client.call("DELAY", { sleep: 0.2 }).then(console.log);`),
    "DONE\n",
  );
  const stream = `for await (const tick of client.stream("TICK", { interval: 0.1, count: 2 })) console.log(tick);`;
  assertEquals(await run(`${client} await client.call("PING"); (async () => { ${stream} })();`), "1\n2\n");
});

/** Runs a program in a process of its own; one that does not end is a failure. */
async function run(code: string): Promise<string> {
  const config = new URL("../../deno.json", import.meta.url).pathname;
  const args = [
    "run",
    "--allow-net",
    "--no-check",
    "--quiet",
    "--config",
    config,
    `data:text/typescript,${encodeURIComponent(code)}`,
  ];
  const child = new Deno.Command(Deno.execPath(), { args, stdout: "piped", stderr: "piped" }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  const { stdout, stderr, code: exit } = await child.output();
  clearTimeout(timer);
  assertEquals([new TextDecoder().decode(stderr), exit], ["", 0]);
  return new TextDecoder().decode(stdout);
}

Deno.test("items that wait for a slow reader are weighed: a stream that holds too much is ended", async () => {
  using network = memoryNetwork();
  await using client = await connect({ dial: () => network.dial(), aliveMs: 0 }); // an answer to a PING would cut a reply
  await using server = await ScriptedServer.accept(network);
  const stream = client.stream("HEAVY");
  const first = stream.next();
  await server.request();
  const res = new Array(200_000).fill(0); // 6.4 MB once it is read
  await server.reply({ seq: 0, res: 0, more: true });
  await first;
  assertEquals((await server.request()).credit, 253, "the first item was small");
  for (let n = 0; n < 50; n++) await server.reply({ seq: 0, res, more: true });
  assertEquals((await server.request()).cancel, true);
  const error = await assertRejects(() => stream.next(), RpcError);
  assertEquals([error.code, error.retryable], ["OVERLOADED", false]);
});

Deno.test("a client that is closed before it writes after a silence leaves no timer", async () => {
  using network = memoryNetwork();
  const clock = new FakeClock();
  const client = await connect({ dial: () => network.dial(), clock });
  const server = await ScriptedServer.accept(network);
  await clock.advance(10_000);
  const call = assertRejects(() => client.reply("PING"), RpcError);
  for (let round = 0; round < 3; round++) await null; // it looks first whether the server has ended the connection
  const closed = client.close();
  server.cut();
  await Promise.all([call, closed]);
});

Deno.test("over memory too, an open call keeps the program until its time is up", async () => {
  // A test that waits for nothing but its call: the runtime ends it in the middle if nothing keeps the program alive.
  const file = await Deno.makeTempFile({ suffix: "_test.ts" });
  await Deno.writeTextFile(
    file,
    `import { command, createServer } from "${new URL("../../mod.ts", import.meta.url)}";
    import { connectInMemory } from "${new URL("../../testing.ts", import.meta.url)}";
    Deno.test("waits", async () => {
      await using server = createServer({ commands: { HANG: command(() => new Promise(() => {})) } });
      await using client = await connectInMemory(server);
      const hanging = await client.outcome("HANG", {}, { timeoutMs: 300 });
      if (hanging.ok || hanging.error.code !== "TIMEOUT") throw hanging;
    });`,
  );
  try {
    const config = new URL("../../deno.json", import.meta.url).pathname;
    const args = ["test", "--no-check", "--quiet", "--config", config, file];
    const { stdout, code } = await new Deno.Command(Deno.execPath(), { args, env: { NO_COLOR: "1" } }).output();
    assertEquals(code, 0, new TextDecoder().decode(stdout));
  } finally {
    await Deno.remove(file);
  }
});
