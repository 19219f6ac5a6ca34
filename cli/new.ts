/**
 * Makes a new service: a folder with commands, their tests, a client and a container.
 *
 *     deno run --allow-write=. jsr:@packline/packline/new my-service
 *
 * In: the name of the folder. Out: its files, and the commands to run next. Refused, in one line: an invalid name, or a
 * folder that exists (2); a missing permission (1).
 *
 * @module
 */

import clientText from "../examples/template/client.ts.txt" with { type: "text" };
import commandsText from "../examples/template/commands.ts.txt" with { type: "text" };
import commandsTestText from "../examples/template/commands_test.ts.txt" with { type: "text" };
import containerText from "../examples/template/Containerfile" with { type: "text" };
import config from "../examples/template/deno.json" with { type: "json" };
import readmeText from "../examples/template/README.md" with { type: "text" };
import serverText from "../examples/template/server.ts.txt" with { type: "text" };
import { isDenied } from "../transport/runtime.ts";

// Source files end in .txt, because publishing rewrites the imports of modules.
const FILES: Readonly<Record<string, string>> = {
  "client.ts": clientText,
  "commands.ts": commandsText,
  "commands_test.ts": commandsTestText,
  "Containerfile": containerText,
  "README.md": readmeText,
  "server.ts": serverText,
};

/** The placeholder for the name in the template's files. */
const TEMPLATE_NAME = "my-service";

const NAME = /^[a-z][a-z0-9_-]*$/;

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

/**
 * Makes the folder.
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
    console.error(`Cannot use ${JSON.stringify(name)} as a name: use lower-case letters, digits and dashes`);
    return 2;
  }
  try {
    await Deno.mkdir(name);
    for (const [file, text] of Object.entries({ ...FILES, "deno.json": configText() })) {
      await Deno.writeTextFile(`${name}/${file}`, text.replaceAll(TEMPLATE_NAME, name));
    }
  } catch (error) {
    if (error instanceof Deno.errors.AlreadyExists) {
      console.error(`Cannot make ${name}: it exists already`);
      return 2;
    }
    if (!isDenied(error)) throw error;
    console.error(`Cannot write ${name}: add --allow-write=.`);
    return 1;
  }
  console.log(
    `${name} is ready:\n\n    cd ${name}\n    deno task test\n    deno task dev\n    deno task call GREET name=Ada`,
  );
  return 0;
}

if (import.meta.main) Deno.exitCode = await main(Deno.args);
