/** What the model of streams has found, each with the smallest input that shows it. */

import { assertEquals, assertRejects } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";

Deno.test("found - a client that is closed just as a source ends sends no end behind the cancel", async () => {
  // How far the news of the end has come when the client is closed: it goes on in microtasks.
  for (let microtasks = 0; microtasks < 8; microtasks++) {
    const network = memoryNetwork();
    const client = await connect({ dial: network.dial });
    const server = await ScriptedServer.accept(network);
    const { promise: ended, resolve: end } = Promise.withResolvers<IteratorResult<number>>();
    const items = { [Symbol.asyncIterator]: () => ({ next: () => ended }) };
    const call = client.call("UP", {}, { items });
    const failed = assertRejects(() => call, RpcError);
    await server.requests(1);
    end({ done: true, value: undefined });
    for (let left = microtasks; left > 0; left--) await undefined;
    await client.close();
    await failed;
    const messages = await server.rest();
    const behind = messages.slice(messages.findIndex((message) => "cancel" in message) + 1);
    assertEquals(behind, [], `after ${microtasks} microtasks`);
  }
});
