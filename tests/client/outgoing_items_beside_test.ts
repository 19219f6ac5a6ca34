/** The caller's streams beside other calls of their connection: what goes ahead, and who has which share. */

import { assert, assertEquals } from "@std/assert";
import { type Client, connect } from "../../client.ts";
import { PING_SEQ } from "../../client/client_call.ts";
import type { Fields } from "../../codec/message.ts";
import { FakeClock, turn } from "../support/fake_clock.ts";
import type { Transport } from "../../transport/transport.ts";
import { memoryNetwork, ScriptedServer } from "../support/scripted_server.ts";
import { Source, until } from "../support/outgoing_items.ts";

/** A client whose connection writes when the test lets it, so that what is ahead can be seen. */
async function heldScene() {
  const network = memoryNetwork();
  const writes: { bytes: number; go: () => void }[] = [];
  const dial = async (): Promise<Transport> => {
    const transport = await network.dial();
    return {
      peer: transport.peer,
      read: (buffer) => transport.read(buffer),
      async write(bytes) {
        await new Promise<void>((go) => writes.push({ bytes: bytes.length, go }));
        return await transport.write(bytes);
      },
      closeWrite: () => transport.closeWrite(),
      close: () => transport.close(),
    };
  };
  const clock = new FakeClock();
  const client: Client = await connect({ dial, clock, random: () => 0, aliveMs: 4_000 });
  const server = await ScriptedServer.accept(network, { answersPings: false });
  /** Lets the next write go, and gives its size. */
  const next = async () => {
    await until(() => writes.length > 0);
    const { bytes, go } = writes.shift() as { bytes: number; go: () => void };
    go();
    await turn();
    return bytes;
  };
  return { client, clock, server, writes, next };
}

Deno.test("items - no more than 64 KiB go ahead, and calls and PING go between", async () => {
  const { client, clock, server, next, writes } = await heldScene();
  const source = new Source(() => new Uint8Array(1_000));
  const upload = client.call("UP", {}, { items: source }).catch(() => {});
  while (server.waiting < 3) await next();
  await server.requests(2);
  await server.reply({ seq: 0, credit: 10_000 });
  await until(() => writes.length > 0);
  await turn();
  const asked = source.asked;
  assert(asked > 60 && asked < 70, `${asked} were asked for`);
  const call = client.call("A");
  for (let n = 0; n < 5; n++) await turn();
  assertEquals(source.asked, asked, "nothing is read ahead while the output waits");
  const kinds: string[] = [];
  const kindOf = (message: Fields) => message.item !== undefined ? "item" : String(message.cmd);
  while (!kinds.includes("A")) {
    await next();
    while (server.waiting > 0) kinds.push(kindOf(await server.request()));
  }
  assert(kinds.indexOf("A") <= 70, `the call waited for ${kinds.indexOf("A")} items`);
  await server.reply({ seq: 1, res: 1 });
  assertEquals(await call, 1);
  // The server says nothing: it is asked whether it lives, in the midst of the items.
  let pingAt = -1;
  for (let count = 0; pingAt < 0;) {
    await clock.advance(500);
    for (let bytes = 0; bytes < 150_000;) bytes += await next();
    while (server.waiting > 0) {
      const message = await server.request();
      if (message.seq === PING_SEQ) pingAt = count;
      count++;
    }
  }
  await server.reply({ seq: PING_SEQ, res: "PONG" });
  while (server.waiting === 0) await next();
  assertEquals(kindOf(await server.request()), "item", "items go on behind the PING");
  server.cut();
  while (writes.length > 0) await next();
  await upload;
  await client.close();
});

Deno.test("items - uploads on one connection share it, whatever the number of their items", async () => {
  const { client, server, next, writes } = await heldScene();
  const uploads = Array.from(
    { length: 4 },
    () => client.call("UP", {}, { items: new Source(() => new Uint8Array(30_000)) }).catch(() => {}),
  );
  while (server.waiting < 9) await next();
  await server.requests(8);
  await server.reply(...[0, 1, 2, 3].map((seq) => ({ seq, credit: 100 })));
  const items = [0, 0, 0, 0];
  let seen = 0;
  for (let round = 0; seen < 200; round++) {
    await until(() => writes.length > 0);
    await turn();
    const call = client.call("A").catch(() => {});
    let before = 0;
    for (let isCalled = false; !isCalled;) {
      await next();
      while (server.waiting > 0) {
        const { cmd, seq } = await server.request();
        if (cmd === "A") {
          isCalled = true;
          await server.reply({ seq, res: 1 });
        } else {
          items[seq as number]++;
          if (!isCalled) before++;
        }
        seen++;
      }
    }
    await call;
    assert(before <= 3, `a call has waited for ${before} items`); // 64 KiB, and what began in them
    assert(Math.max(...items) - Math.min(...items) <= 3, `${items}`);
  }
  server.cut();
  while (writes.length > 0) await next();
  await Promise.all(uploads);
  await client.close();
});
