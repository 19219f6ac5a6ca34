/** grpc-js on Deno: one unary method, without protobuf and its generated code, so that only the transport is measured. */

import { type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import { PING } from "../clients/ping_method.ts";

const PONG = Buffer.from("PONG");

const server = new Server();
server.addService({ PING }, {
  PING: (_call: ServerUnaryCall<Buffer, Buffer>, answer: sendUnaryData<Buffer>) => answer(null, PONG),
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
