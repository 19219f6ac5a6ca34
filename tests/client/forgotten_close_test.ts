/**
 * Programs that forget `close()`: an idle client does not keep its program alive, an open call does. Over each transport,
 * as processes of their own.
 */

import { assertEquals } from "@std/assert";
import type { ServeOptions } from "../../server.ts";
import { serve } from "../support/demo_server.ts";
import { Certificates } from "../production/certificates.ts";
import { testWith } from "../production/programs.ts";

/** Longer than any of these programs takes, and far below the server's idle limit, which would end them too. */
const PATIENCE_MS = 60_000;

/** Calls, reads a stream, waits for nothing else. */
const PROGRAM = `
  const { connect } = await import(Deno.args[0]);
  const client = await connect(JSON.parse(Deno.args[1]));
  console.log(await client.call("PING"));
  client.call("DELAY", { sleep: 0.2 }, { timeoutMs: Infinity }).then(console.log);
  for await (const n of client.stream("TICK", { count: 2, interval: 0.2 })) console.log(n);
  const unread = client.stream("TICK", { interval: 3600 });
  console.log((await unread.next()).value);
  void unread.return();
  console.log("the last line");
`;

/** Runs the program, and answers with what it has said. */
async function runProgram(options: unknown, program = PROGRAM): Promise<string> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "--no-check",
      "--allow-all",
      "-",
      import.meta.resolve("../../mod.ts"),
      JSON.stringify(options),
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
    signal: AbortSignal.timeout(PATIENCE_MS),
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(program));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
  return new TextDecoder().decode(stdout);
}

const SAID = "PONG\n1\nDONE\n2\n1\nthe last line\n";

/** A program against a server of these options. */
async function forgets(options: ServeOptions, client: (port: number) => unknown): Promise<void> {
  await using server = await serve(options);
  assertEquals(sorted(await runProgram(client(server.port))), sorted(SAID), "in any order: two of them come at once");
}

function sorted(text: string): string[] {
  return text.split("\n").sort();
}

Deno.test("a program that forgets close() ends after its last call, over TCP", async () => {
  await forgets({ port: 0 }, (port) => ({ port }));
});

Deno.test("a program that forgets close() ends after its last call, over a unix socket", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/socket`;
  await forgets({ path }, () => ({ path }));
  await Deno.remove(folder, { recursive: true });
});

testWith(["openssl"], "a program that forgets close() ends after its last call, over TLS and mutual TLS", async () => {
  await using certificates = await Certificates.begin();
  const authority = await certificates.selfSigned();
  const [{ cert, key }, ada] = await Promise.all([certificates.signedBy(authority), certificates.signedBy(authority)]);
  const ca = authority.cert;
  await forgets({ port: 0, tls: { cert, key } }, (port) => ({ port, tls: { ca } }));
  await forgets({ port: 0, tls: { cert, key, ca } }, (port) => ({ port, tls: { ca, cert: ada.cert, key: ada.key } }));
});

Deno.test("a program that awaits close() goes on behind it", async () => {
  await using server = await serve({ port: 0 });
  const program = `
    const { connect } = await import(Deno.args[0]);
    const client = await connect(JSON.parse(Deno.args[1]));
    await client.call("PING");
    await client.close();
    console.log("the last line");
  `;
  assertEquals(await runProgram({ port: server.port }, program), "the last line\n");
});
