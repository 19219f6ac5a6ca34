/** `client.ts --mcp`: a server's commands as tools, called by the protocol's own client and by hand. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { MAX_ITEMS, MAX_ITEMS_LENGTH } from "../../cli/mcp_tools.ts";
import { RpcError } from "../../errors.ts";
import { bytes, command, unchecked } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { startScript } from "./scripts.ts";

const GREETING = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };

const BYTES_OR_NULL = { type: "array", items: { type: ["string", "null"], format: "binary" } };

/** Bytes, as the JSON of an agent has them. */
const BYTES_FORM = { properties: { $binary: { type: "string", contentEncoding: "base64" } }, required: ["$binary"] };

/** Commands, and what became of the handlers that wait. */
function service() {
  const ended: string[] = [];
  const waiting = Promise.withResolvers<void>();
  const over = Promise.withResolvers<void>();
  const commands = {
    GREET: command({
      summary: "Greets somebody",
      schema: unchecked<{ name: string }>(GREETING),
      handler({ name }) {
        if (name === "") throw new RpcError("NOBODY", "there is nobody", { data: { least: 1 } });
        return { text: `Hello, ${name}!` };
      },
    }),
    COUNT: command({
      params: ["to", "wide"],
      async *handler({ to, wide = 0 }: { to: number; wide?: number }) {
        try {
          for (let n = 1; n <= to; n++) yield wide === 0 ? n : "x".repeat(wide);
        } finally {
          ended.push("COUNT");
        }
      },
    }),
    SLOW: command({
      async *handler(_: object, { signal }) {
        yield "first";
        await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      },
    }),
    HANG: command((_: object, { signal }) => {
      waiting.resolve();
      return new Promise<never>((_, reject) =>
        signal.addEventListener("abort", () => {
          ended.push(`HANG ${signal.reason.code}`);
          over.resolve();
          reject(signal.reason);
        })
      );
    }),
    TYPES: command({
      schema: unchecked<{ data: Uint8Array; big: bigint }>({
        type: "object",
        properties: { data: { type: "string", format: "binary", title: "Data" }, big: {}, list: BYTES_OR_NULL },
        required: ["data", "big"],
      }),
      handler: ({ data, big }) => ({ data: new Uint8Array([...data, 255]), big: `${typeof big} ${big}` }),
    }),
    UPLOAD: command({ items: bytes, handler: () => 1 }),
    "a tool": command(() => 1),
  };
  return { commands, ended, waiting: waiting.promise, over: over.promise };
}

