/** What a service with many commands costs the compiler. */

import { assert } from "@std/assert";
import { typesMade } from "./support/types_made.ts";

const MANY = 500;

/** It has zod. */
const CONFIG = new URL("../examples/service/deno.json", import.meta.url).pathname;

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

Deno.test("types - 500 commands with schemas, and their calls, make at most 2.2 times the types of the schemas alone", async () => {
  const one = await typesMade(service(1), CONFIG);
  const many = await typesMade(service(MANY), CONFIG) - one;
  const bare = await typesMade(bareSchemas(MANY), CONFIG);
  assert(many <= 2.2 * bare, `${many} types for ${MANY} commands, ${bare} for their schemas`);
});
