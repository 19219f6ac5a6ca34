/** docs/security.md and SECURITY.md, held against what they speak of: limits, tests, attacks, headings. */

import { assert, assertEquals } from "@std/assert";
import { DEFAULT_LIMITS, LIMIT_NAMES } from "../../limits.ts";
import { ATTACKS } from "../faults/attacks.ts";
import { root } from "./programs.ts";

const text = await Deno.readTextFile(`${root}docs/security.md`);

/** The cells of the rows of a section's table. */
function rowsOf(heading: string): string[][] {
  const section = text.split(`## ${heading}\n`)[1].split("\n## ")[0];
  return [...section.matchAll(/^\| (.*) \|$/gm)].slice(2).map(([, row]) => row.split(" | ").map((cell) => cell.trim()));
}

Deno.test("docs/security.md has each limit with its default, what it bounds and what is reached, and no other", () => {
  const rows = rowsOf("What each limit prevents");
  assertEquals(
    rows.map(([name, value]) => [name, Number(value.replaceAll(",", ""))]),
    LIMIT_NAMES.map((name) => [`\`${name}\``, DEFAULT_LIMITS[name]]),
  );
  for (const [name, , bounds, reached] of rows) assert(bounds && reached, name);
});

Deno.test("docs/security.md names tests that there are, one at least in each row", async () => {
  const rows = rowsOf("Who can do what");
  assert(rows.length >= 10, `only ${rows.length} rows`);
  for (const row of rows) {
    const tests = [...(row.at(-1) ?? "").matchAll(/`(tests\/\w+\/\w+_test\.ts)`/g)].map(([, path]) => path);
    assert(tests.length > 0, row[0]);
    for (const path of tests) assert((await Deno.stat(`${root}${path}`)).isFile);
  }
});

Deno.test("docs/security.md has the figures of each attack that is measured, and of no other", () => {
  assertEquals(rowsOf("Measured attacks").map(([name]) => name), ATTACKS.map(({ name }) => name));
});

Deno.test("SECURITY.md links to headings and files that there are, and names no address", async () => {
  const policy = await Deno.readTextFile(`${root}SECURITY.md`);
  for (const [, path, anchor] of policy.matchAll(/\]\(([\w/.]+)(?:#([\w-]+))?\)/g)) {
    const target = await Deno.readTextFile(`${root}${path}`);
    const anchors = [...target.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
      heading.toLowerCase().replaceAll(" ", "-")
    );
    assert(anchor === undefined || anchors.includes(anchor), `${path}#${anchor}`);
  }
  assert(!/@|https?:/.test(policy));
});
