/** The client of grpc-js, as a load: gRPC's frames are HTTP/2's, which no prepared bytes can stand for. */

import { Client, credentials } from "@grpc/grpc-js";
import { Buffer } from "node:buffer";
import { loadThrough } from "./calls.ts";
import { PING } from "./ping_method.ts";

const NOTHING = Buffer.alloc(0);

await loadThrough(({ port }) => {
  // Without a pool of its own, all clients would share one connection.
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  const call = () =>
    new Promise<void>((resolve, reject) => {
      client.makeUnaryRequest(PING.path, PING.requestSerialize, PING.responseDeserialize, NOTHING, (error, reply) => {
        if (error || reply?.toString() !== "PONG") reject(error ?? new Error(`a reply is wrong: ${reply}`));
        else resolve();
      });
    });
  return call().then(() => call);
});
