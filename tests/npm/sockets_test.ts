/** The sockets of Node and Bun, where they differ from those of Deno. */

import { assertEquals } from "@std/assert";
import { Folder, testWith } from "../production/programs.ts";
import { connect as dial } from "node:net";
import { nodeOf, output, start, withArchive } from "./runtimes.ts";

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

const SLOW_ADDRESS = `
import { connect } from "@packline/packline";
import dns from "node:dns";
import process from "node:process";

const addresses = ["127.0.0.2", "127.0.0.3"].map((address) => ({ address, family: 4 }));
dns.lookup = (_name, { all }, callback) => callback(null, all ? addresses : "127.0.0.2", 4);
const connecting = connect({ hostname: "two.test", port: Number(process.argv[2]) });
setImmediate(() => setImmediate(() => console.log("dialing")));
console.log(await connecting.then(() => "connected", (error) => error.message));
process.exit();
`;

testWith(["npm"], "Node waits longer than 250 ms for the first address of a name, if the second refuses", async () => {
  const { folder, all } = await withArchive();
  await folder.write("slow_address.mjs", SLOW_ADDRESS);
  // The system answers nobody while the listener's queue is full, and the client tries again after a second.
  using listener = Deno.listen({ hostname: "127.0.0.2", port: 0, tcpBacklog: 1 });
  const { port } = listener.addr;
  const filling = Array.from({ length: 4 }, () => dial(port, "127.0.0.2").on("error", () => {}));
  await new Promise((resolve) => filling[0].once("connect", resolve));
  await using client = await start(nodeOf(all), folder, ["slow_address.mjs", `${port}`], /dialing\n/);
  for (const each of filling) each.destroy();
  (async () => {
    while (true) (await listener.accept()).close();
  })().catch(() => {});
  assertEquals((await client.hear(/dialing\n(.+)\n/))[1], "connected");
});
