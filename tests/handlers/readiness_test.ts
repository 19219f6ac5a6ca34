/** A service's own word on whether it is ready, by PING; built-in commands replaced or left out, over a connection. */

import { assertEquals, assertRejects } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command } from "../../handlers/command.ts";
import type { ServerOptions } from "../../handlers/server_state.ts";
import { createServer } from "../../server.ts";
import { memoryPair } from "../../transport/memory.ts";

/** Runs a test with a client of a server. */
async function withClient(options: ServerOptions, run: (client: Client) => Promise<void>): Promise<void> {
  await using server = createServer(options);
  const [here, there] = memoryPair();
  void server.accept(there);
  await using client = await connect({ dial: () => Promise.resolve(here) });
  await run(client);
}

for (
  const [how, inForm] of [["at once", (is: boolean) => is], ["later", (is: boolean) => Promise.resolve(is)]] as const
) {
  Deno.test(`PING fails with NOT_READY while ready() says false, ${how}; other commands are served`, async () => {
    let isReady = false;
    await withClient({ ready: () => inForm(isReady) }, async (client) => {
      const error = await assertRejects(() => client.reply("PING"), RpcError);
      assertEquals([error.code, error.retryable], ["NOT_READY", true]);
      assertEquals((await client.reply("INFO")).res.name, "packline");
      isReady = true;
      assertEquals(await client.reply("PING"), { res: "PONG" });
      isReady = false;
      assertEquals((await assertRejects(() => client.reply("PING"), RpcError)).code, "NOT_READY");
    });
  });
}

Deno.test("a ready() that throws is reported to the server, and PING fails", async () => {
  for (
    const ready of [() => Promise.reject(new Error("no database")), () => {
      throw new Error("no database");
    }]
  ) {
    const errors: unknown[] = [];
    await withClient({ ready, onError: (error) => void errors.push(error) }, async (client) => {
      assertEquals((await assertRejects(() => client.reply("PING"), RpcError)).code, "INTERNAL");
      assertEquals(errors.map((error) => (error as Error).message), ["no database"]);
    });
  }
});

Deno.test("a built-in command that is left out is not found, and one that is replaced is the service's own", async () => {
  const STATS = command({ handler: () => "nothing to tell" });
  await withClient({ builtIns: ["INFO", "STATS"], commands: { STATS } }, async (client) => {
    assertEquals((await assertRejects(() => client.reply("PING"), RpcError)).code, "CMD_NOT_FOUND");
    assertEquals<unknown>(await client.reply("STATS"), { res: "nothing to tell" });
    const { res } = await client.reply("INFO");
    assertEquals(res.commands.map(({ name, number }) => [name, number]), [["INFO", 3], ["STATS", 4]]);
  });
});
