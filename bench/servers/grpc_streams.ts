/** grpc-js on Deno with streams: GET sends items, PUT counts the caller's. In: the work as JSON. */

import {
  type sendUnaryData,
  Server,
  ServerCredentials,
  type ServerReadableStream,
  type ServerWritableStream,
} from "@grpc/grpc-js";
import { GRPC_OPTIONS, methodsOf, writeAllItems } from "../clients/stream_methods.ts";
import { itemsOf, type StreamJob } from "../stream_job.ts";

const { chunkBytes }: StreamJob = JSON.parse(Deno.args[0]);

const server = new Server(GRPC_OPTIONS);
server.addService(methodsOf(chunkBytes > 0), {
  GET: (call: ServerWritableStream<number, unknown>) => void writeAllItems(call, itemsOf(chunkBytes, call.request)),
  PUT: async (call: ServerReadableStream<unknown, number>, answer: sendUnaryData<number>) => {
    let arrived = 0;
    for await (const _item of call) arrived++;
    answer(null, arrived);
  },
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
