/** packline, started in the usual way; with `--tap` as the last argument, its calls can be watched. */

import { serve } from "../../server.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";
import { commands } from "./commands.ts";

const server = await serve({ port: 0, commands, maxPayloadBytes: MAX_PAYLOAD_BYTES, tap: Deno.args.includes("--tap") });
console.log(server.port);
