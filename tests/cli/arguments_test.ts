/** `cli/arguments.ts` and `cli/flags.ts`: what is a flag, what is a word, and what is neither. */

import { assertEquals, assertThrows } from "@std/assert";
import { type Flags, readArguments, toggle, UsageError } from "../../cli/arguments.ts";
import { countFlag, hostnameFlag, portFlag, secondsFlag } from "../../cli/flags.ts";

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
  const words = ["-1", "007", "0x10", "1e3", "-0.5", "-Infinity", "true", "false", "", "a=--json", "1_000", " 2 "];
  assertEquals(read(...words).words, words);
  assertEquals(read("--json", "true"), { flags: { json: true }, words: ["true"] });
  assertEquals(read("--json", "--", "--json", "-x", "--").words, ["--json", "-x", "--"]);
});

Deno.test("readArguments() refuses what is no flag, and what is no way to use one", () => {
  const refused: [args: string[], text: string][] = [
    [["--bogus"], "unknown flag --bogus"],
    [["--bogus=1"], "unknown flag --bogus"],
    [["-h"], "unknown flag -h"],
    [["-"], "unknown flag -"],
    [["-p", "1"], "unknown flag -p"],
    [["--no-json"], "unknown flag --no-json"],
    [["--no-json=1"], "unknown flag --no-json"],
    [["--port.x=1"], "unknown flag --port.x (did you mean --port?)"],
    [["--graceTime", "1"], "unknown flag --graceTime (did you mean --grace-time?)"],
    [["--host", "a"], "unknown flag --host (did you mean --hostname?)"],
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

Deno.test("a time is a plain decimal number of seconds that a timer can hold", () => {
  assertEquals(read("--grace-time", "0").flags.graceTime, 0);
  assertEquals(read("--timeout", "2147483.647").flags.timeout, 2147483.647);
  for (const text of ["", "abc", "-1", "1e3", "Infinity", "NaN", ".", "1s", "2147483.648"]) {
    assertThrows(() => read("--grace-time", text), UsageError, "--grace-time");
  }
  assertThrows(() => read("--timeout", "0"), UsageError, "above 0");
  assertThrows(() => read("--timeout", "0.0"), UsageError, "above 0");
});
