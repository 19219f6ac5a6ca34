/**
 * A client whose process is killed: in the middle of a stream that nobody reads any more, and while its calls wait. The
 * server serves the others, and comes to rest.
 */

import { assertEquals } from "@std/assert";
import { connect } from "../../client.ts";
import { overEach, TCP, TLS, UNIX } from "../support/transports.ts";
import { Held, withServer } from "../support/test_server.ts";
import { until, untilAtRest } from "./beside.ts";

const library = new URL("../../client.ts", import.meta.url).href;
const config = new URL("../../deno.json", import.meta.url).pathname;

/** A client in a process of its own: many calls that wait, and a stream of which it takes one item. */
const CLIENT = `
  import { connect } from ${JSON.stringify(library)};
  const client = await connect(JSON.parse(Deno.args[0]));
  for (let count = 0; count < 20; count++) client.call("HOLD").catch(() => {});
  const items = client.stream("TICK", { interval: 0 });
  await items.next();
  console.log("under way");
  await new Promise(() => setInterval(() => {}, 1000));`;

overEach(
  "killed client - its stream ends, its handlers end in their time, and nobody else notices",
  async (transport) => {
    const held = new Held();
    await using server = await withServer({ commands: { HOLD: held.command } }, transport);
    await using other = await connect(server.address);
    const file = await Deno.makeTempFile({ suffix: ".ts" });
    await Deno.writeTextFile(file, CLIENT);
    const child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--quiet", "--no-check", `--config=${config}`, file, JSON.stringify(server.address)],
      stdout: "piped",
    }).spawn();
    try {
      const stdout = child.stdout.pipeThrough(new TextDecoderStream()).getReader();
      assertEquals((await stdout.read()).value, "under way\n");
      await until("its calls wait", () => held.running === 20);
      child.kill("SIGKILL");
      assertEquals((await child.status).code, 128 + 9);
      assertEquals((await stdout.read()).done, true);
      assertEquals(await other.reply("PING"), { res: "PONG" });
      held.finishAll();
      await untilAtRest(server.address, 2);
      assertEquals(held.running, 0);
      assertEquals(await other.reply("PING"), { res: "PONG" });
    } finally {
      await Deno.remove(file);
    }
  },
  Deno.build.os === "windows" ? [] : [TCP, TLS, UNIX],
);
