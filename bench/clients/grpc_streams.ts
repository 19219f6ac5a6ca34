/** The client of grpc-js with streams, as a load. */

import { Client, credentials } from "@grpc/grpc-js";
import { itemsOf, measureTransfer } from "../stream_job.ts";
import { GRPC_OPTIONS, methodsOf, writeAllItems } from "./stream_methods.ts";

await measureTransfer(({ port, direction, chunkBytes }) => {
  const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure(), GRPC_OPTIONS);
  const { GET, PUT } = methodsOf(chunkBytes > 0);
  const get = async (items: number) => {
    let arrived = 0;
    const stream = client.makeServerStreamRequest(GET.path, GET.requestSerialize, GET.responseDeserialize, items);
    for await (const _item of stream) arrived++;
    return arrived;
  };
  const put = (items: number) =>
    new Promise<number>((resolve, reject) => {
      const stream = client.makeClientStreamRequest(
        PUT.path,
        PUT.requestSerialize,
        PUT.responseDeserialize,
        (error, arrived) => error ? reject(error) : resolve(arrived as number),
      );
      void writeAllItems(stream, itemsOf(chunkBytes, items));
    });
  return Promise.resolve(direction === "download" ? get : put);
});
