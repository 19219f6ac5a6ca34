/** packline, started in the usual way. */

import { serve } from "../../server.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";
import { commands } from "./commands.ts";

const server = await serve({ port: 0, commands, maxPayloadBytes: MAX_PAYLOAD_BYTES });
console.log(server.port);
