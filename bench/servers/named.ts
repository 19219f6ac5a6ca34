/**
 * packline with a name and one command, WORK, which takes 2 ms and what this server is slower than others.
 *
 * In: a name, a port (0 for a free one), milliseconds. Out: the port, as a line; each reply says the name.
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
