/** GET as JSON over HTTP, by `Deno.serve`: the key is the path. */

import { TEXTS } from "../data.ts";

Deno.serve(
  { hostname: "127.0.0.1", port: 0, onListen: ({ port }) => console.log(port) },
  (request) => Response.json({ res: TEXTS.get(request.url.slice(request.url.lastIndexOf("/") + 1)) }),
);
