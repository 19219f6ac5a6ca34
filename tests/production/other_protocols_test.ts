/**
 * What other protocols send to a packline port: nothing of it runs. A web page can make a browser POST any bytes to a
 * port of its own machine, and so frames, of which the first begins with the head of the request.
 */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { command, connect, RpcError, serve } from "../../mod.ts";
import { connectTcp } from "../support/peers.ts";
import { concat, frame, unhex } from "../support/wire.ts";
import { Folder, Program, run, testWith } from "./programs.ts";

/** `{cmd: 16}` in its frame. */
const MARK = frame(unhex("81 a3 63 6d 64 10"));

/** A body of 30 KB that is frames from some byte on: with one of these, where the head is taken for a frame, all run. */
const BODIES = Array.from(MARK, (_, offset) => {
  return concat(new Uint8Array(offset).fill(0x78), ...new Array(3_400).fill(MARK));
});

/** A server with a command that must not run. */
class Target implements AsyncDisposable {
  marks = 0;
  readonly #server: Awaited<ReturnType<typeof serve>>;

  private constructor(server: Awaited<ReturnType<typeof serve>>) {
    this.#server = server;
  }

  static async start(): Promise<Target> {
    const mark = () => {
      target.marks++;
    };
    const server = await serve({ port: 0, commands: { MARK: command({ number: 16, handler: mark }) } });
    const target = new Target(server);
    return target;
  }

  get port(): number {
    return this.#server.port;
  }

  /** How many connections have come. */
  async accepted(): Promise<number> {
    await using client = await connect({ port: this.port });
    const { res } = await client.reply("STATS");
    return (res as { connections: { accepted: number } }).connections.accepted - 1;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown({ graceMs: 0 });
  }
}

Deno.test("a body of frames runs in none of its positions, whatever the method; the sender is told at once", async () => {
  await using target = await Target.start();
  for (const method of ["POST", "GET", "PUT", "post"]) {
    for (const body of BODIES) {
      await using peer = await connectTcp(target.port);
      const head = `${method} / HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: ${body.length}\r\n\r\n`;
      await peer.sendBytes(new TextEncoder().encode(head));
      // Before the frame that the head pretends to be is whole.
      assertEquals((await peer.readReply()).err, "BAD_FRAME");
      await peer.sendBytes(body).catch(() => {}); // it may be cut off by now
    }
  }
  assertEquals(target.marks, 0);
  await using peer = await connectTcp(target.port);
  await peer.ask({ cmd: 16 });
  assertEquals(target.marks, 1);
});

Deno.test("a client that has dialed a server of HTTP is told what it is", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const calling = assertRejects(async () => {
    await using client = await connect({ port });
    await client.call.PING();
  }, RpcError);
  using conn = await listener.accept();
  await conn.read(new Uint8Array(512));
  await conn.write(new TextEncoder().encode("HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n"));
  await conn.closeWrite();
  const expected = `the connection to 127.0.0.1:${port} is lost: it ended 47 bytes into a frame; this looks like HTTP`;
  assertEquals((await calling).message, `CONNECTION_LOST: ${expected}`);
});

Deno.test("fetch() of frames fails, and runs none", async () => {
  await using target = await Target.start();
  for (const body of BODIES) {
    const outcome = await fetch(`http://127.0.0.1:${target.port}/`, { method: "POST", body }).catch(() => "failed");
    assertEquals(outcome, "failed");
  }
  assert(await target.accepted() >= BODIES.length);
  assertEquals(target.marks, 0);
});

testWith(["curl"], "curl with frames for a body fails, and runs none", async () => {
  await using target = await Target.start();
  await using folder = await Folder.make();
  for (const body of BODIES) {
    await Deno.writeFile(`${folder.path}/body`, body);
    const url = `http://127.0.0.1:${target.port}/`;
    const { code } = await run("curl", ["--silent", "--max-time", "20", "--data-binary", `@${folder.path}/body`, url]);
    assert(code !== 0);
  }
  assertEquals(await target.accepted(), BODIES.length);
  assertEquals(target.marks, 0);
});

testWith(["chromium"], "a page of another origin that POSTs frames in a browser runs none", async () => {
  await using target = await Target.start();
  await using folder = await Folder.make();
  const done = Promise.withResolvers<void>();
  const page = `<script type="module">
    for (const hex of ${JSON.stringify(BODIES.map((body) => body.toHex()))}) {
      const body = new Blob([Uint8Array.from(hex.match(/../g), (digits) => parseInt(digits, 16))], { type: "text/plain" });
      await fetch("http://127.0.0.1:${target.port}/", { method: "POST", mode: "no-cors", body }).catch(() => {});
    }
    await fetch("/done");
  </script>`;
  await using site = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, (request) => {
    if (request.url.endsWith("/done")) done.resolve();
    return new Response(page, { headers: { "content-type": "text/html" } });
  });
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", `--user-data-dir=${folder.path}/profile`];
  const browser = await Program.start(
    "chromium",
    [...flags, "--remote-debugging-port=0", `http://127.0.0.1:${site.addr.port}/`],
    /DevTools listening/,
  );
  try {
    await done.promise;
  } finally {
    await browser[Symbol.asyncDispose]();
  }
  assert(await target.accepted() >= BODIES.length, "the browser did not reach the server");
  assertEquals(target.marks, 0);
});
