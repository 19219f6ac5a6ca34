/**
 * Makes the tests of `tests/client/` a program of Node's: over Node's doors, and with what they use of Deno in
 * `deno_in_node.ts`.
 *
 * In: the tests. Out: `dist/npm-tests/main.js`. Refused: nothing; what needs more of Deno says so when it runs.
 */

import { type Plugin, stop } from "esbuild";
import { writeModules } from "./build.ts";

const root = new URL("../..", import.meta.url);
const folder = new URL("dist/npm-tests/", root);

/** The doors of Deno, and those of Node. */
const DOORS: Record<string, string> = {
  "client.ts": "client/node.ts",
  "client/connect.ts": "client/node.ts",
  "mod.ts": "node.ts",
  "server.ts": "node.ts",
};

const nodeDoors: Plugin = {
  name: "doors of Node",
  setup({ onResolve }) {
    onResolve({ filter: /^\..*\.ts$/ }, ({ path, resolveDir }) => {
      const target = new URL(path, `file://${resolveDir}/`).pathname;
      const door = DOORS[target.slice(root.pathname.length)];
      return door === undefined ? undefined : { path: `${root.pathname}${door}` };
    });
  },
};

const files: string[] = [];
for await (const { name } of Deno.readDir(new URL("tests/client/", root))) {
  if (name.endsWith("_test.ts")) files.push(name.replace(/\.ts$/, ""));
}
files.sort();
const entries = Object.fromEntries(files.map((name) => [name, `tests/client/${name}.ts`]));
await Deno.remove(folder, { recursive: true }).catch(() => {});
await writeModules({ ...entries, deno_in_node: ".ci/npm/deno_in_node.ts" }, folder.pathname, {
  inject: [".ci/npm/deno_in_node.ts"],
  plugins: [nodeDoors],
});
await Deno.writeTextFile(new URL("package.json", folder), '{ "type": "module" }\n');
await Deno.writeTextFile(
  new URL("main.js", folder),
  `import { end, load } from "./deno_in_node.js";\n${
    files.map((name) => `await load("${name}", () => import("./${name}.js"));\n`).join("")
  }end();\n`,
);
await stop();
