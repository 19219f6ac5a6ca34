/**
 * Authentication: a middleware looks up who has the token in `meta`, and handlers get the user. Tokens are compared in
 * constant time, so the time of a refusal reveals nothing about them. Without TLS, others on the network can read the
 * token: see docs/security.md.
 *
 *     deno run --allow-net examples/token.ts
 */

import { command, connect, middleware, RpcError, serve } from "../mod.ts";

const TOKENS = { Ada: "open sesame", Grace: "abracadabra" };

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

/** Makes commands for callers with a token; their handlers get the user. */
const authenticated = command.with(middleware(async (call, next) => {
  for (const [user, token] of Object.entries(TOKENS)) {
    if (await sameText(call.meta.token ?? "", token)) return next({ user });
  }
  throw new RpcError("UNAUTHENTICATED", `${call.command} needs a token in meta`);
}));

const commands = {
  VERSION: command(() => "1.0"), // for everybody
  WHOAMI: authenticated((_params: object, { user }) => user),
};
await using server = await serve({ port: 0, commands });

await using ada = await connect<typeof commands>({ port: server.port, meta: { token: "open sesame" } });
console.log(await ada.call.WHOAMI());

await using stranger = await connect<typeof commands>({ port: server.port });
console.log(await stranger.call.VERSION());
await stranger.call.WHOAMI().catch((error: RpcError) => console.log(error.message));
