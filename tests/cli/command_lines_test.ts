/**
 * Command lines of every kind that a person may type: each ends in an exit code and in lines for that person, never in a
 * stack trace, and never hangs.
 */

import { assert, assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { serve } from "../support/demo_server.ts";
import { Certificates, pemOf } from "../production/certificates.ts";
import { Folder, testWith } from "../production/programs.ts";
import { runScript } from "./scripts.ts";

/** What a line is about to be told, and never more than one line of it. */
function assertClear(stderr: string, what: string): void {
  assertNotMatch(stderr, /^ +at |error: Uncaught|\.ts:\d/m, what);
  assert(stderr === "" || /^packline: [^\n]+\n$/.test(stderr), `${what}: ${stderr}`);
}

/** Options of the library that are no flags: a person who types flags does not know them. */
const LIBRARY_WORDS =
  /\b(maxPayloadBytes|maxInFlight|hostname:|timeoutMs|tls\.|as ca|client\.stream|RangeError|TypeError)\b/;

Deno.test("whatever is typed, the client ends with a code and at most one line on stderr", async () => {
  await using server = await serve({ port: 0 });
  const folder = await Deno.makeTempDir();
  await Deno.writeTextFile(`${folder}/text`, "no PEM");
  const lines: [code: number, line: string][] = [
    ...[
      "",
      "-",
      "--",
      "--nope",
      "-x",
      "--=",
      "--port",
      "--port=",
      "--port x",
      "--port -1",
      "--port 65536",
      "--port 1e3",
    ]
      .map((line): [number, string] => [2, line]),
    ...["--timeout", "--timeout 0 PING", "--timeout -1 PING", "--timeout Infinity PING", "--timeout 1e9 PING"]
      .map((line): [number, string] => [2, line]),
    ...["PING x", "PING =1", "PING seq=1", "PING $x=1", "DELAY 1 2", 'ECHO a={"$bigint":"x"}', "ECHO a=1e999"]
      .map((line): [number, string] => [2, line]),
    ...[
      "--json=1 PING",
      "--json --json PING",
      "--format",
      "--format x STATS",
      "--format prometheus PING",
      "--list PING",
    ]
      .map((line): [number, string] => [2, line]),
    ...["--repeat", "--repeat -1 PING", "--repeat x PING", "--interval 1 PING", "--bench", "--bench PING -c 0"]
      .map((line): [number, string] => [2, line]),
    ...[
      ...[
        "-h",
        "-h a -u packline://b PING",
        "--url x PING",
        "--meta x PING",
        "--meta =x PING",
        "--meta a=1 --meta a=2 PING",
      ],
      ...[
        "--watch 1 PING",
        "--watch 0 STATS",
        "--watch 1 STATS --hex",
        "describe PING --repeat 1",
        "describe PING PING",
      ],
      ...["ECHO a=@", "ECHO a=@bytes:", "PING --hots", "PING @", "PING - -", "TALLY - --bench", "PING - --repeat 1"],
    ]
      .map((line): [number, string] => [2, line]),
    ...["describe", "describe FOO", "describe x=1"].map((line): [number, string] => [1, line]),
    ...["ECHO a=@/no/such", `ECHO a=@bytes:${folder}`, "ECHO @/no/such", `ECHO @${folder}`, "--meta a=@/no/such PING"]
      .map((
        line,
      ): [number, string] => [3, line]),
    ...[
      "describe PING",
      "describe TICK --json",
      "PING a=-",
      "--meta a=b PING",
      "ECHO -",
      "PING -",
      `TALLY @${folder}/text`,
    ].map((
      line,
    ): [number, string] => [0, line]),
    ...["--bench PING --hex", "--bench PING -n 1 -z 1", "--bench PING -r x", "-P 1 PING", "--max-payload-bytes 0 PING"]
      .map((line): [number, string] => [2, line]),
    ...["--cert x PING", "--key x PING", "--unix x --tls PING", "--tls=yes PING"].map((
      line,
    ): [number, string] => [2, line]),
    ...["ping", "?", "HELP", "toString", "__proto__", "FOO a=1", "DELAY -1", "DELAY x"].map((
      line,
    ): [number, string] => [
      1,
      line,
    ]),
    ...["--ca /no/such PING", `--ca ${folder} PING`, `--ca ${folder}/text PING`, "--cert /no --key /no PING"]
      .map((line): [number, string] => [3, line]),
    ...[`--cert ${folder}/text --key ${folder}/text PING`, "--tls PING", "--tls --bench PING", "--tls --list"]
      .map((line): [number, string] => [3, line]),
    ...["--unix /no/such PING", `--unix ${folder} PING`, `--unix ${folder}/text PING`, `--unix ${"x".repeat(200)} PING`]
      .map((line): [number, string] => [3, line]),
    ...["--hostname .. PING", "--hostname 256.1.1.1 PING"].map((line): [number, string] => [3, line]),
    ...["--hostname [::1 PING", "--hostname a:b PING"].map((line): [number, string] => [2, line]),
    ...["--timeout 0.05 DELAY 9", "--timeout 0.05 TICK", "--timeout 0.05 DELAY 9 --repeat 1"]
      .map((line): [number, string] => [3, line]),
    ...["PING", "--list --json", "INFO", "STATS", "PING --hex=", "--help", "--version", "TICK count=0"]
      .map((line): [number, string] => [line === "PING --hex=" ? 2 : 0, line]),
  ];
  assert(lines.length > 60);
  for (let start = 0; start < lines.length; start += 8) {
    await Promise.all(
      lines.slice(start, start + 8).map(async ([code, line]) => {
        const words = line.split(" ").filter((word) => word !== "");
        const port = /--port|--unix/.test(line) ? [] : ["--port", String(server.port)];
        const outcome = await runScript("client", [...port, ...words], {
          permissions: ["--allow-net", "--allow-read", "--allow-write"],
        });
        assertEquals(outcome.code, code, `${line}: ${outcome.stderr}${outcome.stdout}`);
        assertClear(outcome.stderr, line);
        assertNotMatch(outcome.stderr, LIBRARY_WORDS, line);
      }),
    );
  }
  await Deno.remove(folder, { recursive: true });
});

testWith(["openssl"], "what is wrong with certificates is told by flags and files", async () => {
  await using certificates = await Certificates.begin();
  await using folder = await Folder.make();
  const [authority, other] = await Promise.all([
    certificates.selfSigned({ subject: "/CN=authority" }),
    certificates.selfSigned({ subject: "/CN=other" }),
  ]);
  const own = await certificates.signedBy(authority);
  await folder.write("authority", authority.cert);
  for (
    const [name, text] of Object.entries({ own: own.cert, ownKey: own.key, other: other.cert, otherKey: other.key })
  ) {
    await folder.write(name, text);
  }
  await using server = await serve({ port: 0, tls: pemOf(own) });
  const run = (...args: string[]) =>
    runScript("client", ["--port", String(server.port), ...args, "PING"], {
      permissions: ["--allow-net", "--allow-read"],
    });
  const path = (name: string) => `${folder.path}/${name}`;
  const untrusted = / is not signed by a trusted authority; pass its authority with --ca\n$/;
  const wrong: [args: string[], stderr: RegExp][] = [
    [["--tls"], untrusted],
    [["--ca", path("other")], untrusted],
    [
      ["--ca", path("ownKey")],
      /^packline: cannot use --ca \S+ownKey: the certificate authority is not the PEM text of a certificate\n$/,
    ],
    [
      ["--cert", path("own"), "--key", path("otherKey")],
      /^packline: cannot use --cert \S+own, --key \S+otherKey: the private key does not belong to the certificate\n$/,
    ],
  ];
  for (const [args, stderr] of wrong) {
    const outcome = await run(...args);
    assertEquals([outcome.code, outcome.stdout], [3, ""], args.join(" "));
    assertMatch(outcome.stderr, stderr, args.join(" "));
  }
  assertEquals(await run("--ca", path("authority")), { code: 0, stdout: 'you said {"res":"PONG"}\n', stderr: "" });
});
