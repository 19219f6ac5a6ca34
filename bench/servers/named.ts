/**
 * packline with a name and one command, WORK, which takes 2 ms plus a delay of this server.
 *
 * In: a name, a port (0 for a free one), the delay in milliseconds. Out: the port, as a line; each reply has the name.
 */

import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";

const WORK_MS = 2;
const [name, port, slowerMs] = Deno.args;

const WORK = command(async () => {
  await new Promise((resolve) => setTimeout(resolve, WORK_MS + Number(slowerMs)));
  return name;
});

const server = await serve({ port: Number(port), commands: { WORK } });
console.log(server.port);
