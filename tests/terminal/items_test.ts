/** Streams from the prompt of `client.ts`, and from a terminal without it. */

import { assertEquals, assertMatch, assertNotMatch, assertStringIncludes } from "@std/assert";
import { bytes, command, unchecked } from "../../mod.ts";
import { Folder } from "../production/programs.ts";
import { serve } from "../support/demo_server.ts";
import { sleep } from "../../transport/clock.ts";
import { PseudoTerminal, testInTerminal } from "./pseudo_terminal.ts";

const CONTROL_C = "\x03";
const CONTROL_D = "\x04";

/** The text without what moves the cursor. */
function plain(text: string): string {
  // deno-lint-ignore no-control-regex -- the terminal's
  return text.replaceAll(/\x1b\[[\d;]*[A-HJK]|\r/g, "");
}

/** Answers when it has two items. */
const TWO = command({
  items: unchecked<unknown>(),
  async handler(_: object, { items }) {
    const first = [];
    for await (const item of items) if (first.push(item) === 2) break;
    return first;
  },
});

/** Takes items until it is ended. */
function held() {
  const taken = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<string>();
  const HOLD = command({
    items: bytes,
    async handler(_: object, { items }) {
      try {
        for await (const _ of items) taken.resolve();
      } catch (error) {
        ended.resolve((error as { code: string }).code);
        throw error;
      }
    },
  });
  return { HOLD, taken: taken.promise, ended: ended.promise };
}

testInTerminal("the prompt sends a file, and the lines that follow up to an empty one", async () => {
  await using server = await serve({ port: 0, commands: { TWO } });
  await using folder = await Folder.make();
  await Deno.writeFile(`${folder.path}/big`, new Uint8Array(200_001));
  const [deno, run, ...rest] = PseudoTerminal.clientCommand(server.port);
  await using terminal = new PseudoTerminal([deno, run, `--allow-read=${folder.path}`, ...rest], { NO_COLOR: "1" });
  const prompt = `127.0.0.1:${server.port}> `;
  const until = async (text: string) => plain(await terminal.until(text));
  await until(prompt);
  await terminal.type(`TALLY @${folder.path}/big\r`);
  assertStringIncludes(await until(prompt), 'you said {"res":{"items":4,"bytes":200001}}\n');
  await terminal.type(`TALLY @${folder.path}/no\r`);
  assertStringIncludes(await until(prompt), `packline: cannot read @${folder.path}/no: there is no such file\n`);
  await terminal.type("ECHO @bytes:-\r");
  assertStringIncludes(await until(prompt), "packline: @bytes:- cannot be read: standard input has the calls");

  // Typed: each item goes when its line ends, and its echo comes before the next one.
  await terminal.type("ECHO -\r");
  await until("each line is an item; an empty line ends them");
  await terminal.type("5\r");
  await until('you said {"res":5,"more":true}');
  await terminal.type("Ada\r");
  await until('you said {"res":"Ada","more":true}');
  await terminal.type("\r");
  assertStringIncludes(await until(prompt), 'you said {"res":null}\n');

  // Pasted, with the next call behind it.
  await terminal.type('TALLY @text:-\r5\r"5"\r\rPING\r');
  assertStringIncludes(await until('"bytes":4}}'), '{"items":2,');
  await until('you said {"res":"PONG"}');
  await until(prompt);

  // A line that is no value ends the call; an early answer ends the stream.
  await terminal.type("ECHO -\r1e999\r");
  await until("packline: line 1 of -: 1e999 is out of range");
  await until(prompt);
  await terminal.type("TWO -\ra\rb\r");
  await until('you said {"res":["a","b"]}');
  await until(prompt);
  await terminal.type("PING\r");
  await until('you said {"res":"PONG"}');
  await until(prompt);

  // Ctrl-D ends the items, and leaves.
  await terminal.type("ECHO -\r");
  await until("ECHO -");
  await terminal.type("x\r");
  await until('"more":true}');
  await terminal.type(CONTROL_D);
  const { code, rest: last } = await terminal.end();
  assertEquals(code, 0);
  assertStringIncludes(plain(last), 'you said {"res":null}\n');
});

testInTerminal(
  "Ctrl-C cancels a stream in the prompt: of lines, with what was typed of the next one, and of a file",
  async () => {
    const { HOLD, taken, ended } = held();
    await using server = await serve({ port: 0, commands: { HOLD } });
    const [deno, run, ...rest] = PseudoTerminal.clientCommand(server.port);
    await using terminal = new PseudoTerminal([deno, run, "--allow-read", ...rest], { NO_COLOR: "1" });
    const prompt = `127.0.0.1:${server.port}> `;
    await terminal.until(prompt);
    await terminal.type("ECHO -\r");
    await terminal.until("ECHO -");
    await terminal.type("one\r");
    await terminal.until('{"res":"one","more":true}');
    await terminal.type("half");
    await terminal.until("half");
    await terminal.type(CONTROL_C);
    await terminal.until('you said {"err":"CANCELLED"}');
    await terminal.until(prompt);
    await terminal.type("PING\r");
    assertNotMatch(await terminal.until('you said {"res":"PONG"}'), /half/);
    await terminal.until(prompt);
    await terminal.type("HOLD @/dev/zero\r");
    await taken;
    await terminal.type(CONTROL_C);
    await terminal.until('you said {"err":"CANCELLED"}');
    assertEquals(await ended, "CANCELLED");
    await terminal.until(prompt);
    await terminal.type("quit\r");
    assertEquals((await terminal.end()).code, 0);
  },
);

testInTerminal("a call that ends early leaves none of its lines to the prompt, where they would be calls", async () => {
  const HOLD = command({
    items: unchecked<unknown>(),
    handler: (_: object, { signal }) =>
      new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  });
  await using server = await serve({ port: 0, commands: { HOLD } });
  await using terminal = PseudoTerminal.client(server.port, [], { NO_COLOR: "1" });
  const prompt = `127.0.0.1:${server.port}> `;
  await terminal.until(prompt);
  // Pasted, with a call behind its empty line.
  await terminal.type("NOPE -\rone\rPING\rPING\r\rGONE\r");
  await terminal.until('packline: the server has no command "NOPE"');
  await terminal.until('packline: the server has no command "GONE"');
  await terminal.until(prompt);
  assertEquals(server.statistics().commands.PING.calls, 0);
  // Nor what was typed of an item that the server has not asked for.
  await terminal.type("HOLD -\r");
  await terminal.until("an empty line ends them");
  await terminal.type("one\r");
  await terminal.until("one\r\r\n");
  await terminal.type("half");
  await terminal.until("half");
  await terminal.type(CONTROL_C);
  await terminal.until('you said {"err":"CANCELLED"}');
  await terminal.until(prompt);
  await terminal.type("PING\r");
  assertEquals(plain(await terminal.until('"PONG"}')), 'PING\nyou said {"res":"PONG"}');
  await terminal.type(CONTROL_D);
  assertEquals((await terminal.end()).code, 0);
});

testInTerminal("what was sent of a file is shown while it is sent; Ctrl-C cancels the call", async () => {
  const { HOLD, ended } = held();
  await using server = await serve({ port: 0, commands: { HOLD } });
  const [deno, run, ...rest] = PseudoTerminal.clientCommand(server.port);
  await using terminal = new PseudoTerminal([deno, run, "--allow-read", ...rest, "HOLD", "@/dev/zero"]);
  await terminal.until("iB sent; Ctrl-C cancels");
  await terminal.type(CONTROL_C);
  await terminal.until('you said {"err":"CANCELLED"}');
  assertEquals([await ended, (await terminal.end()).code], ["CANCELLED", 130]);
});

testInTerminal(
  "lines that are typed without the prompt are a stream up to Ctrl-D; no sign of waiting disturbs them",
  async () => {
    const SLOW = command({
      items: unchecked<unknown>(),
      async *handler(_: object, { items, clock, signal }) {
        for await (const item of items) {
          await sleep(clock, 1_200, signal); // a sign would come after a second
          yield item;
        }
      },
    });
    await using server = await serve({ port: 0, commands: { SLOW } });
    await using terminal = PseudoTerminal.client(server.port, ["SLOW", "-"]);
    await terminal.type("one\r");
    assertNotMatch(await terminal.until('you said {"res":"one","more":true}'), /waiting/);
    await terminal.type(CONTROL_D);
    await terminal.until('you said {"res":null}');
    assertEquals((await terminal.end()).code, 0);
  },
);

testInTerminal(
  "a terminal that is closed completes no stream, and its unfinished line is no item and no call",
  async () => {
    const { HOLD, taken, ended } = held();
    let noted = 0;
    const NOTE = command({ handler: (_: { [name: string]: unknown }) => ++noted });
    const closed = Promise.withResolvers<void>();
    let open = 2;
    const onClose = () => {
      if (--open === 0) closed.resolve();
    };
    await using server = await serve({ port: 0, commands: { HOLD, NOTE }, onClose });
    const prompt = `127.0.0.1:${server.port}> `;
    await using streaming = PseudoTerminal.client(server.port, [], { NO_COLOR: "1" });
    await streaming.until(prompt);
    await streaming.type("HOLD -\r");
    await streaming.until("an empty line ends them");
    await streaming.type('{"$binary":"AAEC"}\rnot bytes');
    await taken;
    await streaming.until("not bytes");
    await streaming[Symbol.asyncDispose]();
    assertMatch(await ended, /^(CANCELLED|CONNECTION_LOST)$/);
    await using calling = PseudoTerminal.client(server.port, [], { NO_COLOR: "1" });
    await calling.until(prompt);
    await calling.type("NOTE x=1");
    await calling.until("NOTE x=1");
    await calling[Symbol.asyncDispose]();
    await closed.promise;
    assertEquals(noted, 0);
  },
);
