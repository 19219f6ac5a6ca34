/** The registry: what finds a command, what does not, and what is refused before a server listens. */

import { assert, assertEquals, assertStrictEquals, assertThrows } from "@std/assert";
import { demoCommands } from "../../cli/demo_commands.ts";
import { command, type Commands } from "../../handlers/command.ts";
import { builtIns, Registry } from "../../handlers/registry.ts";

const handler = (_params: Record<string, unknown>) => 1;
const MINE = command({ handler, number: 16 });
const YOURS = command({ handler });

Deno.test("Registry finds every command by its name, and by its number where it has one", () => {
  const registry = new Registry({ MINE, YOURS });
  assertEquals(registry.find("MINE")?.command, MINE);
  assertStrictEquals(registry.find(16), registry.find("MINE"));
  assertEquals(registry.find("YOURS")?.command, YOURS);
  for (const [name, { number }] of Object.entries(builtIns)) {
    assertEquals(registry.find(name)?.name, name);
    assertEquals(registry.find(number)?.name, name);
  }
  assertEquals([1, 2, 3, 4].map((number) => registry.find(number)?.name), ["PING", undefined, "INFO", "STATS"]);
  const demo = new Registry(demoCommands);
  assertEquals([demo.find(2), demo.find("TICK")].map((found) => found?.name), ["DELAY", "TICK"]);
});

Deno.test("Registry finds nothing by a name that every object has", () => {
  const registry = new Registry({});
  for (const name of [...Object.getOwnPropertyNames(Object.prototype), ...Object.getOwnPropertyNames(Map.prototype)]) {
    assertEquals(registry.find(name), undefined, name);
  }
  for (const cmd of [undefined, "", "ping", "1", 0, 5, 15, 16, 1.5, -1, NaN]) {
    assertEquals(registry.find(cmd), undefined);
  }
});

Deno.test("Registry takes own commands only, not those of a prototype", () => {
  const registry = new Registry(Object.create({ MINE }));
  assertEquals(registry.find("MINE"), undefined);
});

Deno.test("Registry lets a command replace a built-in one, and gives it the number of the name", () => {
  for (const [name, { number }] of Object.entries(builtIns)) {
    const registry = new Registry({ [name]: YOURS });
    assertStrictEquals(registry.find(name)?.command.handler, YOURS.handler);
    assertStrictEquals(registry.find(number), registry.find(name));
    assertEquals(registry.find(name)?.immediate, false);
    assertEquals(registry.describe().length, Object.keys(builtIns).length);
  }
  const own = { handler, number: 1 };
  assertStrictEquals(new Registry({ PING: own }).find(1)?.command.handler, handler);
  const text = 'Cannot register "PING": its number is 1, not 16';
  assertThrows(() => new Registry({ PING: MINE }), RangeError, text);
});

Deno.test("Registry has those of the built-in commands that are wanted", () => {
  const registry = new Registry({ MINE }, { builtIns: ["INFO"] });
  assertEquals(registry.entries().map(({ name }) => name), ["INFO", "MINE"]);
  assertEquals([registry.find(1), registry.find("STATS")], [undefined, undefined]);
  assertEquals(new Registry({}, { builtIns: [] }).entries(), []);
  assertEquals(new Registry({ PING: YOURS }, { builtIns: [] }).find(1)?.name, "PING");
});

Deno.test("Registry refuses a number that is taken, and says by whom", () => {
  const OTHER = command({ handler, number: 16 });
  assertThrows(() => new Registry({ MINE, OTHER }), RangeError, '"OTHER": the number 16 is taken by "MINE"');
  assertThrows(() => new Registry({ MINE, ALIAS: MINE }), RangeError, '"ALIAS": the number 16 is taken by "MINE"');
});

Deno.test("Registry refuses what is no command", () => {
  for (const wrong of [undefined, null, 5, "PING", handler, {}, { handler: 5 }, []]) {
    assertThrows(
      () => new Registry({ WRONG: wrong } as unknown as Commands),
      TypeError,
      '"WRONG": it is not a command',
    );
  }
});

Deno.test("an object whose handler is a method of its class is no command: the method would be lost", () => {
  class Service {
    handler() {
      return "lost";
    }
  }
  assertThrows(() => command(new Service() as never), TypeError, "without a handler");
  assertThrows(() => new Registry({ WRONG: new Service() }), TypeError, '"WRONG": it is not a command');
});

Deno.test("Registry refuses an object that command() would have refused", () => {
  for (const number of [0, 1, 5, 15, 1.5, NaN]) {
    assertThrows(() => new Registry({ RAW: { handler, number } }), RangeError, "from 16 up");
  }
  assertThrows(() => new Registry({ RAW: { handler, params: ["seq"] } }), TypeError, '"seq"');
  assertThrows(() => new Registry({ RAW: { handler, timeoutMs: -1 } }), RangeError, "as timeoutMs");
  assertEquals(new Registry({ RAW: { handler, number: 16 } }).find(16)?.name, "RAW");
});

Deno.test("Registry describes all commands, and tells a stream by its handler", () => {
  const STREAM = command({ number: 17, handler: async function* (_params: Record<string, unknown>) {} });
  const described = new Registry({ YOURS, STREAM, MINE }).describe();
  assertEquals(described.map(({ name }) => name), [
    "PING",
    "INFO",
    "STATS",
    "MINE",
    "STREAM",
    "YOURS",
  ]);
  assertEquals(described.filter(({ stream }) => stream).map(({ name }) => name), ["STREAM"]);
  assert(described.slice(0, 3).every(({ summary }) => summary.length > 0));
});
