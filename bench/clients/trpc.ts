/** tRPC's client, as a load: it sends the calls of one turn as one batch, as it does by default. */

import { createTRPCClient, httpBatchLink } from "@trpc/client";
import type { Router } from "../servers/trpc.ts";
import { GETS, loadThrough } from "./calls.ts";

await loadThrough(({ port }) => {
  const client = createTRPCClient<Router>({ links: [httpBatchLink({ url: `http://127.0.0.1:${port}` })] });
  return (key) => client.GET.query({ key });
}, GETS);
