/**
 * Authentication: each token in `meta` identifies a user. Handlers get the user in their context. Without TLS, others
 * on the network can read a token: see docs/security.md.
 *
 *     deno run --allow-net examples/token.ts
 */

import { command, connect, RpcError, serve, tokens } from "../mod.ts";

// A service reads its tokens from its environment or from a file. `openssl rand -hex 16` makes one.
const ADA = "b1d5781111d84f7b3fe45a0852e59758";
const GRACE = "70e5bd1ae8d3c1a4d34e7f0d3b1c2f66";

/** Makes commands for callers with a token. */
const authenticated = command.with(tokens({
  [ADA]: { name: "Ada", mayWrite: true },
  [GRACE]: { name: "Grace", mayWrite: false },
}));

let note = "nothing yet";
const commands = {
  VERSION: command(() => "1.0"), // for everybody
  READ: authenticated(() => note),
  WRITE: authenticated(({ text }: { text: string }, { user }) => {
    if (!user.mayWrite) throw new RpcError("FORBIDDEN", `${user.name} may only read`);
    note = `${text} (${user.name})`;
  }),
};
await using server = await serve({ port: 0, commands });

await using ada = await connect<typeof commands>({ port: server.port, meta: { token: ADA } });
await ada.call.WRITE({ text: "a note" });

await using grace = await connect<typeof commands>({ port: server.port, meta: { token: GRACE } });
console.log(await grace.call.READ());
await grace.call.WRITE({ text: "another" }).catch((error: RpcError) => console.log(error.message));

await using stranger = await connect<typeof commands>({ port: server.port });
console.log(await stranger.call.VERSION());
await stranger.call.READ().catch((error: RpcError) => console.log(error.message));
