/** `examples/web` in headless Chromium. */

import { assert, assertEquals } from "@std/assert";
import { Folder, Program, root, testWith } from "../production/programs.ts";
import { Chromium } from "../support/chromium.ts";

const SIZE = 5_000_000;

testWith(["chromium"], "examples/web: the chart grows, and a file arrives while its bar moves", async () => {
  await using folder = await Folder.make();
  await using server = await Program.start(
    Deno.execPath(),
    ["run", "--no-prompt", "--allow-net", "--allow-read=.", "--allow-run", "examples/web/server.ts", "--port", "0"],
    /open \S+\n/,
    { cwd: root },
  );
  const [, url] = await server.hear(/open (\S+)\n/);
  await using browser = await Chromium.start();
  await browser.open(url);
  const points = `document.getElementById("line").getAttribute("points").split(" ").length`;
  await browser.until(`${points} > 50`); // 50 are behind the page's time, and then one comes each 100 ms
  const before = await browser.evaluate<number>(points);
  await browser.until(`${points} > ${before}`);

  await Deno.writeFile(`${folder.path}/large.bin`, new Uint8Array(SIZE));
  await browser.evaluate(`{
    globalThis.parts = [];
    const bar = document.getElementById("bar");
    new MutationObserver(() => parts.push(bar.value)).observe(bar, { attributes: true });
  }`);
  const { root: document } = await browser.send("DOM.getDocument") as { root: { nodeId: number } };
  const { nodeId } = await browser.send("DOM.querySelector", { nodeId: document.nodeId, selector: "#file" });
  await browser.send("DOM.setFileInputFiles", { nodeId, files: [`${folder.path}/large.bin`] });
  await browser.until(`document.getElementById("said").textContent.endsWith("done")`);
  assertEquals(
    await browser.evaluate(`document.getElementById("said").textContent`),
    `${SIZE.toLocaleString("en")} bytes of large.bin: done`,
  );
  const parts = await browser.evaluate<number[]>("parts");
  assert(parts.length > 5, `the bar moved ${parts.length} times`);
  assertEquals(parts, parts.toSorted((a, b) => a - b));
  assertEquals(parts.at(-1), 1);
  assertEquals(browser.said, []);
});