/** `client.ts --mcp`, spoken to by hand. */
class Agent implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  readonly #output: ReadableStreamDefaultReader<string>;
  readonly said: Promise<string>;
  #held = "";

  constructor(port: number, ...args: string[]) {
    this.#process = startScript("client", ["--port", String(port), "--mcp", ...args], { writes: true });
    this.#input = this.#process.stdin.getWriter();
    this.#output = this.#process.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.said = new Response(this.#process.stderr).text();
  }

  async sends(message: unknown): Promise<void> {
    const text = typeof message === "string" ? message : JSON.stringify(message);
    const line = message instanceof Uint8Array ? message : new TextEncoder().encode(text);
    await this.#input.write(Uint8Array.of(...line, 0x0a));
  }

  // deno-lint-ignore no-explicit-any -- a test knows what is in there
  async next(): Promise<any> {
    return JSON.parse(await this.line());
  }

  async line(): Promise<string> {
    while (!this.#held.includes("\n")) {
      const { value, done } = await this.#output.read();
      assert(!done, "it has ended");
      this.#held += value;
    }
    const [line] = this.#held.split("\n", 1);
    this.#held = this.#held.slice(line.length + 1);
    return line;
  }

  /** A request, and its answer. */
  // deno-lint-ignore no-explicit-any -- a test knows what is in there
  async asks(message: unknown): Promise<any> {
    await this.sends(message);
    return await this.next();
  }

  /** Closes its stdin, and waits for its end. */
  async ends(): Promise<{ code: number; rest: string }> {
    await this.#input.close();
    let rest = this.#held;
    for (let next = await this.#output.read(); !next.done; next = await this.#output.read()) rest += next.value;
    return { code: (await this.#process.status).code, rest };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {}); // it is closed already
    await this.#output.cancel();
    await this.#process.status;
    await this.said;
  }
}

const request = (id: number | string, method: string, params: object = {}) => ({ jsonrpc: "2.0", id, method, params });

/** What a request of 2026-07-28 says of itself. */
const _meta = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientCapabilities": {},
};

const INITIALIZE = request(0, "initialize", {
  protocolVersion: "2025-06-18",
  capabilities: {},
  clientInfo: { name: "test", version: "1" },
});

/** Runs steps by the protocol's own client, which starts `client.ts --mcp`. */
// deno-lint-ignore no-explicit-any -- a test knows what is in there
async function byOwnClient(era: string, port: number, steps: object[], ...names: string[]): Promise<any[]> {
  const folder = new URL("./mcp_client/", import.meta.url).pathname;
  const script = new URL("../../client.ts", import.meta.url).pathname;
  const client = ["run", "--allow-net=127.0.0.1", script, "--port", String(port), "--mcp", ...names];
  const child = new Deno.Command(Deno.execPath(), {
    // All permissions: the package starts the program and looks into the environment.
    args: ["run", "-A", "--config", `${folder}deno.json`, `${folder}main.ts`, era, Deno.execPath(), ...client],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const lines = steps.map((step) => `${JSON.stringify(step)}\n`).join("");
  const [{ stdout, stderr, code }] = await Promise.all([
    child.output(),
    new Blob([lines]).stream().pipeTo(child.stdin).catch(() => {}), // what it says of its end is looked at
  ]);
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout).trim().split("\n").map((line) => JSON.parse(line));
}

const tool = (name: string, args: object = {}) => ({ method: "tool", params: { name, arguments: args } });

for (const [era, version] of [["legacy", "2025-11-25"], ["modern", "2026-07-28"], ["auto", "2026-07-28"]]) {
  Deno.test(`the protocol's own client lists the tools and calls them (${era})`, async () => {
    const { commands, ended } = service();
    await using server = await serve({ port: 0, commands });
    const [versions, list, greeting, failure, counted, cut, cancelled, unknown, reserved, data] = await byOwnClient(
      era,
      server.port,
      [
        { method: "version" },
        { method: "list" },
        tool("GREET", { name: "Ada" }),
        tool("GREET", { name: "" }),
        tool("COUNT", { to: 3 }),
        tool("COUNT", { to: 1_000 }),
        { ...tool("HANG"), abortMs: 50 },
        tool("PING"),
        tool("GREET", { cmd: "HANG" }),
        tool("TYPES", { data: { $binary: "AAEC" }, big: { $bigint: "9007199254740993" } }),
      ],
    );
    assertEquals(versions.result.version, version);
    assertEquals(versions.result.server.name, "packline");
    assertEquals(list.result.map(({ name }: { name: string }) => name), ["COUNT", "GREET", "HANG", "SLOW", "TYPES"]);
    assertEquals(list.result[1], { name: "GREET", description: "Greets somebody", inputSchema: GREETING });
    // Bytes are described as the agent has to send them, as it does below.
    assertEquals(list.result[4].inputSchema, {
      type: "object",
      properties: {
        data: { type: "object", title: "Data", ...BYTES_FORM },
        big: {},
        list: { type: "array", items: { type: ["object", "null"], ...BYTES_FORM } },
      },
      required: ["data", "big"],
    });
    const { _meta: _served, ...greeted } = greeting.result;
    assertEquals(greeted, {
      content: [{ type: "text", text: '{"text":"Hello, Ada!"}' }],
      structuredContent: { text: "Hello, Ada!" },
    });
    assertEquals([failure.result.isError, failure.result.content, failure.result.structuredContent], [
      true,
      [{ type: "text", text: "NOBODY: there is nobody" }],
      { code: "NOBODY", message: "there is nobody", data: { least: 1 } },
    ]);
    assertEquals(counted.result.structuredContent, { items: [1, 2, 3] });
    assertEquals(cut.result.structuredContent.items.length, MAX_ITEMS);
    assertEquals(cut.result.content[1].text, "the stream was cut after 100 items, there may be more");
    assertStringIncludes(cancelled.error, "no longer wanted");
    assertStringIncludes(unknown.error, 'there is no tool "PING"');
    assertEquals(reserved.result.content[0].text, 'INVALID_PARAMS: the parameter name "cmd" is reserved');
    assertEquals(data.result.structuredContent, { data: { $binary: "AAEC/w==" }, big: "bigint 9007199254740993" });
    assertEquals(ended, ["COUNT", "COUNT", "HANG CANCELLED"]);
  });
}

Deno.test("the named commands are offered and no others, built-in ones too", async () => {
  await using server = await serve({ port: 0, commands: service().commands });
  await using agent = new Agent(server.port, "PING", "GREET", "GREAT");
  await agent.sends(INITIALIZE);
  assertEquals((await agent.next()).result.protocolVersion, "2025-06-18");
  const { result: { tools } } = await agent.asks(request(1, "tools/list"));
  assertEquals(tools.map(({ name }: { name: string }) => name), ["GREET", "PING"]);
  const { result } = await agent.asks(request(2, "tools/call", { name: "PING" }));
  assertEquals(result, { content: [{ type: "text", text: "PONG" }] });
  assertEquals((await agent.ends()).code, 0);
  assertEquals(await agent.said, "packline: not offered: the server has no command GREAT\n");
});

Deno.test("what is no tool is left out, with a line that says why", async () => {
  await using server = await serve({ port: 0, commands: service().commands });
  await using agent = new Agent(server.port);
  for (let id = 0; id < 2; id++) await agent.asks(request(id, "tools/list", { _meta }));
  await agent.ends();
  assertEquals(
    await agent.said,
    "packline: not offered: UPLOAD needs a stream of items, which no agent can send\n" +
      "packline: not offered: a tool is not a valid tool name\n",
  );
});

Deno.test("a cancelled call ends its handler, gets no answer, and holds up no other", async () => {
  const { commands, ended, waiting, over } = service();
  await using server = await serve({ port: 0, commands });
  await using agent = new Agent(server.port);
  await agent.sends(request("a", "tools/call", { name: "HANG", _meta }));
  await waiting;
  assertEquals((await agent.asks(request("a", "ping"))).error.message.includes("not answered yet"), true);
  assertEquals((await agent.asks(request("b", "tools/call", { name: "COUNT", arguments: { to: 1 }, _meta }))).id, "b");
  await agent.sends({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: "none" } });
  await agent.sends({ jsonrpc: "2.0", method: "notifications/cancelled", params: { requestId: "a", reason: "late" } });
  await over;
  assertEquals(ended, ["COUNT", "HANG CANCELLED"]);
  assertEquals(await agent.asks(request("a", "ping")), { jsonrpc: "2.0", id: "a", result: {} });
});

Deno.test("the end of stdin ends all calls, and the program", async () => {
  const { commands, ended, waiting, over } = service();
  await using server = await serve({ port: 0, commands });
  await using agent = new Agent(server.port);
  await agent.sends(request(1, "tools/call", { name: "HANG", _meta }));
  await waiting;
  assertEquals(await agent.ends(), { code: 0, rest: "" });
  await over;
  assertEquals(ended.length, 1);
});

const hasFull = Deno.build.os === "linux";
if (!hasFull) console.log("skipped: an answer that cannot be written: only Linux has /dev/full");

Deno.test({
  name: "an answer that cannot be written is exit code 3",
  ignore: !hasFull,
  async fn() {
    const script = new URL("../../client.ts", import.meta.url).pathname;
    const agent = new Deno.Command("sh", {
      args: ["-c", 'exec "$@" >/dev/full', "sh", Deno.execPath(), "run", "--allow-net=127.0.0.1", script, "--mcp"],
      stdin: "piped",
      stderr: "piped",
    }).spawn();
    await new Blob([JSON.stringify(request(1, "ping")), "\n"]).stream().pipeTo(agent.stdin);
    const { code, stderr } = await agent.output();
    const text = new TextDecoder().decode(stderr);
    assertEquals([code, text], [3, "packline: cannot write to stdout: No space left on device (os error 28)\n"]);
  },
});

Deno.test("a stream is cut by its length and by its time, each with a notice", async () => {
  const { commands } = service();
  await using server = await serve({ port: 0, commands });
  await using agent = new Agent(server.port, "--timeout", "300ms");
  const call = (id: number, name: string, args: object) =>
    agent.asks(request(id, "tools/call", { name, arguments: args, _meta }));
  const { result: long } = await call(1, "COUNT", { to: 1_000, wide: 30_000 });
  assertEquals(long.structuredContent.items.length, 2);
  assertEquals(long.content[1].text, `the stream was cut: its items take more than ${MAX_ITEMS_LENGTH} characters`);
  const { result: slow } = await call(2, "SLOW", {});
  assertEquals(slow.structuredContent, {
    items: ["first"],
    notice: "the stream was cut after 0.3 s, there may be more",
  });
  const { result: late } = await call(3, "HANG", {});
  assertEquals([late.isError, late.structuredContent.code], [true, "TIMEOUT"]);
});

Deno.test("an answer is one line for every reader of lines, and shows no invisible character", async () => {
  const GREET = command(() => "a\u2028b\u0085c\u202e");
  await using server = await serve({ port: 0, commands: { GREET } });
  await using agent = new Agent(server.port);
  await agent.sends(request(1, "tools/call", { name: "GREET", _meta }));
  const line = await agent.line();
  assert(/^[ -~]+$/.test(line), line);
  assertEquals(JSON.parse(line).result.content[0].text, "a\u2028b\u0085c\u202e");
});

Deno.test("what is no request is refused, and the session goes on", async () => {
  await using server = await serve({ port: 0, commands: service().commands });
  await using agent = new Agent(server.port);
  const { [`io.modelcontextprotocol/clientCapabilities`]: _, ...half } = _meta;
  const wrong: [message: unknown, id: unknown, code: number][] = [
    ["{", undefined, -32700],
    [Uint8Array.of(0x22, 0xff, 0x22), undefined, -32700],
    ["[]", undefined, -32600],
    ["null", undefined, -32600],
    [{ id: 1, method: "ping" }, 1, -32600],
    [{ jsonrpc: "2.0", id: null, method: "ping" }, undefined, -32600],
    [{ jsonrpc: "2.0", id: 1 }, 1, -32600],
    ['{"jsonrpc":"2.0","id":12345678901234567890,"method":"ping"}', undefined, -32600],
    [request(1, "tools/list"), 1, -32602],
    [request(1, "tools/list", { _meta: half }), 1, -32602],
    [request(1, "resources/list", { _meta }), 1, -32601],
    [request(1, "constructor", { _meta }), 1, -32601],
    [request(1, "tools/call", { _meta }), 1, -32602],
    [request(1, "tools/call", { name: "__proto__", _meta }), 1, -32602],
  ];
  for (const [message, id, code] of wrong) {
    const answer = await agent.asks(message);
    assertEquals([answer.id, answer.error.code], [id, code], JSON.stringify(message));
  }
  // Replaced bytes would reach the handler as other text.
  const greeting = new TextEncoder().encode(JSON.stringify(
    request(1, "tools/call", { name: "GREET", arguments: { name: "Zoë" }, _meta }),
  ));
  for (const [from, to] of [[0xc3, 0xff], [0xab, 0x22]]) {
    const { error } = await agent.asks(greeting.map((byte) => byte === from ? to : byte));
    assertEquals(error, { code: -32700, message: "the line is not text in UTF-8" });
  }
  assertEquals((await agent.asks(greeting)).result.structuredContent, { text: "Hello, Zoë!" });
  const old = { ..._meta, "io.modelcontextprotocol/protocolVersion": "1900-01-01" };
  const { error } = await agent.asks(request(1, "server/discover", { _meta: old }));
  assertEquals([error.code, error.data], [-32022, { supported: ["2026-07-28"], requested: "1900-01-01" }]);
  for (const args of [[], "text", { $items: 1 }, { data: { $binary: "?" } }]) {
    const { result } = await agent.asks(request(1, "tools/call", { name: "TYPES", arguments: args, _meta }));
    assertEquals([result.isError, result.structuredContent.code], [true, "INVALID_PARAMS"], JSON.stringify(args));
  }
  const { result } = await agent.asks(request(2, "server/discover", { _meta }));
  assertEquals(result, {
    resultType: "complete",
    supportedVersions: ["2026-07-28"],
    capabilities: { tools: {} },
    ttlMs: 60_000,
    cacheScope: "private",
    _meta: { "io.modelcontextprotocol/serverInfo": result._meta["io.modelcontextprotocol/serverInfo"] },
  });
});

Deno.test("a server that comes later is found, and one that is gone is an error of the call", async () => {
  const { commands } = service();
  const first = await serve({ port: 0, commands });
  const { port } = first;
  await first.shutdown();
  await using agent = new Agent(port);
  const { error } = await agent.asks(request(1, "tools/list", { _meta }));
  assertEquals(error.code, -32603);
  assertEquals(error.message, `cannot reach 127.0.0.1:${port}: connection refused; is the server running?`);
  await using second = await serve({ port, commands });
  const call = request(2, "tools/call", { name: "GREET", arguments: { name: "Ada" }, _meta });
  let answer = await agent.asks(call);
  // The client dials again after a moment, and says meanwhile that there is no connection.
  while ("error" in answer) answer = await agent.asks(call);
  assertEquals(answer.result.structuredContent, { text: "Hello, Ada!" });
  await second.shutdown();
  const { result: { structuredContent: { code, message } } } = await agent.asks(call);
  assertEquals([code, message.includes("cannot reach"), message.includes("waitForReady")], [
    "CONNECTION_LOST",
    true,
    false,
  ]);
});
