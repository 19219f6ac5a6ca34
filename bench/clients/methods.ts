/** The methods of the gRPC peer: GET and LIST. There is no generated code: values are JSON, which V8 writes itself. */

import type { MethodDefinition } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import type { Person } from "../data.ts";

function method<Request, Reply>(name: string): MethodDefinition<Request, Reply> {
  const serialize = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
  const deserialize = (bytes: Buffer) => JSON.parse(bytes.toString());
  return {
    path: `/bench.Bench/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: serialize,
    requestDeserialize: deserialize,
    responseSerialize: serialize,
    responseDeserialize: deserialize,
  };
}

export const GET: MethodDefinition<string, string> = method("GET");
export const LIST: MethodDefinition<Person, readonly Person[]> = method("LIST");
