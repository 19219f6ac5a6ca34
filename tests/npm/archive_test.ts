/** The archive for npm: what is in it, its types, and the tests of the client on Node. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import config from "../../deno.json" with { type: "json" };
import * as ours from "../../mod.ts";
import * as nodes from "../../node.ts";
import { root, testWith } from "../production/programs.ts";
import { Chromium } from "../support/chromium.ts";
import { nodeOf, output, withArchive } from "./runtimes.ts";

Deno.test("node.ts has what mod.ts has, but for run(), which is Deno's alone", () => {
  assertEquals(Object.keys(nodes).sort(), Object.keys(ours).filter((name) => name !== "run").sort());
});

Deno.test("node.ts has the types that mod.ts has, but for those of run()", async () => {
  const [ours, nodes] = await Promise.all(["mod.ts", "node.ts"].map(typesOf));
  assertEquals(nodes, ours.filter((name) => name !== "RunOptions"));
});

/** The names of the types that a module exports. */
async function typesOf(module: string): Promise<string[]> {
  const text = await Deno.readTextFile(`${root}${module}`);
  return [...text.matchAll(/^export (type )?\{([^}]*)\}/gm)].flatMap(([, allTypes, names]) => {
    const types = names.match(/(type )?\w+/g)!.filter((name) => allTypes || name.startsWith("type "));
    return types.map((name) => name.replace("type ", ""));
  }).sort();
}

testWith(
  ["npm"],
  "the archive says what it is, depends on nothing, and names no path of the machine that made it",
  async () => {
    const { folder } = await withArchive();
    const place = `${folder.path}/node_modules/${config.name}`;
    const packed = JSON.parse(await Deno.readTextFile(`${place}/package.json`));
    assertEquals([packed.name, packed.version, packed.license], [config.name, config.version, config.license]);
    assertEquals([packed.type, packed.dependencies], ["module", undefined]);
    const installed = [...Deno.readDirSync(`${folder.path}/node_modules`)].map(({ name }) => name);
    assertEquals(installed.filter((name) => !name.startsWith(".")), ["@packline"]);
    let files = 0;
    for (const path of filesIn(place)) {
      files++;
      const text = await Deno.readTextFile(path);
      assert(!text.includes(root) && !text.includes("sourceMappingURL") && !/\.map$/.test(path), path);
      assert(path.endsWith(".md") || !/^(?! *\*).*\bfrom "(jsr|npm|@std|\.[^"]*\.ts")/m.test(text), path);
    }
    assert(
      files > 20 && (await Deno.stat(`${place}/LICENSE`)).isFile && (await Deno.stat(`${place}/README.md`)).isFile,
    );
  },
);

function* filesIn(folder: string): Iterable<string> {
  for (const { name, isDirectory } of Deno.readDirSync(folder)) {
    if (isDirectory) yield* filesIn(`${folder}/${name}`);
    else yield `${folder}/${name}`;
  }
}

const TYPED = `
import { command, connect, serve } from "@packline/packline";
import { connect as connectAlone } from "@packline/packline/client";
import { connectInMemory } from "@packline/packline/testing";
import { connect as connectPage } from "@packline/packline/web";

export const commands = {
  GREET: command(({ name }: { name: string }) => \`Hello, \${name}!\`),
  COUNT: command(async function* ({ to }: { to: number }) {
    for (let n = 1; n <= to; n++) yield n;
  }),
};
const server = await serve({ port: 0, commands });
const client = await connect<typeof commands>({ port: server.port });
const text: string = await client.call.GREET({ name: "Ada" });
for await (const n of client.stream.COUNT({ to: 3 })) n.toFixed();
const alone = await connectAlone<typeof commands>({ port: server.port });
const pong: "PONG" = await alone.call.PING();
const inside = await connectInMemory<typeof commands>(server);
const page = await connectPage<typeof commands>({ url: "wss://app.example" });
export const used = [text, pong, await inside.call.GREET({ name: "Ada" })];
`;

/** Each is a mistake. */
const MISTAKES = [
  "await client.call.GREET({});",
  "await client.call.GREET({ name: 1 });",
  'await client.call.GREAT({ name: "Ada" });',
  'const n: number = await client.call.GREET({ name: "Ada" });',
  "await serve({ prt: 0 });",
  "await alone.call.GREET({});",
  "await inside.stream.COUNT({});",
  "await page.call.GREET({});",
  "await connectPage({ port: 1 });",
];

/** What brings the types of streams and signals. */
const DOM = { lib: ["dom", "dom.asynciterable"], types: [] };
const NODE = { lib: [], types: ["node"], typeRoots: [`${root}.ci/npm/node_modules/@types`] };

testWith(["npm"], "tsc --strict takes right calls, and refuses a missing parameter and other mistakes", async () => {
  const { folder } = await withArchive();
  const lines = TYPED.trimStart().split("\n").length;
  await folder.write("typed.ts", `${TYPED.trimStart()}${MISTAKES.join("\n")}\n`);
  for (
    const [module, moduleResolution, platform] of [
      ["nodenext", "nodenext", DOM],
      ["esnext", "bundler", DOM],
      ["nodenext", "nodenext", NODE],
    ] as const
  ) {
    const lib = ["es2022", "esnext.disposable", ...platform.lib];
    const options = { ...platform, lib, module, moduleResolution, strict: true, noEmit: true, target: "es2022" };
    await folder.write("tsconfig.json", JSON.stringify({ compilerOptions: options, files: ["typed.ts"] }));
    const tsc = output("node", [`${root}.ci/npm/node_modules/typescript/bin/tsc`, "--pretty", "false"], folder.path);
    const said = await tsc.then(() => "", ({ message }) => (message as string).replace(/^.*\n/, ""));
    const wrong = [...said.matchAll(/^(\S+)\((\d+),\d+\): /gm)].map(([, file, line]) =>
      `${file} ${Number(line) - lines}`
    );
    assertEquals([...new Set(wrong)], MISTAKES.map((_, index) => `typed.ts ${index}`), said);
  }
});

