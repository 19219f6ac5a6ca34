/** The one method of the gRPC peer, with bytes in place of generated messages. */

import type { MethodDefinition } from "@grpc/grpc-js";
import type { Buffer } from "node:buffer";

const asItIs = (bytes: Buffer) => bytes;

export const PING: MethodDefinition<Buffer, Buffer> = {
  path: "/bench.Bench/PING",
  requestStream: false,
  responseStream: false,
  requestSerialize: asItIs,
  requestDeserialize: asItIs,
  responseSerialize: asItIs,
  responseDeserialize: asItIs,
};
