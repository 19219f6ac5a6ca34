/** `client.ts describe COMMAND`: all that the server tells of one command. */

import { assertEquals } from "@std/assert";
import { commandDescription } from "../../cli/reports.ts";
import { command } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { runClient } from "./scripts.ts";

const GREET = command({
  number: 16,
  summary: "Greets somebody",
  params: ["name", "times"],
  handler: ({ name }: { name: string; times?: number }) => `Hello, ${name}!`,
});

const describe = command({ handler: ({ what }: { what?: string }) => `the server's own: ${what}` });

Deno.test("describe shows the parameters of a command, to people and to programs", async () => {
  await using server = await serve({ port: 0, commands: { GREET } });
  const [people, program, missing, json, bench] = await Promise.all([
    runClient(server.port, "describe", "GREET"),
    runClient(server.port, "describe", "GREET", "--json"),
    runClient(server.port, "describe", "greet"),
    runClient(server.port, "describe", "FOO", "--json"),
    runClient(server.port, "describe", "GREET", "--bench"),
  ]);
  assertEquals(people, {
    code: 0,
    stdout: "GREET: Greets somebody\n\nparameters  name\n            times\nanswers     once\nnumber      16\n",
    stderr: "",
  });
  assertEquals(program.code, 0);
  assertEquals(JSON.parse(program.stdout).params, ["name", "times"]);
  assertEquals(missing, {
    code: 1,
    stdout: "",
    stderr: 'packline: the server has no command "greet" (did you mean GREET?)\n',
  });
  assertEquals(json, { code: 1, stdout: "", stderr: 'packline: the server has no command "FOO"\n' });
  assertEquals(bench, { code: 2, stdout: "", stderr: "packline: describe cannot be used with --bench; see --help\n" });
});

Deno.test("a command of the server whose name is describe can still be called", async () => {
  await using server = await serve({ port: 0, commands: { describe } });
  assertEquals(
    (await runClient(server.port, "describe", "what=x", "--json")).stdout,
    '{"res":"the server\'s own: x"}\n',
  );
  assertEquals(
    (await runClient(server.port, "describe", "-", "--json")).stdout,
    '{"res":"the server\'s own: undefined"}\n',
  );
  assertEquals((await runClient(server.port, "describe", "describe")).stdout, "describe\n\nanswers  once\n");
});

Deno.test("what a later server tells of a command is shown as well", () => {
  const later = {
    name: "ADD",
    number: null,
    stream: true,
    params: [{ name: "a", type: "number" }, { name: "b", type: "number" }],
    result: "number",
    errors: ["TOO_LARGE", "INVALID_PARAMS"],
  };
  assertEquals(
    commandDescription(later),
    `ADD

parameters  {"name":"a","type":"number"}
            {"name":"b","type":"number"}
answers     with a stream
result      number
errors      TOO_LARGE
            INVALID_PARAMS`,
  );
  assertEquals(commandDescription(null), "");
});
