/** grpc-js on Deno: GET and LIST. */

import { type sendUnaryData, Server, ServerCredentials, type ServerUnaryCall } from "@grpc/grpc-js";
import { GET, LIST } from "../clients/methods.ts";
import { listFor, type Person, TEXTS } from "../data.ts";

const server = new Server();
server.addService({ GET, LIST }, {
  GET: ({ request }: ServerUnaryCall<string, string>, answer: sendUnaryData<string>) =>
    answer(null, TEXTS.get(request)),
  LIST: ({ request }: ServerUnaryCall<Person, readonly Person[]>, answer: sendUnaryData<readonly Person[]>) =>
    answer(null, listFor(request)),
});
server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, port) => {
  if (error) throw error;
  console.log(port);
});
