/**
 * Who may import whom, and what may stand where: the shape of the project, read off the import lines
 * of every shipped module. A new file falls under the rules of its folder; a new folder needs a line here.
 */

import { assert, assertEquals } from "@std/assert";
import { demoCommands } from "../cli/demo_commands.ts";
import { builtIns } from "../handlers/registry.ts";

/** What the modules of a place may import: code, and beyond it types alone. */
interface Rule {
  code: string[];
  types?: string[];
}

const BASE = ["errors.ts", "limits.ts"];

/** What both sides stand on: bytes, messages, and one connection of both. */
const GROUND = ["codec/", "transport/", "session/"];

const RULES: Record<string, Rule> = {
  "errors.ts": { code: [] },
  "limits.ts": { code: [] },
  "codec/": { code: [...BASE, "codec/"] },
  "transport/": { code: [...BASE, "transport/"] },
  "session/": { code: [...BASE, "codec/", "transport/", "session/"] },
  "handlers/": { code: [...BASE, ...GROUND, "handlers/", "deno.json"] },
  "client/": { code: [...BASE, ...GROUND, "client/"], types: ["handlers/"] },
  "types.ts": { code: [], types: ["errors.ts", "client/", "handlers/", "server.ts", "transport/"] },
  "testing.ts": { code: ["transport/", "client/"], types: ["handlers/"] },
  "server.ts": { code: [...BASE, ...GROUND, "handlers/", "cli/"] },
  "client.ts": { code: ["client/", "cli/"] },
  "cli/": {
    code: [
      ...BASE,
      ...GROUND,
      "handlers/",
      "client/",
      "cli/",
      "deno.json",
      "examples/",
    ],
  },
  "mod.ts": { code: [...BASE, "transport/", "handlers/", "client/", "server.ts"] },
  "node.ts": { code: [...BASE, "transport/", "handlers/", "client/"] },
};

/** What a user sees at the top; `bench/`, `examples/` and `tests/` use the project and are not shipped. */
const TOP_LEVEL = [
  ...[
    "deno.json",
    "deno.lock",
    "jsr.json",
    "mod.ts",
    "node.ts",
    "server.ts",
    "client.ts",
    "testing.ts",
    "types.ts",
    "errors.ts",
    "limits.ts",
  ],
  ...["transport", "codec", "session", "handlers", "client", "cli", "tests", "bench", "examples", "docs", ".ci"],
  ...["README.md", "PROTOCOL.md", "RELIABILITY.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE"],
];

/** Folders in a folder: a room has none, unless all that is in it is of one kind. */
const INNER_FOLDERS = ["handlers/built_ins"];

/** The modules that use the runtime's Node interface, where there is no other: TLS, lines typed at a prompt. */
const NODE_USERS = [
  "transport/node_acceptor.ts",
  "transport/node_listener.ts",
  "transport/node_network.ts",
  "transport/node_transport.ts",
  "transport/tls_acceptor.ts",
  "transport/tls_socket.ts",
  "cli/hangup.ts",
  "cli/line_editor.ts",
];

/** All that shipped code needs from elsewhere. */
const STD = /^jsr:@std\/(msgpack|cli)@\^\d+\.\d+\.\d+(\/[\w-]+)?$/;

const root = new URL("..", import.meta.url);

// Modules and their imports -----------------------------------------------------------------------------------------

interface Import {
  specifier: string;
  /** Where it leads, from the project's root; a package stays as it is. */
  target: string;
  /** Code that is there from the start, code that is loaded when it is needed, or types that are gone at run time. */
  kind: "code" | "late" | "types";
}

interface Module {
  path: string;
  text: string;
  imports: Import[];
}

