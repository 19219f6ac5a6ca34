/**
 * Takes the picture of `examples/web` in the documents: `deno task screenshot`. With `--all FOLDER`, narrow and wide, light and dark.
 */

import { Folder, Program, root } from "../production/programs.ts";
import { Chromium } from "../support/chromium.ts";

await using folder = await Folder.make();
await using server = await Program.start(
  Deno.execPath(),
  ["run", "--no-prompt", "--allow-net", "--allow-read=.", "--allow-run", "examples/web/server.ts", "--port", "0"],
  /open \S+\n/,
  { cwd: root },
);
const [, url] = await server.hear(/open (\S+)\n/);
await using browser = await Chromium.start();
const [all, there] = Deno.args;
const wanted = all === "--all"
  ? [400, 1_400].flatMap((width) =>
    [false, true].map((dark) => ({ width, dark, path: `${there}/${width}-${dark ? "dark" : "light"}.png` }))
  )
  : [{ width: 720, dark: false, path: `${root}docs/web.png` }];
await browser.screenshot({ width: wanted[0].width, height: 490 });
await browser.open(url);
await Deno.writeFile(`${folder.path}/holiday.mp4`, new Uint8Array(20_000_000));
const { root: document } = await browser.send("DOM.getDocument") as { root: { nodeId: number } };
const { nodeId } = await browser.send("DOM.querySelector", { nodeId: document.nodeId, selector: "#file" });
await browser.send("DOM.setFileInputFiles", { nodeId, files: [`${folder.path}/holiday.mp4`] });
await browser.until(`document.getElementById("said").textContent.endsWith("done")`);
await browser.until(`document.getElementById("line").getAttribute("points").split(" ").length >= 150`);
for (const { width, dark, path } of wanted) {
  await Deno.writeFile(path, await browser.screenshot({ width, height: 490, dark }));
  console.log(path);
}
