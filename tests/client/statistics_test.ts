import { assertEquals } from "@std/assert";
import { CallCounts } from "../../client/statistics.ts";
import { RpcError } from "../../errors.ts";

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
