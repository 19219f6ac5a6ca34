import { assertEquals } from "@std/assert";
import { CallCounts } from "../../client/calls.ts";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, serve } from "../../mod.ts";
import { turn } from "../support/fake_clock.ts";

Deno.test("CallCounts - each call is answered, failed, in flight or waiting", () => {
  const counts = new CallCounts();
  counts.begun = 10;
  counts.answered = 1;
  for (const code of ["TIMEOUT", "TIMEOUT", "NO_SUCH_PLACE"]) counts.failed(new RpcError(code));
  counts.failed(new TypeError("cannot be sent"));
  const { begun, answered, failed, inFlight, waiting } = counts.snapshot(2);
  assertEquals([begun, answered, inFlight, waiting], [10, 1, 3, 2]);
  assertEquals(failed, { TIMEOUT: 2, NO_SUCH_PLACE: 1, OTHER: 1 });
});

Deno.test("CallCounts - more than 64 codes are not kept", () => {
  const counts = new CallCounts();
  counts.begun = 1_000;
  for (let number = 0; number < 1_000; number++) counts.failed(new RpcError(`CODE_${number}`));
  const { failed } = counts.snapshot(0);
  assertEquals([Object.keys(failed).length, failed.CODE_63, failed.OTHER], [65, 1, 936]);
  assertEquals(counts.snapshot(0).inFlight, 0);
});

Deno.test("client.statistics() - each call is counted once, however it ends; streams too", async () => {
  const held = Promise.withResolvers<string>();
  const commands = {
    HOLD: command(() => held.promise),
    FAIL: command(() => {
      throw new RpcError("NO_SUCH_PLACE");
    }),
    COUNT: command(async function* ({ to }: { to: number }) {
      for (let n = 1; n <= to; n++) yield n;
    }),
  };
  await using server = await serve({ port: 0, commands });
  await using client = await connect({ port: server.port, commands, maxInFlight: 2 });
  const ignore = () => {};
  const patience = new AbortController();

  await client.call.PING();
  await client.call.FAIL().catch(ignore);
  // deno-lint-ignore no-explicit-any -- what the compiler does not let pass
  await client.call.PING({ when: new Date() } as any).catch(ignore);
  await client.call.HOLD({}, { timeoutMs: 20 }).catch(ignore);
  for await (const n of client.stream.COUNT({ to: 3 })) if (n === 5) break;
  for await (const n of client.stream.COUNT({ to: 1_000_000 })) if (n === 2) break;
  client.stream.COUNT({ to: 1 }); // not read, so it has not begun

  const open = Array.from({ length: 4 }, () => client.call.HOLD({}, { signal: patience.signal }));
  // The stream that was left has its place until the server has answered the cancel.
  while (client.statistics().inFlight < 2) await turn();
  const { begun, answered, failed, inFlight, waiting } = client.statistics();
  assertEquals({ begun, answered, failed, inFlight, waiting }, {
    begun: 9,
    answered: 3,
    failed: { NO_SUCH_PLACE: 1, TIMEOUT: 1 },
    inFlight: 2,
    waiting: 2,
  });
  patience.abort();
  await Promise.allSettled(open);
  const after = client.statistics();
  assertEquals([after.failed.CANCELLED, after.inFlight, after.waiting], [4, 0, 0]);
  assertEquals(client.servers[0].sent, 7);
  held.resolve("late");
});
