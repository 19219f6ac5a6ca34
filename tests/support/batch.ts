/** The batch that a writer holds, which ends by that. */

import type { Writer } from "../../codec/writer.ts";

export function takeBatch(writer: Writer): Uint8Array<ArrayBuffer> {
  const batch = writer.bytes.subarray(writer.start, writer.position);
  writer.finish();
  return batch;
}
