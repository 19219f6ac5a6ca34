/**
 * WebSockets behind nginx and HAProxy, with the configurations of docs/web.md, word for word: everything that a client
 * does, whom the server sees, which pages may, and a shutdown with calls in flight.
 */

import { assertEquals, assertMatch } from "@std/assert";
import { type CallerConnection, connect, serve } from "../../mod.ts";
import { settle } from "../support/peers.ts";
import { Held } from "../support/test_server.ts";
import { commands, PAGE, Raw, upgradeOf, useAll } from "../support/web_socket_service.ts";
import {
  Folder,
  onFreePort,
  type Package,
  type Program,
  root,
  startHaproxy,
  startNginx,
  testWith,
} from "./programs.ts";

/** A proxy, and how the server learns the address of its client. */
interface Kind {
  readonly name: Package & ("nginx" | "haproxy");
  start(folder: Folder, config: string): Promise<Program>;
  readonly proxyProtocolFrom?: string[];
  clientOf(connection: CallerConnection, port: number): [told: string | null | undefined, expected: string];
}

const KINDS: Kind[] = [
  {
    name: "nginx",
    start: startNginx,
    clientOf: ({ headers }) => [headers?.get("x-forwarded-for"), "127.0.0.1"],
  },
  {
    name: "haproxy",
    start: startHaproxy,
    proxyProtocolFrom: ["127.0.0.1"],
    clientOf: ({ peer }, port) => [peer, `127.0.0.1:${port}`],
  },
];

/** The configuration in docs/web.md. */
async function documented(name: string): Promise<string> {
  const text = await Deno.readTextFile(`${root}docs/web.md`);
  return new RegExp(`^\`\`\`${name}\n([^]*?)^\`\`\`$`, "m").exec(text)?.[1] as string;
}

for (const { name, start, proxyProtocolFrom, clientOf } of KINDS) {
  testWith([name], `WebSockets behind ${name}, as docs/web.md has it`, async () => {
    const held = new Held();
    const connections: CallerConnection[] = [];
    await using server = await serve({
      port: 0,
      commands: { ...commands, HOLD: held.command },
      webOrigins: [PAGE],
      proxyProtocolFrom,
      onConnect: (connection) => void connections.push(connection),
      logLevel: "error",
    });
    await using folder = await Folder.make();
    const config = (await documented(name)).replace("127.0.0.1:1235", `127.0.0.1:${server.port}`);
    const [port, program] = await onFreePort(async (port): Promise<[number, Program]> => {
      return [port, await start(folder, config.replace("127.0.0.1:8080", `127.0.0.1:${port}`))];
    });
    await using _program = program;
    const url = `ws://127.0.0.1:${port}/rpc`;
    {
      await using client = await connect<typeof commands>({ url });
      await useAll(client);
    }

    connections.length = 0;
    for (const [origin, status] of [[PAGE, 101], ["https://evil.example", 403]] as const) {
      using raw = await Raw.connect(port);
      await raw.send(upgradeOf({ Origin: origin, Cookie: "name=\u00dcbler" }));
      assertMatch(await raw.readHead(), new RegExp(`^HTTP/1\\.1 ${status} `));
      if (status === 403) continue;
      const [told, expected] = clientOf(connections[0], raw.conn.localAddr.port);
      assertEquals([told, connections[0].headers?.get("origin")], [expected, PAGE]);
    }
    assertEquals(connections.length, 1);

    await using client = await connect({ url });
    const calls = [1, 2, 3].map((id) => client.reply("HOLD", { id }));
    while (held.running < 3) await settle(1);
    const ended = server.shutdown({ graceMs: 60_000 });
    held.finishAll();
    assertEquals((await Promise.all(calls)).map(({ res }) => res), [1, 2, 3]);
    await client.close();
    assertEquals(await ended, { finished: 3, cut: 0 });
  });
}
