/** `cli/call.ts`: words to a call, and a call to its frames. */

import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../cli/arguments.ts";
import { outgoing, readCall } from "../../cli/call.ts";
import { decode } from "../support/msgpack.ts";

/** The article's own frames, as in the vectors. */
const FRAMES: [words: string[], hex: string][] = [
  [["PING"], "202681a3636d64010a"],
  [["DELAY", "3"], "202d82a5736c65657003a3636d64020a"],
  [["DELAY", "10"], "202d82a5736c6565700aa3636d64020a"],
  [["DELAY", "0.5"], "203582a5736c656570cb3fe0000000000000a3636d64020a"],
  [["DELAY", "-1"], "202d82a5736c656570ffa3636d64020a"],
  [["DELAY", "sleep=3"], "202d82a5736c65657003a3636d64020a"],
  [["DELAY"], "202681a3636d64020a"],
  [["DELAY", "abc"], "202681a3636d64020a"],
  [["DELAY", " "], "202681a3636d64020a"],
  [["DELAY", "Infinity"], "203582a5736c656570cb7ff0000000000000a3636d64020a"],
];

/** Other commands go by their names, and with the settings that let a long reply come. */
const NAMED_FRAMES: [words: string[], hex: string][] = [
  [["FOO"], "202e82a3636d64a3464f4fa3736571010a"],
  [["toString"], "203382a3636d64a8746f537472696e67a3736571010a"],
  [["INFO"], "202b82a3636d6403a3736571010a"],
];

Deno.test("a call of PING or DELAY becomes the frame that the article's client sends", () => {
  for (const [words, hex] of FRAMES) {
    const { request, settings } = outgoing(readCall(words));
    assertEquals([request.toHex(), settings], [hex, undefined], words.join(" "));
  }
});

/** `{cmd: 0, max: 1048576, alive: 30000}` */
const SETTINGS = "203883a3636d6400a36d6178ce00100000a5616c697665cd75300a";

Deno.test("a call of anything else has a seq, and settings that say how long its reply may be, and promise signs of life", () => {
  for (const [words, hex] of NAMED_FRAMES) {
    const { request, settings } = outgoing(readCall(words));
    assertEquals([request.toHex(), settings?.toHex()], [hex, SETTINGS], words.join(" "));
  }
  const { request, settings } = outgoing(readCall(["FOO"]), { maxPayloadBytes: 57_310 });
  assertEquals([request.toHex(), settings], ["202981a3636d64a3464f4f0a", undefined]);
});

Deno.test("parameters are JSON where they parse as such, else text, and stand before cmd", () => {
  const call = readCall([
    "GREET",
    "name=Ada",
    "times=2",
    'digits="2"',
    "id=007",
    "empty=",
    "equation=a=b",
    "nothing=null",
    'deep={"a":[1,{"$number":"NaN"}]}',
    "big=9007199254740993",
    'bytes={"$binary":"AAEC"}',
    "__proto__=1",
  ]);
  const expected = {
    name: "Ada",
    times: 2,
    digits: "2",
    id: "007",
    empty: "",
    equation: "a=b",
    nothing: null,
    deep: { a: [1, NaN] },
    big: 9007199254740993n,
    bytes: Uint8Array.of(0, 1, 2),
    ["__proto__"]: 1,
  };
  assertEquals(call, { name: "GREET", params: expected });
  const { request } = outgoing(call);
  assertEquals(decode(request.subarray(2, -1)), { ...expected, ["__proto__"]: 1, cmd: "GREET", seq: 1 });
});

Deno.test("readCall() refuses what is no call", () => {
  const refused: [words: string[], text: string][] = [
    [[], "specify a command to call"],
    [["PING", "x"], '"x" is not a parameter: write key=value'],
    [["GREET", "=1"], '"=1" is not a parameter'],
    [["DELAY", "1", "2"], '"2" is not a parameter'],
    [["DELAY", "1", "sleep=2"], 'the parameter "sleep" is given twice'],
    [["GREET", "a=1", "a=1"], 'the parameter "a" is given twice'],
    [["GREET", "seq=1"], '"seq" is reserved'],
    [["GREET", "$a=1"], '"$a" is reserved'],
    [["GREET", "a=1e400"], "1e400 is out of range"],
  ];
  for (const [words, text] of refused) assertThrows(() => readCall(words), UsageError, text);
});

Deno.test("outgoing() refuses parameters that a message cannot hold", () => {
  const deep = readCall(["GREET", `a=${"[".repeat(100)}${"]".repeat(100)}`]);
  assertThrows(() => outgoing(deep), UsageError, "the parameters cannot be sent");
  const large = readCall(["GREET", `a=${"x".repeat(1024 * 1024)}`]);
  assertThrows(() => outgoing(large), UsageError, "the limit is 1048576");
  assertEquals(outgoing(large, { maxPayloadBytes: 2 * 1024 * 1024 }).request.length > 1024 * 1024, true);
});

Deno.test("outgoing() sends what is too long for a short frame in a long one", () => {
  const { request } = outgoing(readCall(["GREET", `a=${"x".repeat(60_000)}`]));
  assertEquals(request.subarray(0, 2).toHex(), "1f1f");
});
