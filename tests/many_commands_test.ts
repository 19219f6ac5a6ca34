/**
 * What a service with many commands costs the compiler. The compiler counts the types that it makes, and this count
 * does not depend on the machine's load.
 */

import { assert } from "@std/assert";

const MANY = 500;

const SERVER = `
import { command } from "@packline/packline";
import { z } from "zod";
export const commands = {
`;

const CLIENT = `
import { connect } from "@packline/packline/client";
import type { commands } from "./server.ts";
await using client = await connect<typeof commands>({ port: 1235 });
`;

function service(count: number): Record<string, string> {
  const definitions = numbered(
    count,
    (n) =>
      `CMD${n}: command({ schema: z.object({ name${n}: z.string(), count: z.number() }), ` +
      `handler: ({ name${n}, count }) => name${n} + count }),`,
  );
  const calls = numbered(count, (n) => `(await client.call.CMD${n}({ name${n}: "a", count: 1 })).at(0);`);
  return { "server.ts": `${SERVER}${definitions}};`, "client.ts": CLIENT + calls };
}

/** The same schemas and handlers without packline. */
function bareSchemas(count: number): Record<string, string> {
  const schemas = numbered(
    count,
    (n) =>
      `const S${n} = z.object({ name${n}: z.string(), count: z.number() });\n` +
      `export const H${n} = ({ name${n}, count }: z.output<typeof S${n}>) => name${n} + count;\n` +
      `export const I${n}: z.input<typeof S${n}> = { name${n}: "a", count: 1 };`,
  );
  return { "server.ts": `import { z } from "zod";\n${schemas}` };
}

function numbered(count: number, line: (n: number) => string): string {
  return Array.from({ length: count }, (_, n) => line(n)).join("\n");
}

/** How many types the compiler makes to check these files. */
async function typesMade(files: Record<string, string>): Promise<number> {
  const folder = await Deno.makeTempDir();
  try {
    for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${folder}/${name}`, text);
    const config = new URL("../examples/service/deno.json", import.meta.url).pathname;
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "check",
        "--log-level=debug",
        "--config",
        config,
        ...Object.keys(files).map((name) => `${folder}/${name}`),
      ],
      env: { NO_COLOR: "1" },
      stdout: "null",
      stderr: "piped",
    }).output();
    const said = new TextDecoder().decode(stderr);
    assert(success, said.slice(-2000));
    return Number(said.match(/Instantiations: (\d+)/)?.[1]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("types - 500 commands with schemas, and their calls, make at most 2.2 times the types of the schemas alone", async () => {
  const one = await typesMade(service(1));
  const many = await typesMade(service(MANY)) - one;
  const bare = await typesMade(bareSchemas(MANY));
  assert(many <= 2.2 * bare, `${many} types for ${MANY} commands, ${bare} for their schemas`);
});
