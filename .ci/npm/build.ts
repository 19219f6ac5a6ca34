/**
 * Makes the archive for npm, in `dist/`: the library for Node and Bun and the client for pages, as modules and their types,
 * with what they use of std in it.
 *
 * In: the doors below, deno.json. Out: `dist/npm/`, and its archive, whose path is printed. Refused: an exported name without
 * an explicit type.
 */

import { build, type BuildOptions, type Plugin, stop } from "esbuild";
import ts from "typescript";

const root = new URL("../..", import.meta.url);
const folder = new URL("dist/npm/", root);

/** The types that the public types use. Beside it, every door refers to them: see {@linkcode writeTypes}. */
const TYPES_DOOR = "./types";

/** What a program can import, and the module that it leads to. */
const DOORS: Record<string, string> = {
  ".": "node.ts",
  "./client": "client/node.ts",
  "./testing": "testing.ts",
  "./web": "client/web.ts",
  [TYPES_DOOR]: "types.ts",
};

const { name, version, license } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));

/** The oldest that has `process.getBuiltinModule()`. */
const NODE = "20.16";

/** What the modules of the project import from elsewhere. */
const outside: Plugin = {
  name: "outside",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^(jsr:|@std\/)/ }, ({ path }) => ({ path: new URL(import.meta.resolve(path)).pathname }));
    // Only that is asked of it.
    onLoad({ filter: /\/deno\.json$/ }, () => ({ contents: JSON.stringify({ version }), loader: "json" }));
  },
};

/** Writes the modules of all doors; what several of them share is in modules of its own. */
export async function writeModules(
  entryPoints: Record<string, string>,
  outdir: string,
  { inject = [], plugins = [] }: Pick<BuildOptions, "inject" | "plugins"> = {},
): Promise<void> {
  await build({
    absWorkingDir: root.pathname,
    ...{ entryPoints, outdir, bundle: true, splitting: true, chunkNames: "shared/[hash]" },
    ...{ format: "esm", platform: "node", target: `node${NODE}` },
    // Node 20 has it not.
    define: { "Promise.withResolvers": "withResolvers" },
    inject: [".ci/npm/with_resolvers.js", ...inject],
    plugins: [outside, ...plugins],
    logLevel: "warning",
  });
}

/**
 * Writes the types of modules, and of all modules that these name. Each module also refers to all types that a program
 * need not name: with `declaration`, the compiler writes the names of inferred types into a program's own types, and
 * takes them from no module that a program cannot import.
 */
async function writeTypes(paths: string[], allTypes: string): Promise<void> {
  const program = ts.createProgram(paths.map((path) => new URL(path, root).pathname), {
    ...{ declaration: true, emitDeclarationOnly: true, allowImportingTsExtensions: true, resolveJsonModule: true },
    ...{ target: ts.ScriptTarget.ESNext, module: ts.ModuleKind.Preserve, strict: true, types: [] },
    noCheck: true, // `deno task check` does, with the types of Deno
  });
  const texts = new Map<string, string>();
  program.emit(undefined, (path, text) => texts.set(path.slice(root.pathname.length), text));
  const met = new Set(paths.map(typesOf));
  for (const path of met) {
    const text = texts.get(path) as string;
    const to = new URL(`types/${path}`, folder);
    const up = path.replace(/[^/]+$/, "").replaceAll(/[^/]+/g, "..");
    const isDoor = paths.some((each) => typesOf(each) === path && each !== allTypes);
    const reference = isDoor ? `import type {} from "./${up}${allTypes.replace(/ts$/, "js")}";\n` : "";
    await Deno.mkdir(new URL(".", to), { recursive: true });
    await Deno.writeTextFile(to, withModules(text, path, (named) => met.add(named)) + reference);
  }
}

/** A text of types that names modules of the archive; its examples name the archive. */
function withModules(text: string, path: string, onNamed: (path: string) => void): string {
  let written = "";
  let end = 0;
  for (const { fileName, pos } of ts.preProcessFile(text).importedFiles) {
    onNamed(typesOf(new URL(fileName, `file:///${path}`).pathname.slice(1)));
    const start = text.indexOf(fileName, pos);
    written += `${inExamples(text.slice(end, start))}${fileName.replace(/ts$/, "js")}`;
    end = start + fileName.length;
  }
  return written + inExamples(text.slice(end));
}

function inExamples(text: string): string {
  return text.replaceAll(
    / from "\.[^"]*?(\w+)\.ts"/g,
    (_, door) => ` from "${name}${door === "testing" ? "/testing" : ""}"`,
  );
}

function typesOf(path: string): string {
  return path.replace(/ts$/, "d.ts");
}

async function makeArchive(): Promise<string> {
  await Deno.remove(folder, { recursive: true }).catch(() => {});
  await Deno.mkdir(folder, { recursive: true });
  const modules = Object.values(DOORS);
  await writeModules(Object.fromEntries(modules.map((path) => [path.replace(/\.ts$/, ""), path])), folder.pathname);
  await writeTypes(modules, DOORS[TYPES_DOOR]);
  const exports = Object.fromEntries(
    Object.entries(DOORS).map(([door, path]) => [
      door,
      { types: `./types/${typesOf(path)}`, default: `./${path.replace(/\.ts$/, ".js")}` },
    ]),
  );
  const packed = {
    ...{
      name,
      version,
      license,
      description: "Typed calls between processes: MessagePack over TCP, TLS, unix sockets and WebSockets",
    },
    ...{ type: "module", exports, sideEffects: false, engines: { node: `>=${NODE}` } },
  };
  await Deno.writeTextFile(new URL("package.json", folder), `${JSON.stringify(packed, undefined, 2)}\n`);
  for (const file of ["README.md", "LICENSE"]) await Deno.copyFile(new URL(file, root), new URL(file, folder));
  const { code, stdout, stderr } = await new Deno.Command("npm", {
    args: ["pack", "--silent", "--pack-destination", "..", "."],
    cwd: folder,
  }).output();
  if (code !== 0) throw new Error(`npm pack has failed: ${new TextDecoder().decode(stderr)}`);
  return `dist/${new TextDecoder().decode(stdout).trim()}`;
}

if (import.meta.main) {
  console.log(await makeArchive());
  await stop(); // esbuild's own process
}
