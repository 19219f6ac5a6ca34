/** Unix sockets of Node and Bun, where they differ from those of Deno. */

import { assertEquals } from "@std/assert";
import { Folder, testWith } from "../production/programs.ts";
import { output, withArchive } from "./runtimes.ts";

const LONG_PATH = `
import { connect, serve } from "@packline/packline";
import { readdirSync } from "node:fs";
import process from "node:process";

const folder = process.argv[2];
const textOf = (error) => error.message;
const longPath = (folder + "/").padEnd(108, "x");
// What the system would take of the path, if it were cut.
const server = await serve({ path: (folder + "/").padEnd(101, "x") });
const said = [
  await serve({ path: (folder + "/").padEnd(102, "x") }).catch(textOf),
  await serve({ path: longPath + "x".repeat(20) }).catch(textOf),
  await connect({ path: longPath }).catch(textOf),
  readdirSync(folder).length,
];
await server.shutdown();
console.log(JSON.stringify([...said, readdirSync(folder).length]));
process.exit(); // a server whose path was cut would stay
`;

testWith(["npm"], "a path that is too long for a unix socket is refused by Node and Bun: none is cut", async () => {
  const { folder, all: [, ...others] } = await withArchive();
  await folder.write("long_path.mjs", LONG_PATH);
  for (const { name, command: [program, ...flags] } of others) {
    await using sockets = await Folder.make();
    const said = await output(program, [...flags, "long_path.mjs", sockets.path], folder.path);
    const rule =
      "and may have 101 on Linux or 97 on macOS, 6 less than the system allows, because the socket is first " +
      `made at ${sockets.path}`;
    const [short, long, dialed, ...files] = JSON.parse(said);
    assertEquals(
      [short, long].map((text) => text.replace(/\/x+\.new\/s$/, "")),
      [`the path is too long: it has 102 bytes, ${rule}`, `the path is too long: it has 128 bytes, ${rule}`],
      name,
    );
    assertEquals(
      dialed.replace(/\/x+:/, ":"),
      `CONNECTION_LOST: cannot reach unix:${sockets.path}: the path is too long: the system allows 107 bytes (Linux) or 103 (macOS)`,
      name,
    );
    assertEquals(files, [1, 0], name);
  }
});
