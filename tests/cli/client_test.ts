/** `client.ts` as a program: what it sends, what it prints, and how it ends. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { outgoing } from "../../cli/call.ts";
import { exchange } from "../../cli/exchange.ts";
import type { Session } from "../../cli/session.ts";
import { RpcError } from "../../errors.ts";
import { command, reply } from "../../handlers/command.ts";
import { serve } from "../support/demo_server.ts";
import { frame, type Outcome, runClient, runScript, Scripted, ServerScript, startScript } from "./scripts.ts";

/** Nothing but one line on stdout. */
const said = (stdout: string, code = 0): Outcome => ({ code, stdout: `${stdout}\n`, stderr: "" });

/** Nothing but one line on stderr. */
const complained = (text: string, code: number): Outcome => ({ code, stdout: "", stderr: `packline: ${text}\n` });

Deno.test("the client prints what the server says, as the article's client does", async () => {
  await using server = await ServerScript.start();
  const exact: [args: string[], outcome: Outcome][] = [
    [["PING"], said('you said {"res":"PONG"}')],
    [["PING", "--json"], said('{"res":"PONG"}')],
    [["DELAY", "-1"], said('you said {"err":"INVALID_SLEEP"}', 1)],
    [["DELAY"], said('you said {"err":"INVALID_SLEEP"}', 1)],
    [["DELAY", "abc"], said('you said {"err":"INVALID_SLEEP"}', 1)],
    [["DELAY", "Infinity"], said('you said {"err":"INVALID_SLEEP"}', 1)],
    [["FOO"], said('you said {"err":"CMD_NOT_FOUND"}', 1)],
    [["--json", "FOO"], said('{"err":"CMD_NOT_FOUND"}', 1)],
    [["toString"], said('you said {"err":"CMD_NOT_FOUND"}', 1)],
    [["TICK", "count=2", "interval=0"], {
      code: 0,
      stdout: 'you said {"res":1,"more":true}\nyou said {"res":2,"more":true}\nyou said {"res":2}\n',
      stderr: "",
    }],
    [
      ["TICK", "count=x", "--json"],
      said(
        '{"err":"INVALID_PARAMS","msg":"count: must be a number >= 0","data":[{"path":["count"],"message":"must be a number >= 0"}]}',
        1,
      ),
    ],
  ];
  await Promise.all(exact.map(async ([args, outcome]) => {
    assertEquals(await runClient(server.port, ...args), outcome, args.join(" "));
  }));
  const { code, stdout, stderr } = await runClient(server.port, "DELAY", "0.05");
  assertEquals([code, stderr], [0, ""]);
  const slept = /^you said \{"res":"DONE","slept":(0\.\d+)\}\n$/.exec(stdout)?.[1];
  assert(Number(slept) >= 0.05 && Number(slept) < 5, stdout);
});

Deno.test("parameters of a command of one's own arrive as what they are", async () => {
  const GREET = command({
    handler: ({ name, times }: { name: string; times: number }) => Array(times).fill(`Hello, ${name}!`),
  });
  const ECHO = command({
    handler: (params: { value: unknown }) => reply(typeof params.value, { value: params.value }),
  });
  await using server = await serve({ port: 0, commands: { GREET, ECHO } });
  const exact: [args: string[], stdout: string][] = [
    [["GREET", "name=Ada", "times=2"], 'you said {"res":["Hello, Ada!","Hello, Ada!"]}'],
    [["ECHO", "value=9007199254740993"], 'you said {"res":"bigint","value":{"$bigint":"9007199254740993"}}'],
    [["ECHO", "value=007"], 'you said {"res":"string","value":"007"}'],
    [["ECHO", 'value={"$binary":"AAEC"}'], 'you said {"res":"object","value":{"$binary":"AAEC"}}'],
    [["ECHO", 'value={"$$binary":"AAEC"}'], 'you said {"res":"object","value":{"$$binary":"AAEC"}}'],
    [["ECHO", 'value={"$number":"Infinity"}'], 'you said {"res":"number","value":{"$number":"Infinity"}}'],
  ];
  await Promise.all(exact.map(async ([args, stdout]) => {
    assertEquals(await runClient(server.port, ...args), said(stdout));
  }));
});

