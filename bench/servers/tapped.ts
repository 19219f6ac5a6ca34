/** The same as `packline.ts`, but with TAP. */

import { serve } from "../../server.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";
import { commands } from "./commands.ts";

const server = await serve({ port: 0, commands, maxPayloadBytes: MAX_PAYLOAD_BYTES, tap: true });
console.log(server.port);
