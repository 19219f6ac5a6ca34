/** packline, as anyone would start it, with one command of its own: an echo, for the work with large payloads. */

import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { MAX_PAYLOAD_BYTES } from "../wire.ts";

const ECHO = command({ number: 16, handler: ({ data }: { data: Uint8Array }) => data });

const server = await serve({ port: 0, commands: { ECHO }, maxPayloadBytes: MAX_PAYLOAD_BYTES });
console.log(server.port);
