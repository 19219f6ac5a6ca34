/** The prompt of `client.ts`, in a terminal. */

import { assert, assertEquals, assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../client.ts";
import { RpcError } from "../../errors.ts";
import { command, type Middleware } from "../../handlers/command.ts";
import { serve } from "../support/demo_server.ts";
import { sleep } from "../../transport/clock.ts";
import { Folder } from "../production/programs.ts";
import { PseudoTerminal, testInTerminal } from "./pseudo_terminal.ts";

const ESCAPE = "\x1b";
const RED = "\x1b[31m";
const UP = "\x1b[A";
const CONTROL_C = "\x03";
const CONTROL_D = "\x04";
const CONTROL_Z = "\x1a";

const GREET = command({
  params: ["name", "times"],
  handler: ({ name, times = 1 }: { name: string; times?: number }) => `Hello, ${name}! `.repeat(times),
});

/** The text with words for what moves the cursor. */
function visible(text: string): string {
  return text.replaceAll(ESCAPE, "ESC").replaceAll("\r", "CR");
}

/** The text without what moves the cursor. */
function plain(text: string): string {
  return visible(text).replaceAll(/ESC\[[\d;]*[A-HJK]|CR/g, "");
}

testInTerminal("the prompt calls, completes, remembers and ends", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  await using terminal = PseudoTerminal.client(server.port);
  const prompt = `127.0.0.1:${server.port}> `;
  await terminal.until(prompt);
  await terminal.type("PING\r");
  assertStringIncludes(plain(await terminal.until(prompt)), 'PING\nyou said {"res":"PONG"}\n');
  await terminal.type("GREET name=Ada\r");
  await terminal.until('you said {"res":"Hello, Ada! "}');
  await terminal.until(prompt);

  // Tab completes a command, and then a parameter.
  await terminal.type("GR");
  await terminal.until("GR");
  await terminal.type("\t");
  await terminal.until("EET ");
  await terminal.until(`${ESCAPE}[2m`); // the hint, which may come a moment later
  await terminal.type("na");
  await terminal.until(`${ESCAPE}[Kna`); // in its place
  await terminal.type("\t");
  await terminal.until("me=");
  await terminal.type('"Bo Peep" times=2\r');
  await terminal.until('you said {"res":"Hello, Bo Peep! Hello, Bo Peep! "}');
  await terminal.until(prompt);

  // Two lines back.
  await terminal.type(UP);
  await terminal.until("times=2");
  await terminal.type(UP);
  await terminal.until("name=Ada");
  await terminal.type("\r");
  await terminal.until('you said {"res":"Hello, Ada! "}');
  await terminal.until(prompt);

  await terminal.type("help\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "GREET  name times");
  await terminal.type("# a comment\r");
  assertEquals(plain(await terminal.until(prompt)), `# a comment\n${prompt}`);
  await terminal.type("\r  \rquit\r");
  assertEquals((await terminal.end()).code, 0);
});

testInTerminal("a command that the server does not have is answered with the one that was perhaps meant", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  const shoot = async (...args: string[]) => {
    await using terminal = PseudoTerminal.client(server.port, args, { NO_COLOR: "1" });
    return plain((await terminal.end()).rest);
  };
  const failed = (name: string, hint: string) =>
    `you said {"err":"CMD_NOT_FOUND"}\npackline: the server has no command "${name}"${hint}\n`;
  assertEquals(await shoot("greet", "name=Ada"), failed("greet", " (did you mean GREET?)"));
  assertEquals(await shoot("WEATHER"), failed("WEATHER", ""));
  assertEquals(await shoot("PNIG", "--json"), '{"err":"CMD_NOT_FOUND"}\n');

  await using terminal = PseudoTerminal.client(server.port, [], { NO_COLOR: "1" });
  const prompt = `127.0.0.1:${server.port}> `;
  await terminal.until(prompt);
  await terminal.type("STAT\r");
  assertStringIncludes(plain(await terminal.until(prompt)), failed("STAT", " (did you mean STATS?)"));
  await terminal.type("describe GREET\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "\nGREET\n\nparameters  name\n            times\n");
  await terminal.type("describe GRET\r");
  assertStringIncludes(
    plain(await terminal.until(prompt)),
    '\npackline: the server has no command "GRET" (did you mean GREET?)\n',
  );
  // Tab completes what can be described.
  for (const [keys, shown] of [["des", "des"], ["\t", "cribe "], ["GRE", "GRE"], ["\t", "ET"]]) {
    await terminal.type(keys);
    await terminal.until(shown);
  }
  await terminal.type("\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "\nGREET\n\nparameters  name\n");
  await terminal.type("quit\r");
  assertEquals((await terminal.end()).code, 0);
});

testInTerminal("a server that refuses to list its commands is not said to lack one", async () => {
  const INFO = command((): never => {
    throw new RpcError("FORBIDDEN", "not for you");
  });
  await using server = await serve({ port: 0, commands: { GREET, INFO } });
  await using terminal = PseudoTerminal.client(server.port, [], { NO_COLOR: "1" });
  const prompt = `127.0.0.1:${server.port}> `;
  const refusal = "packline: the server does not list its commands: not for you\n";
  assertStringIncludes(plain(await terminal.until(prompt)), refusal);
  await terminal.type("describe GREET\r");
  assertStringIncludes(plain(await terminal.until(prompt)), `\n${refusal}`);
  await terminal.type("GREET name=Ada\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "Hello, Ada!");
  await terminal.type("quit\r");
  assertEquals((await terminal.end()).code, 0);
});

testInTerminal("the prompt sends --meta with each call, and reads values from files", async () => {
  const tokenCheck: Middleware = (request, next) => {
    if (request.meta.token === "sesame") return next();
    throw new RpcError("UNAUTHENTICATED");
  };
  await using server = await serve({ port: 0, commands: { GREET }, middleware: [tokenCheck] });
  await using folder = await Folder.make();
  await folder.write("name", "Ada");
  const [deno, run, ...rest] = PseudoTerminal.clientCommand(server.port);
  const command = [deno, run, `--allow-read=${folder.path}`, ...rest, "--meta", "token=sesame"];
  await using terminal = new PseudoTerminal(command, { NO_COLOR: "1" });
  const prompt = `127.0.0.1:${server.port}> `;
  await terminal.until(prompt);
  await terminal.type("help\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "GREET  name times");
  await terminal.type(`GREET name=@${folder.path}/name\r`);
  assertStringIncludes(plain(await terminal.until(prompt)), 'you said {"res":"Hello, Ada! "}\n');
  await terminal.type(`GREET name=@${folder.path}/no\r`);
  assertStringIncludes(
    plain(await terminal.until(prompt)),
    `packline: cannot read name=@${folder.path}/no: there is no such file\n`,
  );
  await terminal.type("GREET name=-\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "packline: name=- cannot be read: standard input has");
  await terminal.type("PING --meta token=wrong\r");
  assertStringIncludes(plain(await terminal.until(prompt)), '"err":"UNAUTHENTICATED"');
  await terminal.type("describe PING\r");
  assertStringIncludes(plain(await terminal.until(prompt)), 'answers  once: "PONG"');
  await terminal.type("describe PING --meta token=wrong\r");
  const refusal = "packline: the server does not list its commands: UNAUTHENTICATED\n";
  assertStringIncludes(plain(await terminal.until(prompt)), refusal);
  await terminal.type("quit\r");
  assertEquals((await terminal.end()).code, 0);
});

testInTerminal("the prompt prints a stream as it comes, and Ctrl-C cancels what runs", async () => {
  const cancelled: string[] = [];
  const HOLD = command({
    async handler(_params: { [name: string]: unknown }, { clock, signal }) {
      await sleep(clock, 3_600_000, signal).catch((reason) => cancelled.push(reason.code));
      return null;
    },
  });
  await using server = await serve({ port: 0, commands: { HOLD } });
  await using terminal = PseudoTerminal.client(server.port);
  const prompt = `127.0.0.1:${server.port}> `;
  await terminal.until(prompt);
  await terminal.type("TICK count=3 interval=0.01\r");
  const stream = plain(await terminal.until(prompt));
  assertStringIncludes(stream, [1, 2, 3].map((res) => `you said {"res":${res},"more":true}\n`).join(""));
  await terminal.type("TICK interval=0.01\r");
  await terminal.until('"res":5');
  await terminal.type(CONTROL_C);
  await terminal.until('{"err":"CANCELLED"}');
  await terminal.until(prompt);
  await terminal.type("HOLD\r");
  // Whoever waits long enough is told.
  assertStringIncludes(await terminal.until("Ctrl-C cancels"), "waiting, 1 s");
  await terminal.type(CONTROL_C);
  await terminal.until('{"err":"CANCELLED"}');
  await terminal.until(prompt);
  assertEquals(cancelled, ["CANCELLED"]);
  // Over one connection all the while; and at the prompt Ctrl-C takes the line away, and says how to leave.
  await terminal.type(`PI${CONTROL_C}`);
  await terminal.until(prompt);
  await terminal.type("STATS\r");
  assertStringIncludes(plain(await terminal.until(prompt)), "connections, accepted        1\n");
  await terminal.type(CONTROL_C);
  assertEquals(plain(await terminal.until(prompt)), `type quit or Ctrl-D to leave\n${prompt}`);
  await terminal.type(CONTROL_D);
  const { code, rest } = await terminal.end();
  assertEquals([code, plain(rest)], [0, "\n"]);
});

testInTerminal("a line that comes before its turn is shown again in its turn, and Ctrl-C takes it away", async () => {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const HOLD = command({
    async handler(_params: { [name: string]: unknown }, { clock, signal }) {
      begin();
      await sleep(clock, 3_600_000, signal);
      return null;
    },
  });
  await using server = await serve({ port: 0, commands: { HOLD } });
  await using terminal = PseudoTerminal.client(server.port);
  const prompt = `127.0.0.1:${server.port}> `;
  await terminal.until(prompt);
  // Two lines at once, and the beginning of one more.
  await terminal.type("DELAY 0.1\rPING\rIN");
  const slow = plain(await terminal.until(prompt));
  assertStringIncludes(slow, `you said {"res":"DONE","slept":0.1`);
  assertEquals(plain(await terminal.until(prompt)), `PING\nyou said {"res":"PONG"}\n${prompt}`);
  await terminal.type("FO\r");
  assertStringIncludes(await terminal.until(prompt), '"name":"packline"');
  await terminal.type("HOLD\rPING\r");
  await terminal.until("PING");
  await begun; // what is typed is seen before it is heeded
  await terminal.type(CONTROL_C);
  assertStringIncludes(await terminal.until(prompt), '{"err":"CANCELLED"}');
  await terminal.type("quit\r");
  const { code, rest } = await terminal.end();
  assertEquals([code, plain(rest)], [0, "quit\n"]);
});

testInTerminal("the prompt comes back after Ctrl-Z", async () => {
  await using server = await serve({ port: 0 });
  await using shell = new PseudoTerminal(["sh", "-i"]);
  const prompt = `127.0.0.1:${server.port}> `;
  await shell.type('PS1="sh""ell: "\r');
  await shell.until("shell: ");
  await shell.type(`${PseudoTerminal.clientCommand(server.port).join(" ")}\r`);
  await shell.until(prompt);
  await shell.type(CONTROL_Z);
  await shell.until("shell: ");
  await shell.type("fg\r");
  await shell.until(prompt);
  await shell.type("PING\r");
  await shell.until('you said {"res":"PONG"}');
  await shell.until(prompt);
  await shell.type(`quit\r`);
  await shell.until("shell: ");
  await shell.type("exit\r");
  await shell.end();
});

testInTerminal("whatever signal ends the prompt, the terminal is as it was, and the exit code says which", async () => {
  await using server = await serve({ port: 0 });
  const client = PseudoTerminal.clientCommand(server.port).join(" ");
  const script = `before=$(stty -g)
    sh -c 'echo "pid: $$."; exec ${client}'
    code=$?
    [ "$before" = "$(stty -g)" ] && echo "ended: $code, as it was" || echo "ended: $code, not as it was"`;
  const codes = [["SIGHUP", 129], ["SIGINT", 130], ["SIGQUIT", 131], ["SIGTERM", 143]] as const;
  await Promise.all(codes.flatMap(([signal, code]) =>
    ["at the prompt", "with a call"].map(async (moment) => {
      await using shell = new PseudoTerminal(["sh", "-c", script]);
      const [, pid] = (await shell.until(".\r\n")).match(/pid: (\d+)\./) ?? [];
      await shell.until(`127.0.0.1:${server.port}> `);
      if (moment === "with a call") {
        await shell.type("DELAY 60\r");
        await shell.until("waiting, 1 s");
      }
      Deno.kill(Number(pid), signal);
      const { rest } = await shell.end();
      assertStringIncludes(rest, `ended: ${code}, as it was`, `${signal} ${moment}`);
    })
  ));
  await server.shutdown({ graceMs: 0 });
});

testInTerminal("a prompt whose terminal goes away ends", async () => {
  await using server = await serve({ port: 0 });
  const terminal = PseudoTerminal.client(server.port);
  await terminal.until(`127.0.0.1:${server.port}> `);
  await using client = await connect({ port: server.port });
  const open = async () => (await client.reply("STATS")).res.connections.open;
  assertEquals(await open(), 2);
  await terminal[Symbol.asyncDispose]();
  while (await open() > 1);
});

testInTerminal(
  "without a permission the runtime asks for it in the terminal, and the prompt goes on",
  async () => {
    await using server = await serve({ port: 0 });
    const command = PseudoTerminal.clientCommand(server.port).filter((word) => !/^--(allow|no-prompt)/.test(word));
    await using terminal = new PseudoTerminal(command);
    await terminal.until("Allow?");
    // The runtime does not hear what comes in the first tenth of a second.
    const again = setInterval(() => void terminal.type("y\r"), 200);
    await terminal.until(`Granted net access to "127.0.0.1:${server.port}"`).finally(() => clearInterval(again));
    const prompt = `127.0.0.1:${server.port}> `;
    assertNotMatch(await terminal.until(prompt), /packline: /);
    await terminal.type("PING\r");
    await terminal.until('you said {"res":"PONG"}');
    await terminal.until(prompt);
    await terminal.type(CONTROL_D);
    assertEquals((await terminal.end()).code, 0);
  },
);

testInTerminal("a server that says nothing is waited for, but not for long", async () => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await using terminal = PseudoTerminal.client(listener.addr.port);
  using conn = await listener.accept();
  await conn.read(new Uint8Array(1024));
  const greeting = await terminal.until(`127.0.0.1:${listener.addr.port}> `);
  assertStringIncludes(greeting, "packline: no reply from the server within 2 s: Tab and help know no commands");
  await terminal.type(CONTROL_D);
  assertEquals((await terminal.end()).code, 0);
});

testInTerminal("a server that does not answer a cancel is left by a second Ctrl-C", async () => {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  const bytes = new Uint8Array(1024);
  await using terminal = PseudoTerminal.client(port);
  const prompt = `127.0.0.1:${port}> `;
  // INFO gets no answer either.
  const first = await listener.accept();
  await first.read(bytes);
  first.close();
  assertStringIncludes(await terminal.until(prompt), "is lost: the server closed it");
  await terminal.type("PING\r");
  const conn = await listener.accept();
  await conn.read(bytes);
  await terminal.type(CONTROL_C);
  while (!new TextDecoder().decode(bytes).includes("cancel")) await conn.read(bytes);
  await terminal.type(CONTROL_C);
  assertStringIncludes(await terminal.until(prompt), `${RED}packline: cancelled; the connection is closed`);
  await terminal.type(CONTROL_D);
  assertEquals((await terminal.end()).code, 0);
  conn.close();
  listener.close();
});

testInTerminal("the prompt goes on after a mistake and after the server has gone, and dials again", async () => {
  let server = await serve({ port: 0 });
  const { port } = server;
  await using terminal = PseudoTerminal.client(port);
  const prompt = `127.0.0.1:${port}> `;
  await terminal.until(prompt);
  await terminal.type("PING x\r");
  assertStringIncludes(await terminal.until(prompt), `${RED}packline: "x" is not a parameter: write key=value`);
  await terminal.type("DELAY 60\r");
  await terminal.until("DELAY 60");
  while (await stillIdle(port));
  await server.shutdown({ graceMs: 0 });
  await terminal.until(prompt);
  await terminal.type("PING\r");
  assertStringIncludes(await terminal.until(prompt), `cannot reach 127.0.0.1:${port}: connection refused`);
  server = await serve({ port });
  await terminal.type("PING\r");
  await terminal.until('you said {"res":"PONG"}');
  await terminal.until(prompt);
  // Gone and back while nobody asked: nothing is lost.
  await server.shutdown();
  server = await serve({ port });
  await terminal.type("PING\r");
  const output = await terminal.until(prompt);
  assertStringIncludes(output, 'you said {"res":"PONG"}');
  assertNotMatch(output, /lost/);
  await terminal.type("exit\r");
  assertEquals((await terminal.end()).code, 0);
  await server.shutdown();
});

/** Whether no DELAY has arrived at the server yet. */
async function stillIdle(port: number): Promise<boolean> {
  await using client = await connect({ port });
  return (await client.reply("STATS")).res.commands.DELAY.inFlight === 0;
}

testInTerminal("failures are red on a terminal, without NO_COLOR, and nothing else is", async () => {
  await using server = await serve({ port: 0 });
  const run = async (args: string[], env?: Record<string, string>) => {
    await using terminal = PseudoTerminal.client(server.port, args, env);
    return await terminal.end();
  };
  const red = (text: string) => `${RED}${text}${ESCAPE}[39m\r\n`;
  const failure = 'you said {"err":"INVALID_SLEEP"}';
  assertEquals(await run(["DELAY", "-1"]), { code: 1, rest: red(failure) });
  assertEquals(await run(["DELAY", "-1"], { NO_COLOR: "1" }), { code: 1, rest: `${failure}\r\n` });
  assertEquals(await run(["DELAY", "-1", "--json"]), { code: 1, rest: '{"err":"INVALID_SLEEP"}\r\n' });
  assertEquals(await run(["PING"]), { code: 0, rest: 'you said {"res":"PONG"}\r\n' });
  const { code, rest } = await run(["PING", "x"]);
  assertEquals([code, rest.startsWith(`${RED}packline: `)], [2, true]);
});

testInTerminal("on a terminal a call shows on stderr that it waits, and a load how far it is", async () => {
  const isShown = Promise.withResolvers<void>();
  const HOLD = command(() => isShown.promise);
  await using server = await serve({ port: 0, commands: { HOLD } });
  const quiet = [...PseudoTerminal.clientCommand(server.port), "DELAY", "1.2", "2>/dev/null"].join(" ");
  const [call, withoutStderr, load] = [
    PseudoTerminal.client(server.port, ["HOLD"]),
    new PseudoTerminal(["sh", "-c", quiet]),
    PseudoTerminal.client(server.port, ["--bench", "DELAY", "0.1", "-c", "1", "-n", "5"]),
  ];
  try {
    assertEquals(visible(await call.until("cancels")), "CRESC[Kwaiting, 1 s; Ctrl-C cancels");
    isShown.resolve(); // not by the clock: each further second has a sign of its own
    const { code, rest } = await call.end();
    assertEquals([code, visible(rest)], [0, 'CRESC[Kyou said {"res":null}CR\n']);
    assertMatch((await withoutStderr.end()).rest, /^you said \{"res":"DONE","slept":[\d.]+\}\r\n$/);
    const bench = await load.end();
    const shown = visible(bench.rest);
    assertMatch(shown, /CRESC\[K\d0 %, \d calls, \d+ calls\/sCRESC\[K/);
    assertMatch(shown.split("CRESC[K").at(-1) ?? "", /^DELAY: 5 calls in /);
  } finally {
    await call[Symbol.asyncDispose]();
    await withoutStderr[Symbol.asyncDispose]();
    await load[Symbol.asyncDispose]();
  }
});

testInTerminal(
  "on a narrow terminal no word is broken: --help, --list, STATS, --bench, help at the prompt",
  async () => {
    const summary =
      "One of the commands that needs a summary of more words than fit in one line of any narrow terminal";
    const FAIL = command({
      summary,
      handler(): never {
        throw new RpcError("INSUFFICIENT_FUNDS");
      },
    });
    await using server = await serve({ port: 0, commands: { FAIL } });
    const client = PseudoTerminal.clientCommand(server.port);
    for (const columns of [120, 60, 40]) {
      const run = async (...args: string[]) => {
        await using terminal = new PseudoTerminal([...client, ...args], { NO_COLOR: "1" }, columns);
        return (await terminal.end()).rest;
      };
      await run("FAIL");
      const bench = await run("--bench", "PING", "-n", "100", "-c", "1");
      const texts = [await run("--help"), await run("--list"), await run("STATS"), bench.split("\x1b[K").at(-1) ?? ""];
      await using prompt = new PseudoTerminal(client, {}, columns);
      await prompt.until("> ");
      await prompt.type("help\r");
      texts.push(plain(await prompt.until("> ")).split("\n").slice(1).join("\n"));
      for (const line of texts.join("\n").split(/\r?\n/)) {
        const words = line.split(/ +/).filter((word) => word !== "");
        // What is longer than the terminal is wide is one word.
        assert(line.length <= columns || words.length === 1, `${columns} columns: ${line}`);
      }
      const shown = texts.join("\n");
      for (const word of summary.split(" ")) assertMatch(shown, new RegExp(`(^|\\s)${word}(\\s|$)`, "m"));
      assertMatch(shown, /INSUFFICIENT_FUNDS[ \r\n]+\d/);
      assertMatch(shown, /p99\.9\s/);
    }
  },
);
