/**
 * The clients of `examples/clients/`, in Python, Go and Lua: their own tests, their pages, the conformance kit, and a server
 * of packline that stops and comes back.
 */

import { assertEquals } from "@std/assert";
import { command } from "../mod.ts";
import { checkClient } from "./conformance/client_kit.ts";
import { Driver } from "./conformance/driver.ts";
import { linesOf } from "./conformance/report.ts";
import { SCENARIOS } from "./conformance/scenarios/scenarios.ts";
import { Folder, type Package, pythonWith, root, run, testWith } from "./production/programs.ts";
import { serve } from "./support/demo_server.ts";

const python = `${root}examples/clients/python`;
const go = `${root}examples/clients/go`;

/** Go's tool, kept from looking for other versions of itself and for modules: the client needs none. */
const GO_ENV = { GOTOOLCHAIN: "local", GOPROXY: "off", GOFLAGS: "-mod=mod" };

/** How each client's driver is made. */
const DRIVERS: [language: string, needs: Package[], program: (folder: string) => Promise<string[]>][] = [
  ["Python", ["python3-msgpack"], () => {
    return Promise.resolve([pythonWith("msgpack")!, "-B", `${python}/conformance_driver.py`]);
  }],
  ["Go", ["golang-go"], async (folder) => {
    const options = { cwd: go, env: GO_ENV };
    assertEquals(await run("go", ["build", "-o", `${folder}/driver`, "./conformance"], options), { code: 0, text: "" });
    return [`${folder}/driver`];
  }],
];

for (const [language, needs, programOf] of DRIVERS) {
  testWith(needs, `the ${language} client passes every check of the conformance kit`, async () => {
    await using folder = await Folder.make();
    const outcomes = await checkClient(await programOf(folder.path));
    assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
    assertEquals(outcomes.length, SCENARIOS.length);
  });

  testWith(needs, `the ${language} client loses no call to a server that is replaced`, async () => {
    await using folder = await Folder.make();
    await using driver = new Driver(await programOf(folder.path));
    const arrived = Promise.withResolvers<void>();
    const end = Promise.withResolvers<string>();
    const SLOW = command(() => {
      arrived.resolve();
      return end.promise;
    });
    const old = await serve({ port: 0, logLevel: "error", commands: { SLOW } });
    const { port } = old;
    await driver.ask({ connect: `127.0.0.1:${port}` });
    const slow = driver.ask({ call: "SLOW", params: {} });
    await arrived.promise;
    const stopped = old.shutdown();
    end.resolve("answered");
    assertEquals(await slow, { res: "answered" });
    await stopped;
    const next = driver.ask({ call: "PING", params: {} }); // It waits: nobody listens yet.
    await using _new = await serve({ port, logLevel: "error" });
    assertEquals(await next, { res: "PONG" });
  });
}

/** The sample on the page of a client, and what its comments say that it prints: lines with a comma between them. */
async function sampleOf(folder: string, kind: string, port: number): Promise<{ sample: string; prints: string }> {
  const page = await Deno.readTextFile(`${folder}/README.md`);
  const [, sample] = page.match(new RegExp(`^\`\`\`${kind}\n([^]*?)^\`\`\``, "m"))!;
  const comments = [...sample.matchAll(/ (?:#|\/\/|--) (.*)$/gm)].map(([, comment]) => comment);
  return { sample: sample.replace("1235", String(port)), prints: comments.join(", ") };
}

/** Runs a sample, and compares what it prints with its comments. */
async function expectPrints(prints: string, ...program: Parameters<typeof run>): Promise<void> {
  const { code, text } = await run(...program);
  assertEquals({ code, prints: text.trimEnd().replaceAll("\n", ", ") }, { code: 0, prints });
}

testWith(["python3-msgpack"], "the Python client: its tests and its page", async () => {
  await using server = await serve({ port: 0, logLevel: "error" });
  const options = { cwd: python, env: { PACKLINE: `127.0.0.1:${server.port}` } };
  const program = pythonWith("msgpack")!;
  const tests = await run(program, ["-B", "-W", "error", "-m", "unittest"], options);
  assertEquals(tests.code, 0, tests.text);
  const { sample, prints } = await sampleOf(python, "python", server.port);
  await expectPrints(prints, program, ["-B", "-W", "error", "-c", sample], options);
});

testWith(["mypy"], "the Python client: mypy --strict accepts it", async () => {
  const args = ["--strict", "--no-incremental", "--cache-dir=/dev/null", "."];
  const { code, text } = await run("mypy", args, { cwd: python });
  assertEquals(code, 0, text);
});

testWith(["golang-go"], "the Go client: gofmt, go vet, its tests and its page", async () => {
  await using server = await serve({ port: 0, logLevel: "error" });
  const options = { cwd: go, env: { ...GO_ENV, PACKLINE: `127.0.0.1:${server.port}` } };
  assertEquals(await run("go", ["vet", "./..."], options), { code: 0, text: "" });
  assertEquals(await run("gofmt", ["-l", "."], options), { code: 0, text: "" });
  const tests = await run("go", ["test", "-count=1", "."], options);
  assertEquals(tests.code, 0, tests.text);
  const { sample, prints } = await sampleOf(go, "go", server.port);
  const imports = ["context", "fmt", "time", "packline.example/packline"].map((name) => `import "${name}"`);
  await using folder = await Folder.make();
  await folder.write("main.go", `package main\n${imports.join("\n")}\nfunc main() {\n${sample}}\n`);
  const lines = ["module sample", "go 1.19", "require packline.example/packline v0.0.0"];
  await folder.write("go.mod", `${lines.join("\n")}\nreplace packline.example/packline => ${go}\n`);
  await expectPrints(prints, "go", ["run", "."], { ...options, cwd: folder.path });
});

testWith(["luajit2", "lua-messagepack", "lua-socket"], "the Lua client: its page", async () => {
  await using server = await serve({ port: 0, logLevel: "error" });
  const { sample, prints } = await sampleOf(`${root}examples/clients/lua`, "lua", server.port);
  const env = { LUA_PATH: `${root}examples/openresty/lib/?.lua;;` };
  await expectPrints(prints, "luajit", ["-e", sample], { env });
});
