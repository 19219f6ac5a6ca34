/** The pages of `deno task docs` on a narrow screen, in headless Chromium. */

import { assert, assertEquals } from "@std/assert";
import { Folder, root, run, testWith } from "../production/programs.ts";
import { Chromium } from "../support/chromium.ts";

const WIDTH = 400;

/** The pages below a folder. Pages of members, such as `Limits.maxDepth`, are left out: they are made as those of the others. */
async function* pagesIn(folder: string): AsyncGenerator<string> {
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    if (isDirectory) yield* pagesIn(`${folder}/${name}`);
    else if (name.endsWith(".html") && !/\/~\/.*\..*\.html$/.test(`${folder}/${name}`)) yield `${folder}/${name}`;
  }
}

testWith(["chromium"], `no page of the documents is wider than a screen of ${WIDTH} pixels`, async () => {
  await using folder = await Folder.make();
  const permissions = ["--allow-read", `--allow-write=${folder.path}`, "--allow-run"];
  const made = await run(Deno.execPath(), ["run", ...permissions, "docs/site/main.ts", folder.path], { cwd: root });
  assertEquals(made.code, 0, made.text);
  await using browser = await Chromium.start();
  await browser.resize(WIDTH, 800);
  const tooWide: string[] = [];
  let pages = 0;
  for await (const page of pagesIn(folder.path)) {
    pages++;
    await browser.open(`file://${page}`);
    const width = await browser.evaluate<number>("document.documentElement.scrollWidth");
    if (width > WIDTH) tooWide.push(`${page}: ${width}`);
  }
  assert(pages >= 100, `only ${pages} pages`);
  assertEquals(tooWide, []);
});
