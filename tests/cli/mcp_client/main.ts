/**
 * An agent's side: the protocol's own client starts `client.ts --mcp`, and does what its standard input says. Not a test.
 *
 * In: the era, then the command line of the server as arguments; steps as JSON lines. Out: what came of each, as a JSON line.
 */

// By a name in a variable: the package is in this folder's configuration and lock file, not in the project's.
const PACKAGE = "@modelcontextprotocol/client";
const { Client } = await import(PACKAGE);
const { StdioClientTransport } = await import(`${PACKAGE}/stdio`);

const [era, command, ...args] = Deno.args;
const mode = era === "modern" ? { pin: "2026-07-28" } : era;
const client = new Client({ name: "test", version: "1.0.0" }, { versionNegotiation: { mode } });
const transport = new StdioClientTransport({ command, args, env: Deno.env.toObject(), stderr: "inherit" });

/** Does one step. */
async function run({ method, params = {}, timeout = 20_000, abortMs }: Record<string, unknown>): Promise<unknown> {
  const abort = new AbortController();
  if (typeof abortMs === "number") setTimeout(() => abort.abort(new Error("no longer wanted")), abortMs);
  const options = { signal: abort.signal, timeout };
  if (method === "list") return (await client.listTools({}, options)).tools;
  if (method === "ping") return await client.ping(options);
  if (method === "version") {
    return { server: client.getServerVersion(), version: client.getNegotiatedProtocolVersion() };
  }
  return await client.callTool(params, options);
}

await client.connect(transport);
const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
let held = "";
for await (const part of lines) {
  const [end, ...rest] = (held + part).split("\n").reverse();
  held = end;
  for (const line of rest.reverse()) {
    const outcome = await run(JSON.parse(line)).then((result) => ({ result }), (error) => ({ error: error.message }));
    console.log(JSON.stringify(outcome));
  }
}
await client.close();
