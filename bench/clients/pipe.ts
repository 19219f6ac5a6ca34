/** The client of a raw socket; see `pipe.ts`. In: the work as JSON, how records are encoded. */

import { type Batches, readCount, readItems, writeCount, writeItems } from "../pipe.ts";
import { measureTransfer } from "../stream_job.ts";

const batches = Deno.args[1] as Batches;

await measureTransfer(async (job) => {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port: job.port });
  conn.setNoDelay(true);
  return async (items) => {
    await writeCount(conn, items);
    if (job.direction === "download") return await readItems(conn, job, items, batches);
    await writeItems(conn, job, items, batches);
    return await readCount(conn) ?? 0;
  };
});
