/**
 * Authentication: a middleware that requires a token in `meta`. It compares in constant time, so the time of a refusal
 * reveals nothing about the token. Without TLS, others on the network can read the token: see PROTOCOL.md, "meta".
 *
 *     deno run --allow-net examples/token.ts
 */

import { connect, type Middleware, RpcError, serve } from "../mod.ts";

const encoder = new TextEncoder();

/** Whether two texts are equal, in a time that does not depend on what they have in common. */
async function sameText(a: string, b: string): Promise<boolean> {
  // Digests have one length, so the length of the secret stays hidden too.
  const [left, right] = await Promise.all(
    [a, b].map(async (text) => new Uint8Array(await crypto.subtle.digest("SHA-256", encoder.encode(text)))),
  );
  let difference = 0;
  for (let index = 0; index < left.length; index++) difference |= left[index] ^ right[index];
  return difference === 0;
}

/** A middleware that accepts only calls with the token. */
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
