/** What the Lua client runs in, for tests of both: nginx and LuaJIT. */

import type { Message } from "../support/wire.ts";
import { LUAJIT_PACKAGES, NGINX_PACKAGES, type Settings, startExample } from "./lua.ts";
import { type Package, Program, root, testWith } from "./programs.ts";

/** How long a call waits for its reply, where that is what ends it. */
export const TIMEOUT_MS = 250;

/** A reply, or a failure, as the Lua file returned it. */
// deno-lint-ignore no-explicit-any -- JSON, whose shape is what the tests are about
export type Outcome = any;

/** The Lua file in one of its worlds, on behalf of a test. */
export interface Front extends AsyncDisposable {
  /** How many calls it makes side by side. */
  readonly width: number;
  /** Calls; `safe` says that the call may be made twice. */
  call(cmd: string, params?: Message, options?: { safe?: boolean }): Promise<Outcome>;
}

export interface World {
  readonly name: string;
  readonly packages: readonly Package[];
  /** Starts it, in front of a server on this port. */
  start(port: number, settings?: Settings): Promise<Front>;
}

/** nginx, with the configuration of the example. */
export class Nginx implements Front {
  readonly width = 20;
  readonly #url: string;
  readonly #owned: AsyncDisposableStack;
  readonly #client = Deno.createHttpClient({});

  private constructor(address: string, owned: AsyncDisposableStack) {
    this.#url = `http://${address}/call/`;
    this.#owned = owned;
  }

  static async start(packlinePort: number, settings: Settings = {}): Promise<Nginx> {
    await using owned = new AsyncDisposableStack();
    return new Nginx(await startExample(owned, packlinePort, settings), owned.move());
  }

  async call(cmd: string, params: Message = {}, { safe = false } = {}): Promise<Outcome> {
    return (await this.request(cmd, params, { safe })).body;
  }

  /** The same with the status: safe calls by GET, others by POST. */
  async request(cmd: string, params: Message, { safe = false } = {}): Promise<{ status: number; body: Outcome }> {
    const query = Object.entries(params).map(([name, value]) => `${name}=${encodeURIComponent(JSON.stringify(value))}`);
    const response = safe
      ? await fetch(`${this.#url}${cmd}?${query.join("&")}`, { client: this.#client })
      : await fetch(this.#url + cmd, { method: "POST", body: JSON.stringify(params), client: this.#client });
    return { status: response.status, body: await response.json() };
  }

  /** What curl would show of a call, with its status in front where that is asked for. */
  async curl(path: string, withStatus: boolean): Promise<string> {
    const response = await fetch(this.#url + path, { client: this.#client });
    const status = withStatus ? `HTTP/1.1 ${response.status} ${response.statusText}\n` : "";
    return status + await response.text();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#owned.disposeAsync();
  }
}

/** LuaJIT, with a program that makes one call for each line on its stdin. */
export class LuaJit implements Front {
  readonly width = 1;
  readonly #program: Program;

  private constructor(program: Program) {
    this.#program = program;
  }

  static async start(port: number, { timeoutMs = 5000 }: Settings = {}): Promise<LuaJit> {
    const code = `
      package.path = "${root}examples/openresty/lib/?.lua;" .. package.path
      local cjson = require "cjson"
      local Infinity = math.huge
      local client = require("resty.packline").new { port = ${port}, timeout = ${timeoutMs}, bytes_max = 1048576 }
      io.stdout:setvbuf("no")
      print "ready"
      for line in io.lines() do
        local call = cjson.decode(line)
        local reply, failure = client:call(call.cmd, call.params, { idempotent = call.safe })
        print(cjson.encode(reply or { err = failure.code, msg = failure.msg, data = failure.data }))
      end`;
    return new LuaJit(await Program.start("luajit", ["-e", code], /ready\n/));
  }

  async call(cmd: string, params: Message = {}, { safe = false } = {}): Promise<Outcome> {
    return JSON.parse(await this.#program.ask(JSON.stringify({ cmd, params, safe })));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#program[Symbol.asyncDispose]();
  }
}

export const NGINX: World = {
  name: "nginx",
  packages: NGINX_PACKAGES,
  start: Nginx.start,
};

export const LUAJIT: World = {
  name: "LuaJIT",
  packages: LUAJIT_PACKAGES,
  start: LuaJit.start,
};

/** Registers a test for each world. */
export function testInBoth(name: string, run: (world: World) => Promise<void>): void {
  for (const world of [NGINX, LUAJIT]) testWith(world.packages, `in ${world.name}, ${name}`, () => run(world));
}
