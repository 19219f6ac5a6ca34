/** The client for browsers in a real one: headless Chromium, with a page that a Deno server serves. */

import { assert, assertEquals } from "@std/assert";
import { setImmediate } from "node:timers";
import { bytes, command, serve, tracked } from "../../mod.ts";
import { testWith } from "../production/programs.ts";
import { bundle } from "../support/bundle.ts";
import { Chromium } from "../support/chromium.ts";
import { FakeClock } from "../support/fake_clock.ts";

/** How many handlers of a command have ended, and who waits for that. */
class Ends {
  count = 0;
  #wake = () => {};
  add(): void {
    this.count++;
    this.#wake();
  }
  async reached(count: number): Promise<void> {
    while (this.count < count) await new Promise<void>((resolve) => this.#wake = resolve);
  }
}

const ends = new Ends();

const commands = {
  ADD: command(({ a, b }: { a: number; b: number }) => a + b),
  ECHO: command(({ value }: { value: unknown }) => value),
  COUNT: command(async function* () {
    try {
      for (let n = 1;; n++) yield n;
    } finally {
      ends.add();
    }
  }),
  NEWS: command(async function* ({ after = 0 }: { after?: number }, { signal }) {
    for (let id = after + 1; !signal.aborted; id++) {
      yield tracked(id, id);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }),
  TALLY: command({
    items: bytes,
    async handler(_: object, { items }) {
      let size = 0;
      for await (const item of items) size += item.length;
      return size;
    },
  }),
  HANG: command((_: object, { signal }) =>
    new Promise<string>((_, reject) =>
      signal.addEventListener("abort", () => {
        ends.add();
        reject(signal.reason);
      })
    )
  ),
};

/** A page whose `window` has `connect`, and a client in `client`, connected to a server on another port. */
class Scene implements AsyncDisposable {
  private constructor(
    readonly browser: Chromium,
    readonly site: Deno.HttpServer<Deno.NetAddr>,
    public server: Awaited<ReturnType<typeof serve>>,
  ) {}

  static async make(): Promise<Scene> {
    const code = await bundle("client/web.ts");
    const site = Deno.serve(
      { hostname: "127.0.0.1", port: 0, onListen() {} },
      ({ url }) =>
        url.endsWith("/client.js")
          ? new Response(code, { headers: { "content-type": "text/javascript" } })
          : new Response("<!DOCTYPE html><title>-</title><output></output>", {
            headers: { "content-type": "text/html" },
          }),
    );
    const server = await serve({ port: 0, commands, webOrigins: [`http://127.0.0.1:${site.addr.port}`] });
    const browser = await Chromium.start();
    const scene = new Scene(browser, site, server);
    await browser.open(`http://127.0.0.1:${site.addr.port}/`);
    await browser.evaluate(`(async () => {
      Object.assign(globalThis, await import("/client.js"));
      globalThis.states = [];
      globalThis.show = (text) => document.querySelector("output").textContent = text;
      globalThis.client = await connect({
        url: "ws://127.0.0.1:${server.port}",
        aliveMs: 8_000,
        onState: (state) => show(states.push(state)),
      });
    })()`);
    return scene;
  }

  run<T>(body: string): Promise<T> {
    return this.browser.evaluate(`(async () => { ${body} })()`);
  }

  async stop(): Promise<void> {
    await this.server.shutdown({ graceMs: 0 });
  }

  /** Begins another server on the same port. */
  async start(): Promise<void> {
    const { port } = this.server;
    this.server = await serve({ port, commands, webOrigins: [`http://127.0.0.1:${this.site.addr.port}`] });
  }

  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.browser[Symbol.asyncDispose]();
    await this.site.shutdown();
    await this.server.shutdown({ graceMs: 0 });
  }
}

testWith(["chromium"], "a page calls, streams both ways, cancels, and keeps to deadlines", async (t) => {
  await using scene = await Scene.make();

  await t.step("calls", async () => {
    assertEquals(await scene.run("return await client.call.ADD({ a: 1, b: 2 })"), 3);
    assertEquals(await scene.run("return await client.call.PING()"), "PONG");
    const value = { text: "Ünï ✓ 𝄞", list: [1, -1, 1.5, 2 ** 53 - 1, null, true], deep: { "__proto__x": {} } };
    assertEquals(await scene.run(`return await client.call.ECHO({ value: ${JSON.stringify(value)} })`), value);
    const size =
      "return (await client.call.ECHO({ value: new Uint8Array(900_000).fill(7) })).reduce((a, b) => a + b, 0)";
    assertEquals(await scene.run(size), 6_300_000);
    assertEquals(
      await scene.run(
        "return (await Promise.all(Array.from({ length: 2_000 }, (_, a) => client.call.ADD({ a, b: 1 })))).at(-1)",
      ),
      2_000,
    );
  });

  await t.step("reads a stream, and leaves it", async () => {
    const body = "let last; for await (const n of client.stream.COUNT()) if ((last = n) === 5_000) break; return last";
    assertEquals(await scene.run(body), 5_000);
    await ends.reached(1);
  });

  await t.step("sends a stream", async () => {
    assertEquals(
      await scene.run("return await client.call.TALLY({}, { items: new Blob([new Uint8Array(3_000_000)]).stream() })"),
      3_000_000,
    );
  });

  await t.step("cancels, and the handler ends", async () => {
    const code = await scene.run(`
      const patience = new AbortController();
      const call = client.outcome.HANG({}, { signal: patience.signal });
      await client.call.PING();
      patience.abort();
      return (await call).error.code`);
    assertEquals(code, "CANCELLED");
    await ends.reached(2);
  });

  await t.step("gives up at a deadline", async () => {
    assertEquals(await scene.run("return (await client.outcome.HANG({}, { timeoutMs: 100 })).error.code"), "TIMEOUT");
    await ends.reached(3);
  });

  await t.step("refuses what cannot be sent", async () => {
    const text = await scene.run("return await client.call.ECHO({ value: { at: new Date() } }).catch(String)");
    assertEquals(text, "TypeError: Cannot call ECHO: params.value.at: a Date cannot be sent");
    assertEquals(await scene.run("return client.statistics().inFlight"), 0);
  });

  await t.step("hears why a server has ended a connection at once", async () => {
    const clock = new FakeClock();
    const webOrigins = [`http://127.0.0.1:${scene.site.addr.port}`];
    await using other = await serve({ port: 0, commands, webOrigins, clock, idleTimeoutMs: 1_000 });
    await scene.run(`
      const socket = new WebSocket("ws://127.0.0.1:${other.port}");
      globalThis.end = new Promise((resolve) => socket.onclose = ({ code, wasClean }) => resolve([code, wasClean]));
      await new Promise((resolve) => socket.onopen = resolve)`);
    while (other.statistics().connections.open === 0) await new Promise((resolve) => setImmediate(resolve));
    await clock.advance(5_000);
    assertEquals(await scene.run("return await end"), [1001, true]);
  });
});

testWith(["chromium"], "a page whose origin is not allowed cannot connect", async () => {
  await using scene = await Scene.make();
  await using other = await serve({ port: 0, commands, webOrigins: ["https://app.example"] });
  const outcome = await scene.run<string>(
    `return await connect({ url: "ws://127.0.0.1:${other.port}" }).then(() => "connected", (error) => error.code)`,
  );
  assertEquals(outcome, "CONNECTION_LOST");
});

testWith(
  ["chromium"],
  "a page outlives a restart of the server, its sleep, and a time without a network",
  async (t) => {
    await using scene = await Scene.make();
    const { browser } = scene;
    await scene.run(`
    globalThis.ids = [];
    (async () => { for await (const id of client.stream.NEWS({})) show(ids.push(id)); })();`);
    /** Reads on: so many more items come. */
    const more = (items: number) =>
      scene.run<void>(`
      const count = ids.length + ${items};
      await new Promise((resolve) => {
        const look = new MutationObserver(() => ids.length >= count && (look.disconnect(), resolve()));
        look.observe(document, { subtree: true, childList: true, characterData: true });
      })`);
    /** The ids that have come, each once and none left out. */
    const check = async () => {
      const ids = await scene.run<number[]>("return ids");
      assertEquals(ids, ids.map((_, index) => index + 1));
    };
    await more(5);

    await t.step("a restart", async () => {
      await scene.restart();
      await more(20);
      await check();
      assert((await scene.run<string[]>("return states")).length > 1, "the connection was not lost");
      assertEquals(await scene.run("return await client.call.ADD({ a: 1, b: 2 })"), 3);
    });

    await t.step("hidden and back", async () => {
      await browser.send("Page.setWebLifecycleState", { state: "frozen" });
      await scene.restart(); // the page learns of it when it wakes
      await browser.send("Page.setWebLifecycleState", { state: "active" });
      await more(20);
      await check();
    });

    await t.step("offline and online", async () => {
      // Emulation tells the page, and holds back what its open WebSocket would receive, its end as well: the PING finds out.
      const conditions = { latency: 0, downloadThroughput: -1, uploadThroughput: -1 };
      const told = browser.evaluate(
        `new Promise((resolve) => addEventListener("offline", () => resolve(0), { once: true }))`,
      );
      await browser.send("Network.emulateNetworkConditions", { offline: true, ...conditions });
      await told;
      await scene.stop();
      await browser.until("states.at(-1) === 'waiting'");
      const waiting = scene.run<string>(`return await client.call.ECHO({ value: "after" })`);
      await scene.start();
      await browser.send("Network.emulateNetworkConditions", { offline: false, ...conditions });
      assertEquals(await waiting, "after");
      await more(20);
      await check();
    });
  },
);
