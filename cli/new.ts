/**
 * Makes a new service: a folder with commands, their tests, a client and a container.
 *
 *     deno run --allow-write=. jsr:@packline/packline/new my-service
 *
 * In: the name of the folder. Out: its files, and the commands to run next. Refused, in one line: an invalid name, or a
 * folder that exists (2); a missing permission, or another error of the system (1).
 *
 * @module
 */

import config from "../examples/template/deno.json" with { type: "json" };
import { isDenied, messageOf } from "../transport/runtime.ts";

/**
 * The template's files. Source files end in .txt, because publishing rewrites the imports of modules. Imported late: to
 * import a text through a symbolic link, Deno needs a permission, and its error comes before the first line of a program.
 */
const FILES: Readonly<Record<string, () => Promise<{ default: string }>>> = {
  "client.ts": () => import("../examples/template/client.ts.txt", { with: { type: "text" } }),
  "commands.ts": () => import("../examples/template/commands.ts.txt", { with: { type: "text" } }),
  "commands_test.ts": () => import("../examples/template/commands_test.ts.txt", { with: { type: "text" } }),
  "Containerfile": () => import("../examples/template/Containerfile", { with: { type: "text" } }),
  "README.md": () => import("../examples/template/README.md", { with: { type: "text" } }),
  "server.ts": () => import("../examples/template/server.ts.txt", { with: { type: "text" } }),
};

/** The placeholder for the name in the template's files. */
const TEMPLATE_NAME = "my-service";

const NAME = /^[a-z][a-z0-9_-]*$/;

/** Deno looks for no files in a folder of this name. */
const IGNORED_NAME = "node_modules";

const USAGE = "Usage: deno run --allow-write=. jsr:@packline/packline/new NAME";

/**
 * `deno.json` of the new service. If this module runs from a checkout, the service is linked to it: `links` must name
 * the folder of the package.
 */
function configText(): string {
  const { protocol, pathname } = new URL("..", import.meta.url);
  const links = protocol === "file:" ? { links: [decodeURIComponent(pathname).replace(/\/$/, "")] } : {};
  return JSON.stringify({ ...config, ...links }, null, 2) + "\n";
}

/** Makes the folder. The template is read first: a folder without its files would be in the way of the next attempt. */
async function make(name: string): Promise<void> {
  const texts = new Map([["deno.json", configText()]]);
  for (const [file, load] of Object.entries(FILES)) {
    const { default: text } = await load();
    texts.set(file, text.replaceAll(TEMPLATE_NAME, name));
  }
  await Deno.mkdir(name);
  for (const [file, text] of texts) await Deno.writeTextFile(`${name}/${file}`, text);
}

/**
 * Makes a new service.
 *
 * @param args The arguments of the command line.
 * @returns The exit code.
 */
export async function main(args: readonly string[]): Promise<number> {
  const [name] = args;
  if (args.length !== 1 || name === "--help") {
    console.error(USAGE);
    return name === "--help" ? 0 : 2;
  }
  if (!NAME.test(name)) {
    console.error(
      `Cannot use ${
        JSON.stringify(name)
      } as a name: use lower-case letters, digits and dashes, and begin with a letter`,
    );
    return 2;
  }
  if (name === IGNORED_NAME) {
    console.error(`Cannot use "${name}" as a name: Deno ignores a folder of this name`);
    return 2;
  }
  try {
    await make(name);
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) {
      console.error(`Cannot make ${name}: it exists already`);
      return 2;
    }
    console.error(
      isDenied(error) ? `Cannot write ${name}: add --allow-write=.` : `Cannot make ${name}: ${messageOf(error)}`,
    );
    return 1;
  }
  console.log(
    `${name} is ready:\n\n    cd ${name}\n    deno task test\n    deno task dev\n    deno task call GREET name=Ada`,
  );
  return 0;
}

if (import.meta.main) Deno.exitCode = await main(Deno.args);
