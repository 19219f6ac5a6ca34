/** A program that calls the service. It needs the types of the commands, and none of their code. */

import { connect } from "@packline/packline/client";
import type { commands } from "./commands.ts";

await using client = await connect<typeof commands>();
console.log(await client.call.GREET({ name: "Ada" }));
for await (const n of client.stream.COUNT({ to: 3 })) console.log(n);
