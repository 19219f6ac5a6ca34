/** A raw socket that sends or receives items; see `pipe.ts`. In: the work as JSON, how records are encoded. */

import { type Batches, readCount, readItems, writeCount, writeItems } from "../pipe.ts";
import type { StreamJob } from "../stream_job.ts";
import { listen } from "./listen.ts";

const job: StreamJob = JSON.parse(Deno.args[0]);
const batches = Deno.args[1] as Batches;

listen(async (conn) => {
  while (true) {
    const items = await readCount(conn);
    if (items === undefined) return conn.close();
    if (job.direction === "download") await writeItems(conn, job, items, batches);
    else await writeCount(conn, await readItems(conn, job, items, batches));
  }
});
