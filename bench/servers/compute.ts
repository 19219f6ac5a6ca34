/**
 * packline with a command that computes for 2 ms, for the work with more load than a server can handle. The computation
 * ends by the clock, so that the capacity of a server does not depend on the machine.
 *
 * In: the folder of the packline to load, as a URL. Out: the port, as a line.
 */

const COMPUTE_MS = 2;

const { command, serve } = await import(new URL("mod.ts", Deno.args[0]).href) as typeof import("../../mod.ts");

const COMPUTE = command({
  number: 17,
  handler() {
    const endMs = performance.now() + COMPUTE_MS;
    while (performance.now() < endMs);
    return "DONE";
  },
});

const server = await serve({ port: 0, commands: { COMPUTE } });
console.log(server.port);