Deno.test("--list, STATS and INFO tell people and programs what the server is", async () => {
  await using server = await ServerScript.start();
  const [list, listJson, stats, statsJson, info] = await Promise.all(
    [["--list"], ["--list", "--json"], ["STATS"], ["STATS", "--json"], ["INFO"]].map((args) =>
      runClient(server.port, ...args)
    ),
  );
  for (const { code, stderr } of [list, listJson, stats, statsJson, info]) assertEquals([code, stderr], [0, ""]);
  assertMatch(list.stdout, /^number {2}name {3}params +summary\n1 +PING +\S/);
  assertMatch(list.stdout, /^2 +DELAY +sleep +\S/m);
  assertEquals(JSON.parse(listJson.stdout)[0].name, "PING");
  assertMatch(stats.stdout, /^uptime, seconds +\d[^]*\n\ncommand +calls +in flight +mean ms +max ms +errors\nPING +0 /);
  assertEquals(JSON.parse(statsJson.stdout).res.commands.PING.calls, 0);
  assertMatch(info.stdout, /^you said \{"res":\{"name":"packline",/);
});

Deno.test("PING and DELAY go out byte for byte as in the article, others with settings before them", async () => {
  const vectors: [args: string[], request: string, reply: string, outcome: Outcome][] = [
    [["PING"], "202681a3636d64010a", "202a81a3726573a4504f4e470a", said('you said {"res":"PONG"}')],
    [
      ["DELAY", "3"],
      "202d82a5736c65657003a3636d64020a",
      "203982a3726573a4444f4e45a5736c657074cb40080624e00000000a",
      said('you said {"res":"DONE","slept":3.003}'),
    ],
    [
      ["DELAY", "10"],
      "202d82a5736c6565700aa3636d64020a",
      "202a81a3726573a4504f4e470a",
      said('you said {"res":"PONG"}'),
    ],
    [
      ["DELAY", "0.5", "--timeout", "60"],
      "203582a5736c656570cb3fe0000000000000a3636d64020a",
      "203381a3657272ad494e56414c49445f534c4545500a",
      said('you said {"err":"INVALID_SLEEP"}', 1),
    ],
    [
      ["DELAY", "-1"],
      "202d82a5736c656570ffa3636d64020a",
      "203381a3657272ad494e56414c49445f534c4545500a",
      said('you said {"err":"INVALID_SLEEP"}', 1),
    ],
    [
      ["FOO"],
      "203883a3636d6400a36d6178ce00100000a5616c697665cd75300a202e82a3636d64a3464f4fa3736571010a",
      "203381a3657272ad434d445f4e4f545f464f554e440a",
      said('you said {"err":"CMD_NOT_FOUND"}', 1),
    ],
  ];
  await Promise.all(vectors.map(async ([args, request, reply, outcome]) => {
    await using server = new Scripted(Uint8Array.fromHex(reply), request.length / 2);
    assertEquals(await runClient(server.port, ...args), outcome);
    assertEquals(await server.received, request);
  }));
});

Deno.test("the time limit of a call travels with it, once, in a script of calls, and repeated", async () => {
  const LEFT = command((_params: object, { remaining }) => {
    const leftMs = remaining();
    return leftMs > 59_000 && leftMs <= 60_000 ? "about a minute" : String(leftMs);
  });
  await using server = await serve({ port: 0, commands: { LEFT } });
  assertEquals(await runClient(server.port, "LEFT", "--timeout", "60"), said('you said {"res":"about a minute"}'));
  assertEquals(await runClient(server.port, "LEFT"), said('you said {"res":"Infinity"}'));
  assertEquals(await runClient(server.port, "LEFT", "--timeout", "none"), said('you said {"res":"Infinity"}'));
  const repeated = await runClient(server.port, ..."LEFT --timeout 60 --repeat 1 --json".split(" "));
  assertMatch(repeated.stdout, /"about a minute"/);
  const lines = await runScript("client", ["--port", String(server.port), "--timeout", "60"], { input: "LEFT\n" });
  assertEquals(lines, said('you said {"res":"about a minute"}'));
});

Deno.test("a server that says first that the time is over is the same failure as a silent one", async () => {
  await using server = new Scripted(frame({ seq: 1, err: "DEADLINE_EXCEEDED" }), 1);
  const early = await runClient(server.port, "FOO", "--timeout", "60");
  assertEquals(early, said('you said {"err":"DEADLINE_EXCEEDED"}', 1), "a limit of the server's own");

  const session = {
    sentBytes: 0,
    async *ask() {
      for (const endMs = performance.now() + 1; performance.now() < endMs;);
      yield { fields: { err: "DEADLINE_EXCEEDED" }, more: false };
    },
  } as unknown as Session;
  const call = outgoing({ name: "FOO", params: {} });
  const late = exchange({ session, call, timeout: 0.001, json: true, show: () => "it was shown" });
  assertEquals((await assertRejects(() => late, RpcError, "no reply within 0.001 s")).code, "TIMEOUT");
});

Deno.test("a long reply comes, whichever way a call is made", async () => {
  const LARGE = command({ handler: () => "x".repeat(60_000) });
  const summary = "One of many, with a line of help";
  const many = Object.fromEntries(
    Array.from({ length: 700 }, (_, place) => [`COMMAND_${place}`, command({ summary, handler: () => 0 })]),
  );
  await using server = await serve({ port: 0, commands: { ...many, LARGE } });
  const calls: [args: string[], stdout: RegExp, input?: string][] = [
    [["LARGE", "--json"], /^\{"res":"LARGE"\}\n$/],
    [["LARGE", "--json", "--repeat", "2", "--interval", "0"], /^(.*\{"res":"LARGE"\}\}\n){2}/],
    [["--json"], /^\{"res":"LARGE"\}\n\{"res":"PONG"\}\n\{"res":"LARGE"\}\n$/, "LARGE\nPING\nLARGE\n"],
    [["--bench", "LARGE", "-n", "3", "-c", "1"], /^LARGE: 3 calls in /],
    [["--list"], /^- +COMMAND_699 +One of many/m],
    [["STATS"], /^COMMAND_699 +0 /m],
    [["STATS", "--format", "prometheus"], /^packline_calls_total\{command="COMMAND_699"\} 0$/m],
    [["INFO", "--json"], /"COMMAND_699"/],
  ];
  for (const [args, stdout, input] of calls) {
    const outcome = await runScript("client", ["--port", String(server.port), ...args], { input });
    assertEquals([outcome.code, outcome.stderr], [0, ""], args.join(" "));
    assertMatch(outcome.stdout.replaceAll("x".repeat(60_000), "LARGE"), stdout, args.join(" "));
  }
});

Deno.test("--max-payload-bytes is the largest payload, either way", async () => {
  const TEXT = command({ handler: ({ length }: { length: number }) => "x".repeat(length) });
  const LENGTH = command({ handler: ({ text }: { text: string }) => text.length });
  await using server = await serve({ port: 0, commands: { TEXT, LENGTH }, maxPayloadBytes: 3_000_000, onError() {} });
  const run = (input: string, ...flags: string[]) =>
    runScript("client", ["--port", String(server.port), "--json", ...flags], { input });
  const tooLarge = await run("TEXT length=2000000\n");
  assertMatch(tooLarge.stdout, /^\{"err":"REPLY_TOO_LARGE"/);
  assertEquals(tooLarge.stderr, "packline: raise the limit at both ends, here with --max-payload-bytes\n");
  assertEquals((await run("TEXT length=2000000\n", "--max-payload-bytes", "3000000")).stdout.length, 2_000_011);
  const request = `LENGTH text=${"x".repeat(2_000_000)}\n`;
  const refused = await run(request);
  assertEquals([refused.code, refused.stdout], [2, ""]);
  assertMatch(refused.stderr, /line 1: the parameters cannot be sent: .*the limit is 1048576/);
  assertEquals(await run(request, "--max-payload-bytes", "3000000"), said('{"res":2000000}'));
  // Such as the article's server takes: nothing is said about it.
  assertMatch((await run("TEXT length=60000\n", "--max-payload-bytes", "57310")).stdout, /^\{"err":"REPLY_TOO_LARGE"/);
});

Deno.test("--hex shows the frames of both sides on stderr", async () => {
  await using server = new Scripted(frame({ res: "DONE", text: "ABCDEFGH" }));
  assertEquals(await runClient(server.port, "--hex", "DELAY", "0.5"), {
    code: 0,
    stdout: 'you said {"res":"DONE","text":"ABCDEFGH"}\n',
    stderr: `\
> 00000000: 2035 82a5 736c 6565 70cb 3fe0 0000 0000   5..sleep.?.....
> 00000010: 0000 a363 6d64 020a                      ...cmd..
>   2035                        header: 21 bytes of payload, request
>   82                          map of 2
>   a5736c656570                  key "sleep"
>   cb3fe0000000000000            float 0.5
>   a3636d64                      key "cmd"
>   02                            int 2: DELAY
>   0a                          newline: the end of the frame
< 00000000: 2038 82a3 7265 73a4 444f 4e45 a474 6578   8..res.DONE.tex
< 00000010: 74a8 4142 4344 4546 4748 0a              t.ABCDEFGH.
<   2038                        header: 24 bytes of payload, reply
<   82                          map of 2
<   a3726573                      key "res"
<   a4444f4e45                    text "DONE"
<   a474657874                    key "text"
<   a84142434445464748            text "ABCDEFGH"
<   0a                          newline: the end of the frame
`,
  });
});

Deno.test("numbers are shown as people read them, and to programs as they are", async () => {
  const reply = frame({ res: "DONE", slept: 0.10149365700001363, zero: -0 });
  const shows: [args: string[], stdout: string][] = [
    [["DELAY", "0.1"], 'you said {"res":"DONE","slept":0.101494,"zero":0}'],
    [["DELAY", "0.1", "--json"], '{"res":"DONE","slept":0.10149365700001363,"zero":0}'],
  ];
  for (const [args, stdout] of shows) {
    await using server = new Scripted(reply);
    assertEquals(await runClient(server.port, ...args), said(stdout));
  }
});

Deno.test("--hex shows what is no frame, too", async () => {
  await using server = new Scripted(new TextEncoder().encode("HTTP/1.1 400 Bad Request"));
  const { code, stdout, stderr } = await runClient(server.port, "--hex", "PING");
  assertEquals([code, stdout], [3, ""]);
  assertEquals(stderr.split("\n").filter((line) => line.startsWith("<")), [
    "< 00000000: 4854 5450 2f31 2e31 2034 3030 2042 6164  HTTP/1.1 400 Bad",
    "< 00000010: 2052 6571 7565 7374                       Request",
    "<   485454502f312e3120343030..  half a frame",
  ]);
});

Deno.test("a value that JSON cannot hold is printed without loss, a control character never", async () => {
  const reply = frame({
    res: { bytes: Uint8Array.of(0, 1, 2), big: 2n ** 60n + 1n, nan: NaN, zero: -0.5, form: { $bigint: "1" } },
    note: "\x1b[2J\x9b31m\u2028\x7f\n",
    more: undefined,
  });
  await using server = new Scripted(reply);
  assertEquals(
    await runClient(server.port, "GREET"),
    said(
      'you said {"res":{"bytes":{"$binary":"AAEC"},"big":{"$bigint":"1152921504606846977"},' +
        '"nan":{"$number":"NaN"},"zero":-0.5,"form":{"$$bigint":"1"}},' +
        '"note":"\\u001b[2J\\u009b31m\\u2028\\u007f\\n"}',
    ),
  );
});

Deno.test("a failure is printed whole", async () => {
  await using server = new Scripted(frame({ err: "TIMEOUT", msg: "later", data: [1], retry: 5 }));
  assertEquals(
    await runClient(server.port, "GREET"),
    said('you said {"err":"TIMEOUT","msg":"later","data":[1],"retry":5}', 1),
  );
});

Deno.test("a server that breaks off is one line and exit code 3", async () => {
  const ends: [answer: Uint8Array, text: string][] = [
    [new Uint8Array(), "is lost: the server closed it before it answered"],
    [frame({ res: "PONG" }).subarray(0, 5), "is lost: the server closed it before it answered"],
    [Uint8Array.fromHex("ffffffff"), "sent an invalid reply: the header declares"],
    [frame([1]), "sent an invalid reply: a message must be a map"],
    [frame({}), "sent an invalid reply: it has neither res nor err"],
    [frame({ seq: 1, more: true }), "sent an invalid reply: it has neither res nor err"],
    // For all that is known here a later server says something unasked: it is ignored, and the reply is still missing.
    [frame({ result: 1 }), "is lost: the server closed it before it answered"],
  ];
  await Promise.all(ends.map(async ([answer, text]) => {
    await using server = new Scripted(answer);
    const outcome = await runClient(server.port, "PING");
    assertEquals([outcome.code, outcome.stdout, outcome.stderr.split("\n").length], [3, "", 2]);
    assert(outcome.stderr.startsWith("packline: ") && outcome.stderr.includes(text), outcome.stderr);
  }));
});

Deno.test("a stream that breaks off keeps what came before", async () => {
  await using server = new Scripted(frame({ res: 1, more: true }));
  const { code, stdout, stderr } = await runClient(server.port, "TICK", "--json");
  assertEquals([code, stdout], [3, '{"res":1,"more":true}\n']);
  assertMatch(stderr, /^packline: the connection to 127\.0\.0\.1:\d+ is lost: [^\n]*\n$/);
});

Deno.test("a server that cannot be reached, or takes too long, is one line and exit code 3", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  assertEquals(
    await runClient(port, "PING", "--timeout", "0.1"),
    complained("no reply within 0.1 s", 3),
    "a listener that never accepts",
  );
  listener.close();
  assertEquals(
    await runClient(port, "PING"),
    complained(`cannot reach 127.0.0.1:${port}: connection refused; is the server running?`, 3),
  );
  const nobody = await runScript("client", ["PING", "--hostname", "nobody.invalid"], { permissions: ["--allow-net"] });
  assertEquals([nobody.code, nobody.stdout], [3, ""]);
  assertMatch(nobody.stderr, /^packline: cannot reach nobody\.invalid:1235: [^\n]*\n$/);
});

Deno.test("--timeout none is without end", async () => {
  await using server = await ServerScript.start();
  const flags = ["--timeout", "none"];
  assertEquals((await runClient(server.port, ...flags, "DELAY", "0.1")).code, 0);
  assertEquals((await runClient(server.port, ...flags, "PING", "--repeat", "1")).code, 0);
  assertEquals((await runClient(server.port, ...flags, "--bench", "PING", "-n", "1", "-c", "1")).code, 0);
});

Deno.test("--timeout ends a call, and a stream", async () => {
  await using server = await ServerScript.start();
  const [call, stream] = await Promise.all([
    runClient(server.port, "--timeout", "1", "DELAY", "60"),
    runClient(server.port, "--timeout", "1", "TICK", "interval=60", "--json"),
  ]);
  assertEquals(call, complained("no reply within 1 s", 3));
  assertEquals(stream, { ...complained("no reply within 1 s", 3), stdout: '{"res":1,"more":true}\n' });
});

Deno.test("a command line that makes no sense is one line and exit code 2, and reaches no server", async () => {
  const refused: [args: string[], text: string][] = [
    [[], "specify a command to call, or pass calls as lines on stdin"],
    [["--bench"], "specify a command to call"],
    [["--repeat", "1"], "specify a command to call"],
    [["--bench", "PING", "--repeat", "1"], "--bench cannot be used with --repeat"],
    [["--bench", "PING", "-n", "1", "-z", "1"], "--bench takes -n or -z, not both"],
    [["--bench", "PING", "-c", "0"], "--connections 0: it must be a whole number of at least 1"],
    // A list of so many places would not fit into the memory of the machine.
    [["--bench", "PING", "-P", "4294967296"], "--in-flight 4294967296: it must be a whole number from 1 to 1000000"],
    [["--bench", "PING", "-r", "0"], "--rate 0: a rate is a number of calls per second above 0"],
    [["-P", "2", "PING"], "--in-flight needs --bench"],
    [["--watch", "1", "PING"], "--watch works only with STATS"],
    [["--watch", "1", "STATS", "--repeat", "2"], "--watch cannot be used with --repeat"],
    [["--interval", "1", "PING"], "--interval needs --repeat"],
    [["--format", "prometheus", "PING"], "--format prometheus works only with STATS"],
    [["--format", "xml", "STATS"], "--format xml: the only format is prometheus"],
    [["PING", "x"], '"x" is not a parameter: write key=value'],
    [["DELAY", "1", "2"], '"2" is not a parameter: write key=value'],
    [["GREET", "a=1", "a=2"], 'the parameter "a" is given twice'],
    [["GREET", "cmd=1"], 'the parameter name "cmd" is reserved'],
    [
      ["GREET", "a=18446744073709551616"],
      "18446744073709551616 takes more than 64 bits; write it as a float, with an exponent, or as text",
    ],
    [["GREET", 'a={"$binary":"?"}'], '{"$binary": "?"} is not base64'],
    [["--list", "PING"], '--list cannot be used with a command, such as "PING"'],
    [["--port", "0", "PING"], "--port 0: a port is a whole number from 1 to 65535"],
    [["--timeout", "0", "PING"], "--timeout 0: it must be from 1ms to 2147483647ms, or none"],
    [["--interval", "none", "PING"], "--interval none: write a time as 500ms, 2s, 5m or 1h; a bare number is seconds"],
    [
      ["--max-payload-bytes", "none", "PING"],
      "--max-payload-bytes none: it must be a whole number from 1 to 67108864, such as 4096, 64KiB or 1MiB",
    ],
    [["--json", "--json", "PING"], "--json is given 2 times"],
    [["-h"], "--hostname needs a value"],
    [["-h", "a", "--url", "packline://b", "PING"], "--url cannot be used with --hostname"],
    [["--unix", "a", "-p", "1", "PING"], "--unix cannot be used with --port"],
  ];
  await Promise.all(refused.map(async ([args, text]) => {
    assertEquals(await runScript("client", args, { permissions: [] }), complained(`${text}; see --help`, 2));
  }));
});

Deno.test("--help and --version need no server and no permission", async () => {
  const [help, version] = await Promise.all([
    runScript("client", ["--help"], { permissions: [] }),
    runScript("client", ["--version"], { permissions: [] }),
  ]);
  assertEquals([help.code, help.stderr, version.code, version.stderr], [0, "", 0, ""]);
  assertEquals(help.stdout.match(/^ {2}(-\w, )?--/gm)?.length, 31);
  const lines = help.stdout.split("\n");
  const examples = help.stdout.slice(help.stdout.indexOf("\nExamples, ")).trim().split("\n").slice(1);
  assert(examples.length >= 4 && examples.every((line) => line.startsWith("  client.ts ")), examples.join("\n"));
  assert(lines.length < 60, `the help takes ${lines.length} lines`);
  for (const line of lines) assert(line.length <= 120, line);
  assertMatch(version.stdout, /^packline \d+\.\d+\.\d+\n$/);
});

Deno.test("without a permission the client names the one that it needs, and with that one it works", async () => {
  const outcome = await runScript("client", ["DELAY", "2"], { permissions: [] });
  const advice = "run it with --allow-net=127.0.0.1:1235 (to use PACKLINE_URL, run it with --allow-env=PACKLINE_URL)";
  assertEquals(outcome, complained(`no permission to reach 127.0.0.1:1235; ${advice}`, 3));
  await using server = new Scripted(frame({ res: "PONG" }));
  const permissions = ["--no-prompt", `--allow-net=127.0.0.1:${server.port}`];
  assertEquals(
    await runScript("client", ["PING", "--port", String(server.port)], { permissions }),
    said('you said {"res":"PONG"}'),
  );
});

Deno.test("a reader that closes the pipe ends the client quietly", async () => {
  await using server = await ServerScript.start();
  const port = ["--port", String(server.port)];
  for (const args of [["PING"], ["TICK", "interval=0"], ["STATS"], ["--help"], ["PING", "--hex"]]) {
    const client = startScript("client", [...port, ...args]);
    const closed = args.includes("--hex") ? client.stderr : client.stdout;
    const open = args.includes("--hex") ? client.stdout : client.stderr;
    const [{ code }, , text] = await Promise.all([client.status, closed.cancel(), new Response(open).text()]);
    assertEquals([code, text], [0, args.includes("--hex") ? 'you said {"res":"PONG"}\n' : ""], args.join(" "));
  }
});

Deno.test("a reader that closes the pipe does not hide that the command has failed", async () => {
  await using server = await serve({ port: 0 });
  const port = ["--port", String(server.port)];
  const starts: [args: string[], input?: string][] = [
    [["FOO"]],
    [["FOO", "--repeat", "2", "--interval", "0"]],
    [[], "FOO\nTICK count=1 interval=0\n"],
  ];
  for (const [args, input] of starts) {
    const client = startScript("client", [...port, ...args], { input });
    const [{ code }, , text] = await Promise.all([
      client.status,
      client.stdout.cancel(),
      new Response(client.stderr).text(),
    ]);
    assertEquals([code, text], [1, ""], args.join(" "));
  }
  // A line behind one whose reader has left is not run.
  assertEquals(server.statistics().commands.TICK.calls, 0);
});
