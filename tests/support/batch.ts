/** Takes the bytes that a writer has written, and ends its batch. */

import type { Writer } from "../../codec/writer.ts";

export function takeBatch(writer: Writer): Uint8Array<ArrayBuffer> {
  const batch = writer.bytes.subarray(writer.start, writer.position);
  writer.finish();
  return batch;
}
