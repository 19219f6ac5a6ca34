/** `cli/arguments.ts` and `cli/flags.ts`: what is a flag, what is a word, and what is neither. */

import { assertEquals, assertThrows } from "@std/assert";
import { type Flags, readArguments, toggle, UsageError } from "../../cli/arguments.ts";
import { countFlag, hostnameFlag, limitFlag, portFlag, secondsFlag } from "../../cli/flags.ts";
import { readSize, readTime, sizeText, timeText } from "../../cli/units.ts";

const FLAGS = {
  hostname: hostnameFlag("an address"),
  port: portFlag("a port", 0),
  graceTime: secondsFlag("a time", { zero: true }),
  timeout: secondsFlag("a time", { zero: false }),
  json: toggle("a switch"),
  connections: countFlag("a number", 1, "c"),
} satisfies Flags;

const read = (...args: string[]) => readArguments(args, FLAGS);

Deno.test("readArguments() takes flags anywhere, with their value behind = or as the next argument", () => {
  assertEquals(read(), { flags: {}, words: [] });
  assertEquals(read("--port", "80", "PING", "--json", "a=1"), {
    flags: { port: 80, json: true },
    words: ["PING", "a=1"],
  });
  assertEquals(read("DELAY", "--grace-time=.5", "2"), { flags: { graceTime: 0.5 }, words: ["DELAY", "2"] });
  assertEquals(read("--hostname=a=b").flags, { hostname: "a=b" });
  assertEquals(read("--hostname=::1").flags, { hostname: "::1" });
  assertEquals(read("--hostname=fe80::1:22").flags, { hostname: "fe80::1:22" });
});

Deno.test("readArguments() takes a short name for a long one", () => {
  for (const args of [["-c", "50"], ["-c=50"], ["--connections", "50"]]) {
    assertEquals(read("PING", ...args), { flags: { connections: 50 }, words: ["PING"] });
  }
  assertThrows(() => read("-c", "1", "--connections", "2"), UsageError, "--connections is given 2 times");
  assertThrows(() => read("-c", "1.5"), UsageError, "--connections 1.5: it must be a whole number of at least 1");
  assertThrows(() => read("-undefined"), UsageError, "unknown flag -undefined");
});

Deno.test("readArguments() leaves words as they stand", () => {
  const words = ["-1", "007", "0x10", "1e3", "-0.5", "-Infinity", "true", "false", "", "a=--json", "1_000", " 2 ", "-"];
  assertEquals(read(...words).words, words);
  assertEquals(read("--json", "true"), { flags: { json: true }, words: ["true"] });
  assertEquals(read("--json", "--", "--json", "-x", "--").words, ["--json", "-x", "--"]);
});

Deno.test("readArguments() refuses what is no flag, and what is no way to use one", () => {
  const refused: [args: string[], text: string][] = [
    [["--bogus"], "unknown flag --bogus"],
    [["--bogus=1"], "unknown flag --bogus"],
    [["-h"], "unknown flag -h"],
    [["-p", "1"], "unknown flag -p"],
    [["--no-json"], "unknown flag --no-json"],
    [["--no-json=1"], "unknown flag --no-json"],
    [["--port.x=1"], "unknown flag --port.x (did you mean --port?)"],
    [["--graceTime", "1"], "unknown flag --graceTime (did you mean --grace-time?)"],
    [["--host", "a"], "unknown flag --host (did you mean --hostname?)"],
    [["--hostname", "a:80"], "--hostname a:80: give the port on its own, as --hostname a --port 80"],
    [["--hostname", "[::1]:80"], "--hostname [::1]:80: give the port on its own, as --hostname [::1] --port 80"],
    [
      ["--hostname", "http://a"],
      "--hostname http://a: it must be a name or an address, such as 127.0.0.1 or localhost",
    ],
    [["--tiemout=1"], "unknown flag --tiemout (did you mean --timeout?)"],
    [["--constructor"], "unknown flag --constructor"],
    [["--__proto__=1"], "unknown flag --__proto__"],
    [["--="], "unknown flag --"],
    [["--json", "--json"], "--json is given 2 times"],
    [["--port=1", "--port", "2"], "--port is given 2 times"],
    [["--json=true"], "--json takes no value"],
    [["--json="], "--json takes no value"],
    [["--port"], "--port needs a value"],
    [["--port="], "--port needs a value"],
    [["--port", ""], "--port needs a value"],
    [["--port", "--json"], "--port needs a value"],
    [["--port", "--", "1"], "--port needs a value"],
  ];
  for (const [args, text] of refused) {
    const error = assertThrows(() => read(...args), UsageError, undefined, args.join(" "));
    assertEquals((error as UsageError).message, text);
  }
});