/** The imports and re-exports of a text, those in comments left out. */
function importsOf(path: string, withComments: string): Import[] {
  const text = codeOf(withComments);
  const found: Import[] = [];
  const add = (specifier: string, kind: Import["kind"]) =>
    found.push({ specifier, kind, target: targetOf(path, specifier) });
  for (const [, names, specifier] of text.matchAll(/^(?:im|ex)port\s+(?:([^;"]*?)\s*from\s+)?"([^"]+)"/gm)) {
    add(specifier, isTypeOnly(names ?? "") ? "types" : "code");
  }
  for (const [, typeOf, specifier] of text.matchAll(/^(?! *\*).*?(typeof )?\bimport\("([^"]+)"\)/gm)) {
    add(specifier, typeOf ? "types" : "late");
  }
  return found;
}

function isTypeOnly(names: string): boolean {
  if (names.startsWith("type ")) return true;
  const [, list] = names.match(/^\{([^}]*)\}$/) ?? [];
  return list !== undefined && list.split(",").every((name) => name.trim() === "" || name.trim().startsWith("type "));
}

function targetOf(path: string, specifier: string): string {
  if (!/^\.{0,2}\//.test(specifier)) return specifier;
  return new URL(specifier, `file:///${path}`).pathname.slice(1);
}

async function shippedModules(): Promise<Map<string, Module>> {
  const modules = new Map<string, Module>();
  const add = async (path: string) => {
    const text = await Deno.readTextFile(new URL(path, root));
    modules.set(path, { path, text, imports: importsOf(path, text) });
  };
  const addFolder = async (folder: string) => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(folder, root))) {
      const path = folder + name;
      if (name.endsWith(".ts")) await add(path);
      else assert(isDirectory && INNER_FOLDERS.includes(path), `${path} is a folder in a folder`);
      if (isDirectory) await addFolder(`${path}/`);
    }
  };
  for (const place of Object.keys(RULES)) {
    if (!place.endsWith("/")) {
      await add(place);
      continue;
    }
    await addFolder(place);
  }
  return modules;
}

const modules = await shippedModules();

function placeOf(path: string): string {
  return path.includes("/") ? path.slice(0, path.indexOf("/") + 1) : path;
}

/** What modules import against the rules, a line each. */
function violations(modules: Iterable<Module>): string[] {
  const found: string[] = [];
  for (const { path, imports } of modules) {
    const { code, types = [] } = RULES[placeOf(path)];
    for (const { target, specifier, kind } of imports) {
      const places = kind === "types" ? [...code, ...types] : code;
      if (NODE_USERS.includes(path) && specifier.startsWith("node:")) continue;
      const isPackage = target === specifier;
      if (isPackage ? !STD.test(specifier) : !places.includes(placeOf(target))) found.push(`${path}: ${specifier}`);
    }
  }
  return found;
}

/** All that a module leads to by imports of some kinds, itself only if it leads there. */
function reachable(start: string, kinds: Import["kind"][] = ["code", "late", "types"]): Set<string> {
  const met = new Set<string>();
  const meet = (path: string) => {
    for (const { target, kind } of modules.get(path)?.imports ?? []) {
      if (!kinds.includes(kind) || met.has(target)) continue;
      met.add(target);
      meet(target);
    }
  };
  meet(start);
  return met;
}

/** A text without its comments. */
function codeOf(text: string): string {
  return text.replaceAll(/\/\*\*?[^]*?\*\//g, "").replaceAll(/(^|\s)\/\/.*$/gm, "");
}

// The rules ---------------------------------------------------------------------------------------------------------

Deno.test("every shipped module imports only what its place allows", () => {
  assert(modules.size > 30, `only ${modules.size} were found`);
  assertEquals(violations(modules.values()), []);
});

Deno.test("an import against the rules is noticed, however it is written", () => {
  const found = (path: string, text: string) => violations([{ path, text, imports: importsOf(path, text) }]);
  const bad: [path: string, text: string][] = [
    ["codec/a.ts", 'import { builtIns } from "../handlers/registry.ts";'],
    ["codec/a.ts", 'import type { BuiltIns } from "../handlers/registry.ts";'],
    ["codec/a.ts", 'import {\n  sleep,\n} from "../transport/clock.ts";'],
    ["transport/a.ts", 'import { type Command, command } from "../handlers/command.ts";'],
    ["transport/a.ts", 'export * from "../server.ts";'],
    ["client.ts", 'const { serve } = await import("./server.ts");'],
    ["handlers/a.ts", 'import "../client.ts";'],
    ["errors.ts", 'import { DEFAULT_PORT } from "./limits.ts";'],
    ["cli/a.ts", 'import { serve } from "../mod.ts";'],
    ["codec/a.ts", 'import { decode } from "@std/msgpack";'],
    ["codec/a.ts", 'import { z } from "npm:zod@4";'],
    ["codec/a.ts", 'import { decode } from "jsr:@std/msgpack";'],
  ];
  for (const [path, text] of bad) assertEquals(found(path, text).length, 1, text);
  const good: [path: string, text: string][] = [
    ["client/a.ts", 'import { type Command, type Commands } from "../handlers/command.ts";'],
    ["client/a.ts", 'export type { Command } from "../handlers/command.ts";'],
    ["codec/a.ts", '/**\n * import { serve } from "../server.ts";\n * await import("../server.ts")\n */'],
    ["codec/a.ts", 'import { decode } from "jsr:@std/msgpack@^1.0.3/decode";'],
  ];
  for (const [path, text] of good) assertEquals(found(path, text), [], text);
});

Deno.test("the server's code and the client's do not reach each other", () => {
  assert(!reachable("client.ts").has("server.ts"), "client.ts leads to server.ts");
  assert(!reachable("server.ts").has("client.ts"), "server.ts leads to client.ts");
});

Deno.test("a client carries no code of the server's, until its script is run", () => {
  assertEquals([...reachable("client.ts", ["code"])].filter((path) => path.startsWith("handlers/")), []);
});

/** The modules of a package that one of them leads to, itself included. */
async function modulesOf(url: string, met = new Set<string>()): Promise<Set<string>> {
  if (met.has(url)) return met;
  met.add(url);
  const code = codeOf(await Deno.readTextFile(new URL(url)));
  for (const [, specifier] of code.matchAll(/^(?:im|ex)port\b[^"]*"(\.[^"]+)"/gm)) {
    await modulesOf(new URL(specifier, url).href, met);
  }
  return met;
}

/** Each module is a round trip where the library comes from a URL, and a file more to read. The aim is under 35. */
const MOST_CLIENT_MODULES = 47;

Deno.test("the client's entry loads few modules, those of std included, and none of the script's", async () => {
  const loaded = ["client/connect.ts", ...reachable("client/connect.ts", ["code"])];
  assertEquals(loaded.filter((path) => /^(cli|handlers)\/|^(client|server|mod)\.ts$/.test(path)), []);
  const std = new Set<string>();
  for (const path of loaded) if (!modules.has(path)) await modulesOf(import.meta.resolve(path), std);
  const own = loaded.filter((path) => modules.has(path));
  const count = own.length + std.size;
  assert(count <= MOST_CLIENT_MODULES, `${own.length} and ${std.size} of std: ${own.join(" ")}`);
});

Deno.test("a command sees neither frames nor sockets", () => {
  const allowed = [
    "errors.ts",
    "limits.ts",
    "handlers/built_ins/built_in.ts",
    "handlers/command.ts",
    "handlers/server_info.ts",
    "transport/clock.ts",
  ];
  for (const name of Object.keys({ ...builtIns, ...demoCommands })) {
    const module = modules.get(`handlers/built_ins/${name.toLowerCase()}.ts`);
    assert(module, `${name} has no file of its own`);
    assertEquals(module?.imports.map(({ target }) => target).filter((target) => !allowed.includes(target)), [], name);
  }
});

Deno.test("nothing imports itself in a circle, types and what is loaded later included", () => {
  assertEquals([...modules.keys()].filter((path) => reachable(path).has(path)), []);
});

Deno.test("only transport/ and cli/ name the runtime, beside the two scripts' last lines", () => {
  const named = (path: string, text: string) =>
    !/^(transport|cli)\//.test(path) && /\bDeno\b/.test(codeOf(text).replace(/^if \(import\.meta\.main\) [^]*$/m, ""));
  assertEquals([...modules.values()].filter(({ path, text }) => named(path, text)).map(({ path }) => path), []);
  assert(named("session/a.ts", "/** Deno. */\nconst path = Deno.cwd();"));
  assert(!named("session/a.ts", "/** Deno. */\n// Deno, too\nconst path = 1; // not of Deno"));
});

/** The fields of each class of a text: declared in its body, at one level of indentation, or by its constructor. */
function fieldsByClass(text: string): Map<string, string[]> {
  const found = new Map<string, string[]>();
  for (const [, name, body] of text.matchAll(/^(?:export )?(?:abstract )?class (\w+)[^{]*\{\n(.*?)^\}/gms)) {
    const declared = body.matchAll(
      /^ {2}(?:(?:private|protected|static|override|declare|readonly) )*(#?\w+)[?!]?(?:: [^({]|: \(|: \{| = |;)/gm,
    );
    const inConstructor = /^ {2}constructor\((.*?)^ {2}\)|^ {2}constructor\((.*)\) \{/ms.exec(body);
    const parameters = (inConstructor?.[1] ?? inConstructor?.[2] ?? "").matchAll(
      /(?:^|,)\s*(?:readonly|private) (\w+)/g,
    );
    found.set(name, [...declared, ...parameters].map(([, field]) => field));
  }
  return found;
}

Deno.test("no class has more than 12 fields", () => {
  assertEquals(
    fieldsByClass(
      "export class A<T> implements B {\n  readonly a: number;\n  #b = 1;\n  c?: () => void;\n  d(): void {}\n  get e(): 1 {}\n  constructor(readonly f: 1, g: 2) {}\n}\n",
    ),
    new Map([["A", ["a", "#b", "c", "f"]]]),
  );
  const large = [...modules.values()].flatMap(({ path, text }) =>
    [...fieldsByClass(text)].filter(([, fields]) => fields.length > 12).map(([name, fields]) =>
      `${path}: ${name} has ${fields.length}: ${fields.join(" ")}`
    )
  );
  assertEquals(large, []);
});

Deno.test("no name is exported by two modules, unless the second passes on the first one's", () => {
  const owners = new Map<string, string[]>();
  for (const { path, text } of modules.values()) {
    for (
      const [, name] of codeOf(text).matchAll(
        /^export (?:async |abstract )?(?:function\*?|class|const|interface|type) (\w+)/gm,
      )
    ) {
      owners.set(name, [...new Set([...owners.get(name) ?? [], path])]);
    }
  }
  // Each program has a `main`, which only its own entry imports; the doors of each runtime go by the same names.
  const shared = ["main", "connect", "dnsServers", "serve", "createServer"];
  assertEquals([...owners].filter(([name, paths]) => paths.length > 1 && !shared.includes(name)), []);
});

Deno.test("no shipped file has more than 400 lines", () => {
  const long = [...modules.values()].filter(({ text }) => text.trimEnd().split("\n").length > 400);
  assertEquals(long.map(({ path }) => path), []);
});

Deno.test("nothing behind mod.ts has a bare specifier, and each package is one that deno.json maps", async () => {
  const { imports } = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const met = [...reachable("mod.ts")];
  assert(met.length > 30, `only ${met.length} were found`);
  const packages = met.filter((target) =>
    !modules.has(target) && target !== "deno.json" && !target.startsWith("node:")
  );
  assert(packages.length >= 1);
  assertEquals(packages.filter((specifier) => !STD.test(specifier) || !(specifier in imports)), []);
});

Deno.test("nothing shipped imports mod.ts, which only opens doors", () => {
  const { text } = modules.get("mod.ts") as Module;
  const code = text.replaceAll(/^\/\*\*[^]*?\*\/$/gm, "").trim().split(/(?<=;)\n/);
  assertEquals(code.filter((one) => !/^export (type )?(\*|\{[^}]*\}) from "\.\/[\w/]+\.ts";$/.test(one)), []);
  for (const { path, imports } of modules.values()) {
    assert(!imports.some(({ target }) => target === "mod.ts"), `${path} imports mod.ts`);
  }
});

Deno.test("every shipped module begins with a note of what it is", () => {
  for (const { path, text } of modules.values()) assert(text.startsWith("/**"), `${path} does not`);
});

/** The paths of TypeScript files that a text names in backticks and that are none, as seen from a folder. */
function missingFiles(text: string, path: string, files: readonly string[]): string[] {
  const named = [...text.matchAll(/`((?:[\w.]+\/)*\w+\.ts)`/g)].map(([, name]) => name);
  const here = (name: string) => new URL(name, `file:///${path}`).pathname.slice(1);
  return named.filter((name) => !files.some((file) => `/${file}`.endsWith(`/${name}`) || file === here(name)));
}

Deno.test("comments and the documents for developers name files that exist", async () => {
  const files = [...modules.keys()];
  const addFolder = async (folder: string) => {
    for await (const { name, isDirectory } of Deno.readDir(new URL(folder, root))) {
      if (isDirectory && name !== "node_modules") await addFolder(`${folder}${name}/`);
      else files.push(folder + name);
    }
  };
  for (const folder of ["bench/", "examples/", "tests/"]) await addFolder(folder);
  for (const { path, text } of modules.values()) assertEquals(missingFiles(text, path, files), [], path);
  for (const path of ["docs/architecture.md", "CONTRIBUTING.md"]) {
    const missing = missingFiles(await Deno.readTextFile(new URL(path, root)), path, files);
    assertEquals(missing, path === "docs/architecture.md" ? ["handlers/built_ins/NAME.ts"] : [], path);
  }
  assertEquals(missingFiles("`gone.ts`, `codec/frame.ts`, `frame.ts`", "codec/a.ts", files), ["gone.ts"]);
});

Deno.test("the two scripts end in their command line", () => {
  for (const path of ["server.ts", "client.ts"]) {
    const end = modules.get(path)?.text.trimEnd().split("\n").slice(-5).join("\n") ?? "";
    assert(/if \(import\.meta\.main\) [^]*\}?$/.test(end), `${path} does not`);
  }
});

Deno.test("at the top stands what is listed here, and nothing else", async () => {
  const ignored = (await Deno.readTextFile(new URL(".gitignore", root))).split("\n").map((line) =>
    line.replace(/\/$/, "")
  );
  const found = [];
  for await (const { name } of Deno.readDir(root)) {
    const hidden = name.startsWith(".") && name !== ".ci";
    if (!hidden && !ignored.includes(name) && !TOP_LEVEL.includes(name)) found.push(name);
  }
  assertEquals(found, []);
});
