/** tRPC over HTTP: GET as a query, by its adapter for `fetch`, under `Deno.serve`. */

import { initTRPC } from "@trpc/server";
import { fetchRequestHandler } from "@trpc/server/adapters/fetch";
import { TEXTS } from "../data.ts";

const { procedure, router: routerOf } = initTRPC.create();

const router = routerOf({
  GET: procedure.input((input) => input as { key: string }).query(({ input: { key } }) => TEXTS.get(key)),
});

/** What the client calls. */
export type Router = typeof router;

Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(port),
}, (req) => fetchRequestHandler({ endpoint: "/", req, router }));
