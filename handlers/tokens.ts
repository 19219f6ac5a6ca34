/**
 * Authentication by a token in `meta`.
 *
 * In: tokens, and the user of each. Out: a middleware. Refused: a call without a valid token, by `UNAUTHENTICATED`.
 */

import { isPlain, kindOf } from "../codec/errors.ts";
import { RpcError } from "../errors.ts";
import type { Middleware } from "./command.ts";

const encoder = new TextEncoder();

/**
 * Makes a middleware that accepts only calls with one of the tokens in `meta.token`. It compares digests of all tokens,
 * so the time it takes reveals nothing about them. Without TLS, others on the network can read a token (PROTOCOL.md,
 * "Meta").
 *
 * @param users The user of each token, by the token. A token should have at least 128 random bits.
 * @returns The middleware. The user is in the handler's context as `user`.
 * @throws {TypeError} If there is no token, or an empty one, or if the users are no plain object.
 *
 * @example A command that needs a token
 * ```ts
 * import { command, connect, serve, tokens } from "../mod.ts";
 *
 * const authenticated = command.with(tokens({ "b1d5781111d84f7b3fe45a0852e59758": { name: "Ada" } }));
 * const commands = { WHO: authenticated((_: object, { user }) => user.name) };
 * await using server = await serve({ port: 0, commands });
 * const meta = { token: "b1d5781111d84f7b3fe45a0852e59758" };
 * await using client = await connect<typeof commands>({ port: server.port, meta });
 * console.assert(await client.call.WHO() === "Ada");
 * ```
 */
export function tokens<User>(users: Readonly<Record<string, User>>): Middleware<{ user: User }> {
  // In a list of tokens, or in one token as text, the tokens would be "0", "1" and so on.
  if (typeof users !== "object" || users === null || !isPlain(users)) {
    throw new TypeError(`Cannot use ${kindOf(users)} as tokens: use { token: user }`);
  }
  const entries = Object.entries(users);
  if (entries.length === 0 || entries.some(([token]) => token === "")) {
    throw new TypeError("Cannot use these tokens: there must be at least one, and none may be empty");
  }
  const known = Promise.all(entries.map(async ([token, user]) => ({ digest: await digestOf(token), user })));
  return async (call, next) => {
    const digest = await digestOf(call.meta.token ?? "");
    let found: { user: User } | undefined;
    for (const { digest: expected, user } of await known) if (areEqual(digest, expected)) found = { user };
    if (found === undefined) throw new RpcError("UNAUTHENTICATED", "meta.token is missing or not valid");
    return await next(found);
  };
}

async function digestOf(token: string): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", encoder.encode(token)));
}

/** Digests have one length, so the length of a token stays hidden too. */
function areEqual(a: Uint8Array, b: Uint8Array): boolean {
  let difference = 0;
  for (let index = 0; index < a.length; index++) difference |= a[index] ^ b[index];
  return difference === 0;
}