Deno.test("a port is a whole number in its range, and nothing but", () => {
  assertEquals(read("--port", "0").flags.port, 0);
  assertEquals(read("--port", "65535").flags.port, 65535);
  for (const text of ["abc", "70000", "65536", "1.5", "-1", "1e3", "0x10", " 1", "1 ", "+1", "١"]) {
    assertThrows(() => read("--port", text), UsageError, "a whole number from 0 to 65535");
  }
  assertThrows(() => readArguments(["--port", "0"], { port: portFlag("a port", 1) }), UsageError, "from 1 to");
});

Deno.test("a time has a unit, or is a number of seconds, and a timer can hold it", () => {
  const times = new Map([
    ...[["0", 0], ["0ms", 0], ["500ms", 0.5], ["2s", 2], ["2", 2], ["1.5s", 1.5], [".5", 0.5], ["3.", 3]] as [
      string,
      number,
    ][],
    ...[["5m", 300], ["0.5m", 30], ["1h", 3_600], ["0.0001s", 0], ["2147483.647", 2147483.647]] as [string, number][],
  ]);
  for (const [text, seconds] of times) assertEquals(read("--grace-time", text).flags.graceTime, seconds, text);
  for (
    const text of ["abc", "-1", "1e3", "Infinity", "NaN", ".", "s", "1S", "1 s", " 1s", "1d", "1m30s", "none"]
  ) {
    const error = assertThrows(() => read("--grace-time", text), UsageError);
    assertEquals(error.message, `--grace-time ${text}: write a time as 500ms, 2s, 5m or 1h; a bare number is seconds`);
  }
  for (const text of ["0", "0.0", "0.4ms", "2147483648ms", "597h"]) {
    const error = assertThrows(() => read("--timeout", text), UsageError);
    assertEquals(error.message, `--timeout ${text}: it must be from 1ms to 2147483647ms`);
  }
});

Deno.test("a limit in bytes may have a unit, and one without an end may be none", () => {
  const known = { maxPayloadBytes: limitFlag("maxPayloadBytes", ""), idleTimeoutMs: limitFlag("idleTimeoutMs", "") };
  const limits = (...args: string[]) => readArguments(args, known).flags;
  for (const [text, bytes] of [["1", 1], ["4096", 4096], ["64KiB", 65_536], ["3MiB", 3_145_728]] as const) {
    assertEquals(limits("--max-payload-bytes", text), { maxPayloadBytes: bytes });
  }
  for (const text of ["0", "0KiB", "1.5MiB", "1MB", "1mib", "1 MiB", "65MiB", "1GiB", "KiB", "none", "1s"]) {
    const error = assertThrows(() => limits("--max-payload-bytes", text), UsageError);
    const rule = "it must be a whole number from 1 to 67108864, such as 4096, 64KiB or 1MiB";
    assertEquals(error.message, `--max-payload-bytes ${text}: ${rule}`);
  }
  assertEquals(limits("--idle-timeout", "5m"), { idleTimeoutMs: 300_000 });
  assertEquals(limits("--idle-timeout", "none"), { idleTimeoutMs: Infinity });
});

Deno.test("a time and a size are shown in their largest unit, as they are read", () => {
  for (const text of ["1ms", "1500ms", "10s", "90s", "5m", "2h", "none"]) {
    assertEquals(timeText(readTime(text) ?? Infinity), text);
  }
  for (const text of ["1", "1500", "1KiB", "1025KiB", "16MiB", "2GiB"]) {
    assertEquals(sizeText(readSize(text) ?? 0), text);
  }
});
