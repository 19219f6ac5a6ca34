/**
 * Who may call: a middleware that wants a token in `meta`, and compares it in constant time, so that the time of a
 * refusal says nothing about the token. Without TLS a token can be read on the way: see PROTOCOL.md, "meta".
 *
 *     deno run --allow-net examples/token.ts
 */

import { connect, type Middleware, RpcError, serve } from "../mod.ts";

const encoder = new TextEncoder();

/** Whether two texts are the same; takes as long for any two, whatever they have in common. */
async function sameText(a: string, b: string): Promise<boolean> {
  // Digests are of one length, so that not even the length of the secret shows.
  const [left, right] = await Promise.all(
    [a, b].map(async (text) => new Uint8Array(await crypto.subtle.digest("SHA-256", encoder.encode(text)))),
  );
  let difference = 0;
  for (let index = 0; index < left.length; index++) difference |= left[index] ^ right[index];
  return difference === 0;
}

/** A middleware that lets through who knows the token. */
function requireToken(token: string): Middleware {
  return async (request, next) => {
    if (await sameText(request.meta.token ?? "", token)) return next();
    throw new RpcError("UNAUTHENTICATED", "a token is needed in meta");
  };
}

await using server = await serve({ port: 0, middleware: [requireToken("open sesame")] });
await using client = await connect({ port: server.port });

console.log((await client.reply("PING", {}, { meta: { token: "open sesame" } })).res);
await client.reply("PING").catch((error: RpcError) => console.log(error.message));