/** What a program exports with inferred types, by the door that it imports alone. */
const INFERRED = {
  "@packline/packline": `
    import { command, connect, middleware, reply, serve } from "@packline/packline";
    const named = middleware((call, next) => next({ user: String(call.meta.user) }));
    export const commands = {
      PRICE: command((_params: object) => reply(9.5, { currency: "EUR" })),
      WHO: command.with(named)((_params: object, { user }) => user),
    };
    export const server = await serve({ port: 0, commands });
    export const client = await connect<typeof commands>({ port: server.port });
    export const price = client.reply.PRICE({});
    export const other = server.listen({ port: 0 });
    export const made = [server.statistics(), client.statistics(), client.call.STATS(), client.call.INFO()] as const;
    export const end = () => server.shutdown();
  `,
  "@packline/packline/client": `
    import { connect } from "@packline/packline/client";
    export const client = await connect({ port: 1235 });
    export const pong = client.outcome.PING();
    export const ping = client.call.PING;
  `,
  "@packline/packline/web": `
    import { connect } from "@packline/packline/web";
    export const client = await connect({ url: "wss://app.example" });
    export const pong = client.outcome.PING();
    export const ping = client.call.PING;
  `,
};

testWith(["npm"], "tsc writes the types that a program infers, with names that it can import", async () => {
  const { folder } = await withArchive();
  const lib = ["esnext", ...DOM.lib];
  const options = { ...DOM, lib, module: "nodenext", strict: true, declaration: true, outDir: "declared" };
  for (const [door, code] of Object.entries(INFERRED)) {
    await folder.write("inferred.ts", code);
    await folder.write("tsconfig.json", JSON.stringify({ compilerOptions: options, files: ["inferred.ts"] }));
    await output("node", [`${root}.ci/npm/node_modules/typescript/bin/tsc`, "--pretty", "false"], folder.path);
    const declared = await Deno.readTextFile(`${folder.path}/declared/inferred.d.ts`);
    const named = [...declared.matchAll(/import\("(.*?)"\)/g)].map(([, specifier]) => specifier);
    assert(named.length > 0 && named.every((each) => [door, "@packline/packline/types"].includes(each)), declared);
  }
});

testWith(["npm", "chromium"], "a page takes its client from the archive, as it is", async () => {
  const { folder } = await withArchive();
  await using site = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, async ({ url }) => {
    const { pathname } = new URL(url);
    if (pathname === "/") {
      return new Response("<!DOCTYPE html><link rel=icon href=data:,><title>-</title>", {
        headers: { "content-type": "text/html" },
      });
    }
    const code = await Deno.readTextFile(`${folder.path}/node_modules/${config.name}${pathname}`);
    return new Response(code, { headers: { "content-type": "text/javascript" } });
  });
  const origin = `http://127.0.0.1:${site.addr.port}`;
  const GREET = ours.command(({ name }: { name: string }) => `Hello, ${name}!`);
  await using server = await ours.serve({ port: 0, commands: { GREET }, webOrigins: [origin] });
  await using browser = await Chromium.start();
  await browser.open(`${origin}/`);
  const greeting = await browser.evaluate(`(async () => {
    const { connect } = await import("/client/web.js");
    const client = await connect({ url: "ws://127.0.0.1:${server.port}" });
    try {
      return await client.call.GREET({ name: "Ada" });
    } finally {
      await client.close();
    }
  })()`);
  assertEquals([greeting, browser.said], ["Hello, Ada!", []]);
});

testWith(["npm"], "the tests of the client hold on Node", async () => {
  const { all } = await withArchive();
  const node = nodeOf(all);
  await output(Deno.execPath(), ["task", "--quiet", "--config", ".ci/npm/deno.json", "client-suite"], root);
  const said = await output(
    node.command[0],
    ["--test-reporter=tap", "dist/npm-tests/main.js"],
    root,
  );
  const skipped = [...said.matchAll(/^ok \d+ - (.*) # SKIP (.*)$/gm)].map(([, name, why]) =>
    `left out: ${name}: ${why}`
  );
  const [, passed] = said.match(/^# pass (\d+)$/m) ?? [];
  // The last one is the program's own.
  console.log(`${node.name}: ${Number(passed) - 1} tests of tests/client/ hold, ${skipped.length} are left out`);
  console.log(skipped.join("\n"));
  assertMatch(said, /^# fail 0$/m);
  assert(Number(passed) > 300 && skipped.length <= 10, said);
});

testWith(["npm"], "docs/node.md does what it says", async () => {
  const { folder, all } = await withArchive();
  const text = await Deno.readTextFile(`${root}docs/node.md`);
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const port = `${listener.addr.port}`;
  listener.close();
  let commands = 0;
  for (const [, kind, block] of text.matchAll(/^```(.+)\n([^]*?)^```$/gm)) {
    if (kind === "js ignore") {
      const [, name] = block.match(/^\/\/ (\S+)\n/) ?? [];
      await folder.write(name, block.replaceAll("1300", port));
      continue;
    }
    for (const [, line, printed] of block.matchAll(/^\$ (.*)\n((?:(?!\$ ).*\n)*)/gm)) {
      commands++;
      const [program, ...args] = line.replace("../packline/", root).split(" ");
      const path = { deno: Deno.execPath(), node: nodeOf(all).command[0] }[program] ?? program;
      const said = await output(path, args, program === "deno" ? root : folder.path);
      assert(said.endsWith(printed), `${line}: ${said}`);
    }
  }
  assertEquals(commands, 3);
});
