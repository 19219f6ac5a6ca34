/** Defining a command: what is refused then, before anything listens. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { command, type Middleware, middleware } from "../../handlers/command.ts";

const handler = (_params: Record<string, unknown>) => 1;

Deno.test("command() takes numbers from 16 up, and refuses all others", () => {
  for (const number of [16, 17, 2 ** 53 - 1, undefined]) assertEquals(command({ handler, number }).number, number);
  for (const number of [0, 1, 5, 15, -1, 16.5, NaN, Infinity, 2 ** 53, "16"]) {
    assertThrows(() => command({ handler, number: number as number }), RangeError, "from 16 up");
  }
});

Deno.test("command() takes codes of errors with null or a schema, and refuses what is neither", () => {
  assertEquals(command({ handler, errors: { GONE: null } }).errors, { GONE: null });
  for (const errors of [{ GONE: "it is gone" }, { GONE: undefined }, { GONE: {} }, ["GONE"], null]) {
    const text = "as errors: it must be an object of codes, each with null or the schema of its data";
    assertThrows(() => command({ handler, errors: errors as never }), TypeError, text);
  }
});

Deno.test("command() refuses reserved parameter names", () => {
  for (const name of ["cmd", "seq", "ttl", "meta", "credit", "$", "$x"]) {
    assertThrows(() => command({ handler, params: ["fine", name] }), TypeError, `"${name}"`);
  }
  const params = ["max", "cancel", "res", "err", "more", "__proto__", "constructor", "a$", ""];
  assertEquals(command({ handler, params }).params, params);
});

Deno.test("command() takes the names of the parameters in an array, and says where a schema goes", () => {
  for (const params of [{ "~standard": {} }, "ab", [1], null, () => {}]) {
    assertThrows(
      () => command({ handler, params: params as never }),
      TypeError,
      "as params: it must be an array of names",
    );
  }
  const error = assertThrows(() => command({ handler, params: {} as never }), TypeError);
  assertEquals(
    error.message,
    "Cannot use an object as params: it must be an array of names; a schema of the parameters goes into `schema`",
  );
});

Deno.test("command() refuses a schema without the common interface, before a call meets it", () => {
  const validate = (value: unknown) => ({ value });
  const schema = { "~standard": { version: 1 as const, vendor: "test", validate } };
  const callable = Object.assign(() => {}, schema); // as those of arktype
  for (const name of ["schema", "items", "result"]) {
    for (const right of [schema, callable]) command({ handler, [name]: right });
    for (const wrong of [{}, { parse: () => 1 }, { type: "object" }, { "~standard": {} }, "text", null, () => {}]) {
      const error = assertThrows(() => command({ handler, [name]: wrong }), TypeError);
      assertStringIncludes(error.message, ` as ${name}: it must be a schema with the interface Standard Schema`);
    }
  }
});

Deno.test("command() refuses a time that is none; Infinity is without end", () => {
  for (const timeoutMs of [1, 2 ** 31 - 1, Infinity]) {
    assertEquals(command({ handler, timeoutMs }).timeoutMs, timeoutMs);
  }
  for (const timeoutMs of [0, -1, 1.5, NaN, -Infinity, 2 ** 31, "5"]) {
    const error = assertThrows(() => command({ handler, timeoutMs: timeoutMs as number }), RangeError);
    assertStringIncludes(error.message, " as timeoutMs: it must be a whole number from 1 to 2147483647, or Infinity");
  }
});

Deno.test("command.with() and middleware() refuse what is no function, before a call meets it", () => {
  const kinds = [undefined, null, {}, [() => {}], "auth", 5].map((wrong) => wrong as unknown as Middleware);
  const told = ["undefined", "null", "an Object", "an array", "a string", "a number"];
  for (const [index, wrong] of kinds.entries()) {
    const [one, other] = [() => command.with(wrong), () => middleware(wrong)].map((make) =>
      assertThrows(make, TypeError).message
    );
    assertEquals(one, `Cannot use ${told[index]} as the argument of with(): it must be a function`);
    assertEquals(other, `Cannot use ${told[index]} as the argument of middleware(): it must be a function`);
  }
});

Deno.test("command() keeps what it was given, and lets nobody change it", () => {
  const definition = { handler, number: 20, summary: "Does it", params: ["a"], timeoutMs: 5 };
  const made = command(definition);
  assertEquals({ ...made }, definition);
  assert(Object.isFrozen(made));
  definition.number = 1;
  assertEquals(made.number, 20);
});
