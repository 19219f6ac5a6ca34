/** `examples/service` and its four callers: Deno, Node, a page in headless Chromium, OpenResty. One token, one trace. */

import { assertEquals, assertMatch } from "@std/assert";
import { install } from "../npm/runtimes.ts";
import { Chromium } from "../support/chromium.ts";
import { type CollectedSpan, Collector } from "../support/collector.ts";
import { Installed, TOKEN } from "./installed_service.ts";
import { NGINX_PACKAGES, startLua } from "./lua.ts";
import { root, run, testWith } from "./programs.ts";

const TRACE = "0af7651916cd43dd8448eb211c80319c";

/** Makes a caller record a temperature and list all: what it says of that. */
type Call = (degrees: number, token: string, traceparent: string) => Promise<string>;

/** A caller, and the span in which it calls. */
interface Caller {
  readonly name: string;
  readonly span: string;
  readonly call: Call;
}

/** What Deno and Node have in their environment. */
const variables = (token: string, traceparent: string) => ({
  ...{ NO_COLOR: "1", WEATHER_TOKEN: token, TRACEPARENT: traceparent },
});

/** Deno exports its own spans, so that the server's are their children. */
function denoCaller(service: Installed, port: number, otel: Record<string, string>): Call {
  const flags = ["--no-prompt", "--frozen", "--allow-net=127.0.0.1", "--allow-env"];
  return async (degrees, token, traceparent) => {
    const options = { cwd: service.path, env: { ...otel, ...variables(token, traceparent) } };
    const args = ["run", ...flags, "callers/deno.ts", `${port}`, `${degrees}`];
    return (await run(Deno.execPath(), args, options)).text;
  };
}

async function nodeCaller(owned: AsyncDisposableStack, port: number): Promise<Call> {
  const { path: cwd } = owned.use(await install());
  await Deno.copyFile(`${root}examples/service/callers/node.mjs`, `${cwd}/node.mjs`);
  return async (degrees, token, traceparent) => {
    const env = variables(token, traceparent);
    return (await run("node", ["node.mjs", `${port}`, `${degrees}`], { cwd, env })).text;
  };
}

/** The page, and its module as README bundles it. */
function serveSite(owned: AsyncDisposableStack, service: Installed): string {
  const page = "<!DOCTYPE html><title>-</title>";
  const { addr, shutdown } = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen() {} },
    async ({ url }) =>
      url.endsWith("/page.js")
        ? new Response(await Deno.readFile(`${service.path}/page.js`), {
          headers: { "content-type": "text/javascript" },
        })
        : new Response(page, { headers: { "content-type": "text/html" } }),
  );
  owned.defer(shutdown);
  return `http://127.0.0.1:${addr.port}`;
}

async function pageCaller(owned: AsyncDisposableStack, service: Installed, site: string, port: number): Promise<Call> {
  const bundled = await service.deno(
    ...["bundle", "--frozen", "--platform=browser", "--minify", "-o", "page.js", "callers/page.ts"],
  );
  assertEquals(bundled.code, 0, bundled.text);
  const browser = owned.use(await Chromium.start());
  await browser.open(`${site}/`);
  return async (degrees, token, traceparent) => {
    const args = JSON.stringify([`ws://127.0.0.1:${port}`, degrees, { token, traceparent }]);
    const record = `import("/page.js").then(({ record }) => record(...${args}))`;
    return await browser.evaluate<string>(`${record}.then(JSON.stringify, String)`);
  };
}

async function openrestyCaller(owned: AsyncDisposableStack, port: number): Promise<Call> {
  const location = `content_by_lua_file ${root}examples/service/callers/openresty.lua;`;
  const { url } = await startLua(owned, `set $weather_port ${port}; location = /record { ${location} }`);
  return async (degrees, token, traceparent) => {
    const headers = { authorization: `Bearer ${token}`, traceparent };
    return await (await fetch(`${url}/record?degrees=${degrees}`, { headers })).text();
  };
}

/** The way from the caller's span to the server's, by names and kinds. */
function pathOf(span: CollectedSpan, all: readonly CollectedSpan[]): { from: string; path: string } {
  const parent = all.find(({ spanId }) => spanId === span.parentSpanId);
  const own = `${span.name} ${span.kind}`;
  if (parent === undefined) return { from: span.parentSpanId, path: own };
  const { from, path } = pathOf(parent, all);
  return { from, path: `${path} > ${own}` };
}

testWith(
  ["npm", "chromium", ...NGINX_PACKAGES],
  "examples/service: Deno, Node, a page and OpenResty call it with one token, in one trace",
  async (t) => {
    await using collector = new Collector();
    let callers: Caller[];
    {
      await using owned = new AsyncDisposableStack();
      const service = owned.use(await Installed.make());
      Object.assign(service.env, collector.env);
      const site = serveSite(owned, service);
      const server = owned.use(await service.start([], ["--web-origin", site]));
      const calls: Record<string, Call> = {
        "Deno": denoCaller(service, server.port, collector.env),
        "Node": await nodeCaller(owned, server.port),
        "a page": await pageCaller(owned, service, site, server.port),
        "OpenResty": await openrestyCaller(owned, server.port),
      };
      callers = Object.entries(calls).map(([name, call], index) => ({ name, span: `b7ad6b716920333${index}`, call }));
      const recorded: number[] = [];
      for (const { name, span, call } of callers) {
        const traceparent = `00-${TRACE}-${span}-01`;
        await t.step(`${name} is refused without the token`, async () => {
          assertMatch(await call(99, "wrong", traceparent), /UNAUTHENTICATED/);
        });
        await t.step(`${name} records, and lists what those before it have recorded`, async () => {
          recorded.push(recorded.length + 0.5);
          assertEquals(JSON.parse(await call(recorded.length - 0.5, TOKEN, traceparent)), recorded);
        });
      }
      assertEquals(await service.degrees(), [0.5, 1.5, 2.5, 3.5]);
    }
    // The programs have ended, and with that all was exported.
    const { spans } = collector;
    const servers = spans.filter(({ kind }) => kind === "server");
    for (const { name, span: from } of callers) {
      await t.step(`${name} is in the trace`, () => {
        const ofCaller = servers.filter((span) => pathOf(span, spans).from === from);
        assertEquals(ofCaller.map(({ traceId }) => traceId), [TRACE, TRACE, TRACE]);
        const above = (command: string) => name === "Deno" ? `${command} client > ` : "";
        assertEquals(
          ofCaller.map((span) => [pathOf(span, spans).path, span.attributes["error.type"]]),
          [["RECORD", "UNAUTHENTICATED"], ["RECORD", undefined], ["LIST", undefined]].map(([command, code]) => [
            `${above(command as string)}${command} server`,
            code,
          ]),
        );
      });
    }
    assertEquals(servers.length, 3 * callers.length);
  },
);
