/** The client of grpc-js, as a load. gRPC uses HTTP/2 frames, which cannot be replaced by prepared bytes. */

import { Client, credentials, type MethodDefinition } from "@grpc/grpc-js";
import { listFor, PEOPLE } from "../data.ts";
import type { Job } from "../load.ts";
import { GETS, loadThrough } from "./calls.ts";
import { GET, LIST } from "./methods.ts";

const { question }: Job = JSON.parse(Deno.args[0]);
if (question === "list") {
  // The list is not compared in full, because that would cost more than to receive it.
  const lists = { inputs: PEOPLE, isRight: (person: typeof PEOPLE[0], list: unknown) => hasFirst(list, person) };
  await loadThrough(({ port }) => callerOf(port, LIST), lists);
} else {
  await loadThrough(({ port }) => callerOf(port, GET), GETS);
}

function hasFirst(list: unknown, person: typeof PEOPLE[0]): boolean {
  return Array.isArray(list) && list.length === listFor(person).length && list[0].id === listFor(person)[0].id;
}

function callerOf<Request, Reply>(port: number, method: MethodDefinition<Request, Reply>) {
  // Without a pool of its own, all clients would share one connection.
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), {
    "grpc.use_local_subchannel_pool": 1,
  });
  return (request: Request) =>
    new Promise<unknown>((resolve, reject) => {
      const { path, requestSerialize, responseDeserialize } = method;
      client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, (error, reply) => {
        if (error) reject(error);
        else resolve(reply);
      });
    });
}
