/** What is beside the OpenResty client: the configuration of the example, and the package for OPM. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import jsr from "../../jsr.json" with { type: "json" };
import { command, unchecked } from "../../mod.ts";
import { serve } from "../support/demo_server.ts";
import { NGINX_PACKAGES, startExample } from "./lua.ts";
import { serveAs, serveStreams } from "./lua_servers.ts";
import { example, Folder, root, run, testWith } from "./programs.ts";

testWith(NGINX_PACKAGES, "examples/openresty/nginx.conf streams both ways, and passes on who leaves", async () => {
  await using server = await serveStreams();
  await using owned = new AsyncDisposableStack();
  const address = await startExample(owned, server.port);
  const get = async (path: string, init?: RequestInit) => {
    const response = await fetch(`http://${address}/${path}`, init);
    return [response.status, await response.text()];
  };
  const idle = async () => {
    for (let tries = 0; server.statistics().inFlight > 0; tries++) {
      assert(tries < 1000, "a handler still runs");
      await get("call/PING");
    }
  };

  const readme = await example("openresty/README.md");
  const [, ticks, lines] = readme.match(/^\$ curl "http:\/\/127.0.0.1:8080\/(stream\/.*)"\n((?:\d\n)+)/m) ?? [];
  assertEquals(await get(ticks), [200, lines]);
  assertEquals((await get("stream/TICK?count=x"))[0], 400);
  const [item, failure] = String((await get("stream/BREAKS"))[1]).trimEnd().split("\n").map((line) => JSON.parse(line));
  assertEquals([item, failure], ["a", { err: "OUT_OF_PAPER", msg: "the tray is empty" }]);
  const reader = (await fetch(`http://${address}/stream/TICK?interval=3600`)).body!.getReader();
  assertEquals(new TextDecoder().decode((await reader.read()).value), "1\n");
  await reader.cancel();
  await idle();

  const [, path, tally] = readme.match(/^\$ curl -X POST -T .*8080\/(upload\/.*)"\n(.*)$/m) ?? [];
  const [status, text] = await get(path, { method: "POST", body: new Uint8Array(50_000_000).fill(255) });
  assertEquals([status, JSON.parse(text as string)], [200, JSON.parse(tally)]);
  assertEquals((await get("upload/FOO", { method: "POST", body: "x" }))[0], 404);
  assertEquals(await get("upload/UPLOAD", { method: "POST" }), [200, '{"res":0}\n']);
  const [hostname, port] = address.split(":");
  const half = await Deno.connect({ hostname, port: Number(port) });
  await half.write(
    new TextEncoder().encode("POST /upload/UPLOAD HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"),
  );
  while (server.uploads.length < 2) await get("call/PING");
  half.close();
  await idle();
  assertEquals(server.uploads[1].end, "CANCELLED");

  const [chunked, refusal] = await get("upload/UPLOAD", {
    method: "POST",
    body: ReadableStream.from([Uint8Array.of(1)]),
  });
  assertEquals([chunked, JSON.parse(refusal as string).err], [411, "LENGTH_REQUIRED"]);
  assertEquals(server.uploads.length, 2);
});

testWith(NGINX_PACKAGES, "examples/openresty/nginx.conf cancels the call of an HTTP client that leaves", async () => {
  const ends: string[] = [];
  const started: (() => void)[] = [];
  const hold = (signal: AbortSignal) =>
    new Promise<never>((_resolve, reject) => {
      started.shift()?.();
      signal.addEventListener("abort", () => {
        ends.push(signal.reason.code);
        reject(signal.reason);
      });
    });
  const commands = {
    HOLD: command((_: object, { signal }) => hold(signal)),
    TAKE: command({
      items: unchecked<unknown>(),
      async handler(_: object, { items, signal }): Promise<void> {
        for await (const _item of items);
        await hold(signal);
      },
    }),
  };
  await using server = await serve({ port: 0, commands, onError: () => {} });
  await using owned = new AsyncDisposableStack();
  const address = await startExample(owned, server.port, { timeoutMs: 60_000 });
  for (const path of ["call/HOLD", "upload/TAKE"]) {
    const { promise, resolve } = Promise.withResolvers<void>();
    started.push(resolve);
    const leaving = new AbortController();
    const response = fetch(`http://${address}/${path}`, { method: "POST", body: "{}", signal: leaving.signal });
    await promise;
    leaving.abort();
    await response.catch(() => {});
    for (let tries = 0; server.statistics().inFlight > 0; tries++) {
      assert(tries < 1000, `the handler of ${path} still runs`);
      await (await fetch(`http://${address}/call/PING`)).text();
    }
  }
  assertEquals(ends, ["CANCELLED", "CANCELLED"]);
});

testWith(["luajit2"], "dist.ini is as opm build wants it, and its modules compile", async () => {
  const fields = new Map<string, string>();
  for (const line of (await example("openresty/dist.ini")).split("\n")) {
    if (line === "" || line.startsWith("#")) continue;
    const [, name, value] = line.match(/^(\w+) = (\S.*)$/) ?? [];
    assert(name !== undefined && !fields.has(name), line);
    fields.set(name, value);
  }
  const { name, abstract, author, is_original, license, repo_link, lib_dir, main_module, version, ...others } = Object
    .fromEntries(fields);
  assertEquals(others, {});
  assertMatch(name, /^[A-Za-z0-9-]+$/);
  assert(abstract !== "" && /[a-zA-Z]/.test(author));
  assertEquals([is_original, license, lib_dir, version], ["yes", "mit", "lib", config.version]);
  assertEquals(repo_link, `https://jsr.io/${jsr.name}`);
  const main = await example(`openresty/${main_module}`);
  // As opm finds it: the first line that looks like a version.
  assertEquals(main.match(/\b_?VERSION\s*=\s*"([^"]+)"|\bversion\s*=\s*(\S+)/)?.[1], version);
  await using folder = await Folder.make();
  for (
    const file of [
      "packline",
      ...["calls", "clock", "links", "messages", "servers", "sockets"].map((name) => `packline/${name}`),
    ]
  ) {
    const args = ["-b", `${root}examples/openresty/lib/resty/${file}.lua`, `${folder.path}/compiled`];
    assertEquals(await run("luajit", args), { code: 0, text: "" });
  }
  assert((await example("openresty/README.md")).startsWith("# "));
});

testWith(NGINX_PACKAGES, "examples/openresty/nginx.conf shares failures between its workers", async () => {
  await using server = await serveAs("a");
  await using owned = new AsyncDisposableStack();
  const address = await startExample(owned, server.port, { workers: 2 });
  assertEquals(await (await fetch(`http://${address}/call/PING`)).text(), '{"res":"PONG"}\n');
  assertMatch(await example("openresty/nginx.conf"), /^ *lua_shared_dict packline \d+k;/m);
});
