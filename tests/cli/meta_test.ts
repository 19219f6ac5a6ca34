/** `client.ts --meta`: what goes with every call and is no parameter. */

import { assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { RpcError } from "../../errors.ts";
import type { Middleware } from "../../handlers/command.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { Folder } from "../production/programs.ts";
import { runScript } from "./scripts.ts";

const tokenCheck: Middleware = (request, next) => {
  if (request.meta.token === "sesame") return next();
  throw new RpcError("UNAUTHENTICATED", "a token is needed in meta");
};

const WHO = command({
  handler: (_params: { [name: string]: unknown }, { meta }) => ({ ...meta }),
});

Deno.test("--meta goes with every call: one, many, lines, a list, a load", async () => {
  await using server = await serve({ port: 0, commands: { WHO }, middleware: [tokenCheck] });
  await using folder = await Folder.make();
  await folder.write("token", "sesame\n");
  const run = (args: string[], input?: string) =>
    runScript("client", ["--port", String(server.port), ...args], {
      permissions: ["--allow-net", `--allow-read=${folder.path}`],
      input,
    });
  const without = await run(["PING", "--json"]);
  assertEquals([without.code, JSON.parse(without.stdout).err], [1, "UNAUTHENTICATED"]);
  const token = ["--meta", "token=sesame"];
  const calls: [args: string[], stdout: RegExp, input?: string][] = [
    [["PING", "--json", ...token], /^\{"res":"PONG"\}\n$/],
    [
      ["WHO", "--json", "--meta=token=sesame", "--meta", "user=a=b", "--meta", "at=@@home", "--meta", "none="],
      /^\{"res":\{"token":"sesame","user":"a=b","at":"@home","none":""\}\}\n$/,
    ],
    [["WHO", "--json", "--meta", `token=@${folder.path}/token`], /^\{"res":\{"token":"sesame"\}\}\n$/],
    [["PING", "--repeat", "2", "--interval", "0", ...token], /^2 sent, 2 answered, 0 lost$/m],
    [["--list", ...token], /^- +WHO$/m],
    [["--json", ...token], /^\{"res":"PONG"\}\n\{"res":\{"token":"sesame"\}\}\n$/, "PING\nWHO\n"],
    [["--json", "--meta", "user=Ada"], /^\{"res":\{"user":"Ada","token":"sesame"\}\}\n$/, "WHO --meta token=sesame\n"],
    [["--json", "--meta", "token=of all"], /^\{"res":"PONG"\}\n$/, "PING --meta=token=sesame\n"],
    [["--bench", "PING", "-n", "20", "-c", "2", ...token], /^PING: 20 calls in /],
  ];
  for (const [args, stdout, input] of calls) {
    const outcome = await run(args, input);
    assertEquals([outcome.code, outcome.stderr], [0, ""], args.join(" "));
    assertMatch(outcome.stdout, stdout, args.join(" "));
  }
});

Deno.test("a mistake in --meta is told, and never what its value was", async () => {
  await using folder = await Folder.make();
  await Deno.writeFile(`${folder.path}/bytes`, Uint8Array.of(0xff));
  const refused: [args: string[], text: string, code: number][] = [
    [["--meta", "secret"], "--meta needs KEY=TEXT; see --help", 2],
    [["--meta", "=secret"], "--meta needs KEY=TEXT; see --help", 2],
    [["--meta", "token=secret", "--meta", "token=secret"], '--meta gives "token" twice; see --help', 2],
    [["--meta", "token=@/no/such"], "cannot read --meta token=@/no/such: there is no such file", 3],
    [
      ["--meta", `token=@${folder.path}/bytes`],
      `--meta token=@${folder.path}/bytes is not text in UTF-8; see --help`,
      2,
    ],
  ];
  for (const [args, text, code] of refused) {
    const outcome = await runScript("client", [...args, "PING"], { permissions: ["--allow-read"] });
    assertEquals(outcome, { code, stdout: "", stderr: `packline: ${text}\n` });
    assertNotMatch(outcome.stderr, /secret/);
  }
});
