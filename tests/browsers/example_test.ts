/** `examples/web` in headless Chromium. */

import { assert, assertEquals, assertMatch } from "@std/assert";
import { Folder, Program, root, testWith } from "../production/programs.ts";
import { Chromium } from "../support/chromium.ts";

const SIZE = 5_000_000;

/** The service of the page. */
function start(port: number): Promise<Program> {
  return Program.start(
    Deno.execPath(),
    [
      ...["run", "--no-prompt", "--allow-net", "--allow-read=.", "--allow-run"],
      "examples/web/server.ts",
      `--port=${port}`,
    ],
    /open \S+\n/,
    { cwd: root },
  );
}

const POINTS = `document.getElementById("line").getAttribute("points").split(" ").length`;
const COUNT = `Number(document.getElementById("count").textContent)`;

testWith(["chromium"], "examples/web: the chart grows, and a file arrives while its bar moves", async () => {
  await using folder = await Folder.make();
  await using server = await start(0);
  const [, url] = await server.hear(/open (\S+)\n/);
  await using browser = await Chromium.start();
  await browser.open(url);
  await browser.until(`${POINTS} > 50`); // 50 are behind the page's time, and then one comes each 100 ms
  const before = await browser.evaluate<number>(POINTS);
  await browser.until(`${POINTS} > ${before}`);

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

testWith(["chromium"], "examples/web: the chart goes on after an outage that is longer than the timeout", async () => {
  await using first = await start(0);
  const [, url] = await first.hear(/open (\S+)\n/);
  await using browser = await Chromium.start();
  // The timeout of 30 s is over at once, when the server is away.
  const source = `{
    const real = globalThis.setTimeout;
    globalThis.setTimeout = (callback, ms, ...args) => real(callback, ms > 20_000 && globalThis.isAway ? 50 : ms, ...args);
  }`;
  await browser.send("Page.addScriptToEvaluateOnNewDocument", { source });
  await browser.open(url);
  await browser.until(`${COUNT} > 50`);
  await browser.evaluate("globalThis.isAway = true");
  const failed = browser.event("Runtime.consoleAPICalled");
  await first[Symbol.asyncDispose]();
  await failed;
  assertMatch(browser.said[0], /The prices are interrupted: RpcError: TIMEOUT/);
  const before = await browser.evaluate<number>(COUNT);
  await browser.evaluate("globalThis.isAway = false");
  await using _second = await start(Number(new URL(url).port));
  await browser.until(`${COUNT} > ${before}`);
  assertEquals(browser.said.filter((line) => !line.includes("The prices are interrupted")), []);
});
