/**
 * A page with a live chart and an upload, and its service, on one port.
 *
 *     deno run --allow-net --allow-read=. --allow-run examples/web/server.ts
 */

import { parseArgs } from "jsr:@std/cli@^1.0.0/parse-args";
import { bytes, command, createServer, tracked } from "../../mod.ts";

const PERIOD_MS = 100;

/** The price at a time. It is invented, and the same for all callers. */
function priceAt(tick: number): number {
  return 100 + 8 * Math.sin(tick / 40) + 3 * Math.sin(tick / 7) + Math.sin(tick * tick);
}

export const commands = {
  PRICES: command({
    summary: "Streams a price, ten times a second",
    // After a lost connection, `after` is the last tick that the page received, so it misses no tick.
    async *handler({ after }: { after?: number }, { signal }) {
      const now = () => Math.floor(Date.now() / PERIOD_MS);
      for (let tick = after === undefined ? now() - 50 : after + 1; !signal.aborted; tick++) {
        while (tick > now()) await new Promise((resolve) => setTimeout(resolve, PERIOD_MS));
        yield tracked(tick, { tick, price: priceAt(tick) });
      }
    },
  }),
  STORE: command({
    summary: "Takes a file, and reports how much has arrived",
    items: bytes,
    async *handler({ size }: { size: number }, { items }) {
      let received = 0;
      for await (const chunk of items) {
        received += chunk.length;
        yield { received, part: received / size };
      }
      return { received };
    },
  }),
};

if (import.meta.main) {
  const { port } = parseArgs(Deno.args, { string: ["port"], default: { port: "8000" } });
  const page = await Deno.readTextFile(new URL("page.html", import.meta.url));
  const bundle = await new Deno.Command(Deno.execPath(), {
    args: ["bundle", "--platform=browser", "--minify", new URL("page.ts", import.meta.url).pathname],
    stderr: "piped",
  }).output();
  if (!bundle.success) throw new Error(new TextDecoder().decode(bundle.stderr));

  const http = Deno.serve({ hostname: "127.0.0.1", port: Number(port), onListen() {} }, (request, info) => {
    switch (new URL(request.url).pathname) {
      case "/":
        return new Response(page, { headers: { "content-type": "text/html; charset=utf-8" } });
      case "/page.js":
        return new Response(bundle.stdout, { headers: { "content-type": "text/javascript" } });
      case "/rpc":
        return server.fetch(request, info);
      default:
        return new Response("there is nothing here", { status: 404 });
    }
  });
  const origin = `http://127.0.0.1:${http.addr.port}`;
  const server = createServer({ commands, webOrigins: [origin] }); // no other page may call it
  console.log(`open ${origin}/`);
}
