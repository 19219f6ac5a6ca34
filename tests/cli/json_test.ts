/** `cli/json.ts`: values of the wire as JSON, and back. */

import { assertEquals, assertThrows } from "@std/assert";
import { UsageError } from "../../cli/arguments.ts";
import { fromJson, toJson, toReadableJson } from "../../cli/json.ts";

/** Values and their JSON, both ways. */
const PAIRS: [value: unknown, json: string][] = [
  [null, "null"],
  [true, "true"],
  ["Ada", '"Ada"'],
  [0.5, "0.5"],
  [Number.MAX_SAFE_INTEGER, "9007199254740991"],
  [1e300, "1e+300"],
  [9007199254740993n, '{"$bigint":"9007199254740993"}'],
  [-(2n ** 63n), '{"$bigint":"-9223372036854775808"}'],
  [2n ** 64n - 1n, '{"$bigint":"18446744073709551615"}'],
  [Uint8Array.of(0, 1, 2, 255), '{"$binary":"AAEC/w=="}'],
  [new Uint8Array(), '{"$binary":""}'],
  [NaN, '{"$number":"NaN"}'],
  [Infinity, '{"$number":"Infinity"}'],
  [-Infinity, '{"$number":"-Infinity"}'],
  [-0, '{"$number":"-0"}'],
  [2 ** 53, "9007199254740992.0"],
  [-1e20, "-100000000000000000000.0"],
  [1e21, "1e+21"],
  [[1n, [NaN]], '[{"$bigint":"1"},[{"$number":"NaN"}]]'],
  [{ a: { b: [Uint8Array.of(1)] } }, '{"a":{"b":[{"$binary":"AQ=="}]}}'],
  // Real maps that look like a form, and some that do not.
  [{ $binary: "AAEC" }, '{"$$binary":"AAEC"}'],
  [{ $$binary: "AAEC" }, '{"$$$binary":"AAEC"}'],
  [{ $number: 1n }, '{"$$number":{"$bigint":"1"}}'],
  [{ $bigint: { $bigint: NaN } }, '{"$$bigint":{"$$bigint":{"$number":"NaN"}}}'],
  [{ $binary: 1, $number: 2 }, '{"$binary":1,"$number":2}'],
  [{ $ref: "x" }, '{"$ref":"x"}'],
  [{ $: 1 }, '{"$":1}'],
  [[["$binary"]], '[["$binary"]]'],
];

Deno.test("toJson() and fromJson() are each other's reverse", () => {
  for (const [value, json] of PAIRS) {
    assertEquals(toJson(value), json);
    assertEquals(fromJson(json), value, json);
  }
});

Deno.test("a key __proto__ is a key like any other", () => {
  const json = '{"__proto__":{"a":{"$bigint":"1"}}}';
  const value = fromJson(json) as object;
  assertEquals(Object.getPrototypeOf(value), Object.prototype);
  assertEquals(toJson(value), json);
});

Deno.test("toJson() lets no control character through", () => {
  const codes = [...Array(0x20).keys(), ...Array.from({ length: 0x21 }, (_, index) => 0x7f + index), 0x2028, 0x2029];
  const text = codes.map((code) => String.fromCharCode(code)).join("");
  for (const json of [toJson(text), toJson({ [text]: 1 })]) {
    // deno-lint-ignore no-control-regex -- finding control characters is what this is for
    assertEquals(/[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(json), false);
  }
  assertEquals(JSON.parse(toJson(text)), text);
  assertEquals(toJson("\x1b[2J\x9b\u2028é"), '"\\u001b[2J\\u009b\\u2028é"');
});

Deno.test("fromJson() rounds no integer", () => {
  assertEquals(fromJson("9007199254740993"), 9007199254740993n);
  assertEquals(fromJson("-9007199254740993"), -9007199254740993n);
  assertEquals(fromJson("[18446744073709551615]"), [18446744073709551615n]);
  assertEquals(fromJson("1e20"), 1e20, "a float is a float");
  assertEquals(fromJson("9007199254740993.0"), 9007199254740992, "a float is a float");
});

Deno.test("fromJson() refuses numbers and forms that stand for no value", () => {
  const refused: [json: string, text: string][] = [
    ["18446744073709551616", "18446744073709551616 takes more than 64 bits"],
    ["-9223372036854775809", "takes more than 64 bits"],
    ["1e400", "1e400 is out of range"],
    ["-1e400", "-1e400 is out of range"],
    ["1" + "0".repeat(400), "is out of range"],
    ['{"$bigint":"18446744073709551616"}', "takes more than 64 bits"],
    ['{"$bigint":"1.5"}', '{"$bigint": "1.5"} is not a valid value'],
    ['{"$bigint":1}', '{"$bigint": 1} is not a valid value'],
    ['{"$binary":"?"}', "is not base64"],
    ['{"$binary":[1]}', "is not a valid value"],
    ['{"$number":"1"}', "is not a valid value"],
    ['{"$number":1}', "is not a valid value"],
    ["[".repeat(50_000) + "]".repeat(50_000), "the JSON is nested too deeply"],
  ];
  for (const [json, text] of refused) assertThrows(() => fromJson(json), UsageError, text);
  for (const text of ["Ada", "", "007", "{", "NaN", "1 2"]) assertThrows(() => fromJson(text), SyntaxError);
});

Deno.test("toReadableJson() shows numbers as people read them, and everything else as toJson()", () => {
  const numbers: [value: number, text: string][] = [
    [0.10149365700001363, "0.101494"],
    [-0.10149365700001363, "-0.101494"],
    [3.003000020980835, "3.003"],
    [70.77615112699999, "70.776151"],
    [263904.22012299996, "263904.220123"],
    [0.1 + 0.2, "0.3"],
    [1.23456789e-9, "1.23457e-9"],
    [5e-324, "5e-324"],
    [9007199254740991, "9007199254740991"],
    [1e21, "1e+21"],
    [123456789012345.67, "123456789012345.67"],
  ];
  for (const [value, text] of numbers) assertEquals(toReadableJson({ slept: [value] }), `{"slept":[${text}]}`);
  for (const [value, json] of PAIRS) assertEquals(toReadableJson(value), json);
});
