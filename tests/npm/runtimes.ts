/**
 * Deno, Node and Bun, with the archive for npm installed: by which program each runs a script.
 *
 * In: nothing. Out: the archive in a folder of its own, and the runtimes that can be had, from this machine or from npm's
 * registry. Refused: nothing; what cannot be had is missing, and said so.
 */

import { Folder, Program, root } from "../production/programs.ts";

/** A runtime that runs a script. */
export interface Runtime {
  readonly name: string;
  /** The program, and the arguments before the script. */
  readonly command: readonly string[];
}

/** The folder is a package of Node's, which Deno must not take for its own. */
const env = { NO_COLOR: "1", DENO_NO_PACKAGE_JSON: "1" };

/** Runs a program to its end; fails if it does. */
export async function output(program: string, args: readonly string[], cwd?: string): Promise<string> {
  const command = new Deno.Command(program, { args: [...args], cwd, env, stdin: "null" });
  const { code, stdout, stderr } = await command.output();
  const [said, errors] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} has failed:\n${said}${errors}`);
  return said;
}

/** Makes the archive, and installs it in an empty folder. */
export async function install(): Promise<Folder> {
  const archive = (await output(Deno.execPath(), ["task", "--quiet", "npm"], root)).trim();
  const folder = await Folder.make();
  await folder.write("package.json", '{ "type": "module" }\n');
  await output("npm", ["install", "--silent", "--no-audit", "--no-fund", `${root}${archive}`], folder.path);
  return folder;
}

/** This Deno, which takes the checkout in place of the archive. */
async function deno(folder: Folder): Promise<Runtime> {
  const config = JSON.parse(await Deno.readTextFile(`${root}deno.json`));
  const imports = {
    ...Object.fromEntries(Object.entries(config.imports).filter(([name]) => name.startsWith("jsr:"))),
    ...{ "@packline/packline": `${root}mod.ts`, "@packline/packline/client": `${root}client/connect.ts` },
  };
  await folder.write("imports.json", JSON.stringify({ imports }));
  const flags = [
    "--allow-net",
    "--allow-read",
    "--allow-write",
    "--allow-sys",
    "--no-lock",
    "--import-map=imports.json",
  ];
  return { name: "Deno", command: [Deno.execPath(), "run", "--quiet", ...flags] };
}

/** The runtimes of others: their programs by name and version, of this machine, or else by npm's package. */
const OTHERS = [
  { name: "Node 20", program: "node", version: /^v20\./, source: "node@20" },
  { name: "Node 22", program: "node", version: /^v22\./, source: "node@22" },
  { name: "Bun", program: "bun", version: /^1\./, source: "bun@1" },
];

/** All that can be had: Deno first. */
async function runtimes(folder: Folder): Promise<Runtime[]> {
  const found = [await deno(folder)];
  for (const { name, program, version, source } of OTHERS) {
    try {
      const here = await output(program, ["--version"]).catch(() => "");
      const command = version.test(here)
        ? program
        : (await output("npx", ["--yes", "-p", source, "--", program, "-p", "process.execPath"])).trim();
      const [, last] = (await output(command, ["--version"])).match(/v?([\d.]+)/) ?? [];
      console.log(`${name} is ${last}`);
      found.push({ name, command: [command] });
    } catch (error) {
      console.log(`skipped: ${name}: it is not here, and npm cannot give it: ${String(error).split("\n")[1]}`);
    }
  }
  return found;
}

/** Starts a script. */
export function start({ command: [program, ...flags] }: Runtime, folder: Folder, args: string[], up: RegExp) {
  return Program.start(program, [...flags, ...args], up, { cwd: folder.path, env });
}

let made: Promise<{ folder: Folder; all: Runtime[] }> | undefined;

/** The archive beside the scripts of this folder, and who runs it. Both are made once, and there until the process ends. */
export function withArchive(): Promise<{ folder: Folder; all: Runtime[] }> {
  return made ??= (async () => {
    const folder = await install();
    addEventListener("unload", () => Deno.removeSync(folder.path, { recursive: true }));
    for (const script of ["service.mjs", "caller.mjs"]) {
      await Deno.copyFile(new URL(script, import.meta.url), `${folder.path}/${script}`);
    }
    return { folder, all: await runtimes(folder) };
  })();
}

/** The oldest Node. */
export function nodeOf(all: readonly Runtime[]): Runtime {
  const node = all.find(({ name }) => name.startsWith("Node"));
  if (node === undefined) throw new Error("there is no Node");
  return node;
}
