/** RELIABILITY.md, held against what it speaks of: limits, codes, suites. */

import { assert, assertEquals } from "@std/assert";
import { DEFAULT_LIMITS, LIMIT_NAMES } from "../../limits.ts";

const root = new URL("../../", import.meta.url);
const text = await Deno.readTextFile(new URL("RELIABILITY.md", root));

Deno.test("RELIABILITY.md has each limit, with its default and a reason, and no other", () => {
  const rows = [...text.matchAll(/^\| `(\w+)` +\| +([\d,]+|Infinity) \| (.+?) +\| (.+?) +\|$/gm)];
  assertEquals(
    rows.map(([, name, value]) => [name, Number(value.replaceAll(",", ""))]),
    LIMIT_NAMES.map((name) => [name, DEFAULT_LIMITS[name]]),
  );
});

Deno.test("RELIABILITY.md names error codes that there are", async () => {
  const errors = await Deno.readTextFile(new URL("errors.ts", root));
  const codes = new Set([...text.matchAll(/`([A-Z]+_[A-Z_]+|[A-Z]{6,})`/g)].map(([, code]) => code));
  assert(codes.size >= 10, `only ${codes.size} codes`);
  for (const code of codes) assert(errors.includes(`"${code}"`), `there is no code ${code}`);
});

Deno.test("RELIABILITY.md names suites that there are, and each suite", async () => {
  const named = new Set([...text.matchAll(/`tests\/faults\/(\w+)`/g)].map(([, name]) => `${name}_test.ts`));
  const suites = [];
  for await (const { name } of Deno.readDir(new URL("tests/faults/", root))) {
    if (name.endsWith("_test.ts") && !["fault_proxy_test.ts", "reliability_document_test.ts"].includes(name)) {
      suites.push(name);
    }
  }
  assertEquals([...named].sort(), suites.sort());
});

Deno.test("RELIABILITY.md: every link leads somewhere", async () => {
  const anchors = [...text.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    `#${heading.toLowerCase().replaceAll(" ", "-")}`
  );
  for (const [, link] of text.matchAll(/\]\(([^)]+)\)/g)) {
    if (link.startsWith("#")) assert(anchors.includes(link), link);
    else await Deno.stat(new URL(link, root));
  }
});
