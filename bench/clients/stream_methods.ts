/**
 * The streaming methods of the gRPC peer. There is no generated code: chunks are plain bytes, everything else is JSON.
 */

import type { MethodDefinition } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";

function serialize(value: unknown): Buffer {
  if (!(value instanceof Uint8Array)) return Buffer.from(JSON.stringify(value));
  return Buffer.from(value.buffer, value.byteOffset, value.length);
}

const asValue = (bytes: Buffer): unknown => JSON.parse(bytes.toString());

/** The methods of a work; `isBytes` is whether its items are chunks. */
export function methodsOf(isBytes: boolean): Record<"GET" | "PUT", MethodDefinition<unknown, unknown>> {
  const asItem = isBytes ? (bytes: Buffer): unknown => bytes : asValue;
  const both = { requestSerialize: serialize, responseSerialize: serialize };
  return {
    GET: {
      path: "/bench.Bench/GET",
      requestStream: false,
      responseStream: true,
      ...both,
      requestDeserialize: asValue,
      responseDeserialize: asItem,
    },
    PUT: {
      path: "/bench.Bench/PUT",
      requestStream: true,
      responseStream: false,
      ...both,
      requestDeserialize: asItem,
      responseDeserialize: asValue,
    },
  };
}

/** Used by both sides of a stream: writes each item after the last one was taken. */
export async function writeAllItems(
  to: { write(item: unknown): boolean; end(): void; once(event: "drain", listener: () => void): unknown },
  items: Iterable<unknown>,
): Promise<void> {
  for (const item of items) {
    if (!to.write(item)) await new Promise<void>((resolve) => to.once("drain", resolve));
  }
  to.end();
}

/** For messages of any size. */
export const GRPC_OPTIONS = {
  "grpc.max_receive_message_length": -1,
  "grpc.max_send_message_length": -1,
};
