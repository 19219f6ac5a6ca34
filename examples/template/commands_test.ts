/** Tests in memory: no port, no permission. */

import { createServer } from "@packline/packline/server";
import { connectInMemory } from "@packline/packline/testing";
import { assertEquals } from "@std/assert";
import { commands } from "./commands.ts";

Deno.test("GREET greets by name", async () => {
  await using server = createServer({ commands });
  await using client = await connectInMemory<typeof commands>(server);
  assertEquals(await client.call.GREET({ name: "Ada" }), "Hello, Ada!");
});

Deno.test("COUNT counts", async () => {
  await using server = createServer({ commands });
  await using client = await connectInMemory<typeof commands>(server);
  assertEquals(await Array.fromAsync(client.stream.COUNT({ to: 3 })), [1, 2, 3]);
});
