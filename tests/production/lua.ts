/**
 * The two worlds of the Lua client, `examples/openresty/lib/resty/packline.lua`: nginx and plain LuaJIT.
 *
 * In: Lua code of a test. Out: what it says, line by line. Refused: nothing; an error of the code is what it says.
 */

import { socketTransport } from "../../transport/deno_network.ts";
import { ScriptedServer } from "../support/scripted_server.ts";
import {
  example,
  Folder,
  onFreePort,
  type Package,
  type Program,
  root,
  run,
  startNginx,
  testWith,
} from "./programs.ts";

/** What the Lua client needs in nginx. */
export const NGINX_PACKAGES: readonly Package[] = ["nginx", "libnginx-mod-http-lua", "lua-messagepack", "lua-cjson"];

/** What it needs under LuaJIT. */
export const LUAJIT_PACKAGES: readonly Package[] = ["luajit2", "lua-messagepack", "lua-cjson", "lua-socket"];

/** Copies the Lua files of the example to where nginx looks for them. */
export async function copyLua(folder: Folder): Promise<void> {
  await Deno.mkdir(`${folder.path}/lib/resty/packline`, { recursive: true });
  const names = [
    "resty/packline",
    ...["calls", "clock", "links", "messages", "servers", "sockets"].map((name) => `resty/packline/${name}`),
  ];
  for (const name of ["http", ...names.map((name) => `lib/${name}`)]) {
    await folder.write(`${name}.lua`, await example(`openresty/${name}.lua`));
  }
}

/** What differs from the configuration of the example as it stands, beside the ports. */
export interface Settings {
  timeoutMs?: number;
  /** Processes of nginx, each with a pool of its own. */
  workers?: number;
}

/** nginx with the configuration of the example. Returns its address. */
export async function startExample(
  owned: AsyncDisposableStack,
  packlinePort: number,
  { timeoutMs = 5000, workers = 1 }: Settings = {},
): Promise<string> {
  const folder = owned.use(await Folder.make());
  await copyLua(folder);
  return await onFreePort(async (port) => {
    const config = await example("openresty/nginx.conf", {
      "127.0.0.1:8080": `127.0.0.1:${port}`,
      "$packline_port 1235": `$packline_port ${packlinePort}`,
      "$packline_timeout 5000": `$packline_timeout ${timeoutMs}`,
      "worker_processes 2": `worker_processes ${workers}`,
    });
    owned.use(await startNginx(folder, config));
    return `127.0.0.1:${port}`;
  });
}

/** What else a configuration says. */
export interface LuaSettings {
  workers?: number;
  /** Directives beside the server. */
  http?: string;
}

/** nginx with the Lua client, and what a server of its configuration is to do. */
export async function startLua(
  owned: AsyncDisposableStack,
  server: string,
  { workers = 1, http = "" }: LuaSettings = {},
): Promise<{ program: Program; url: string }> {
  const folder = owned.use(await Folder.make());
  await copyLua(folder);
  return await onFreePort(async (port) => {
    const config = `
      load_module /usr/lib/nginx/modules/ndk_http_module.so;
      load_module /usr/lib/nginx/modules/ngx_http_lua_module.so;
      user root;
      pid nginx.pid;
      worker_processes ${workers};
      events {}
      http {
        access_log off;
        ${http}
        lua_package_path "$prefix/lib/?.lua;;";
        lua_socket_log_errors off;
        server {
          listen 127.0.0.1:${port} ${workers > 1 ? "reuseport" : ""};
          ${server}
        }
      }`;
    return { program: owned.use(await startNginx(folder, config)), url: `http://127.0.0.1:${port}` };
  });
}

/** A world for code that has `packline`, and `say` to write a line. */
export interface LuaWorld {
  readonly name: string;
  /** Runs the code to its end. */
  run(code: string): Promise<string>;
}

/** nginx, where the code answers a request. */
export const NGINX: LuaWorld = {
  name: "nginx",
  async run(code) {
    await using owned = new AsyncDisposableStack();
    const { url, program } = await startLua(
      owned,
      `location / { content_by_lua_block { local say, packline = ngx.say, require "resty.packline" ${code} } }`,
    );
    const response = await fetch(url);
    const text = await response.text();
    return response.ok ? text : text + program.said;
  },
};

/** LuaJIT, where the code is the program. */
export const LUAJIT: LuaWorld = {
  name: "LuaJIT",
  async run(code) {
    const path = `package.path = "${root}examples/openresty/lib/?.lua;" .. package.path`;
    return (await run("luajit", ["-e", `${path} local say, packline = print, require "resty.packline" ${code}`])).text;
  },
};

/** Registers a test for each world. */
export function testInLua(name: string, test: (world: LuaWorld) => Promise<void>): void {
  testWith(NGINX_PACKAGES, `in nginx, ${name}`, () => test(NGINX));
  testWith(LUAJIT_PACKAGES, `in LuaJIT, ${name}`, () => test(LUAJIT));
}

/** What the code of all tests begins with. */
function prelude(port: number, options = ""): string {
  return `
    local client = packline.new { port = ${port}, bytes_max = 1048576, ${options} }
    local function connections() return client:call("STATS").res.connections.accepted end
    local function tell(reply, failure)
      if failure then return failure.code .. ": " .. tostring(failure.msg) end
      return reply.res
    end
  `;
}

/** What the code says, line by line; it has a `client` of a server. */
export async function saidBy(world: LuaWorld, port: number, code: string, options?: string): Promise<string[]> {
  return (await world.run(prelude(port, options) + code)).trimEnd().split("\n");
}

/** Runs the code against connections that the test serves, one after the other. */
export async function withScript(
  world: LuaWorld,
  code: string,
  script: (accept: () => Promise<ScriptedServer>) => Promise<void>,
  options?: string,
): Promise<string[]> {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using owned = new AsyncDisposableStack();
  const said = saidBy(world, listener.addr.port, code, options);
  await script(async () => owned.use(new ScriptedServer(socketTransport(await listener.accept()))));
  return await said;
}

/** The next message that is not about the connection. */
export async function next(server: ScriptedServer): Promise<Record<string, unknown>> {
  const message = await server.request();
  return "max" in message ? await next(server) : message;
}
