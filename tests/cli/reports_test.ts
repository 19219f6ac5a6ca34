/** `cli/reports.ts`: what INFO and STATS answer, as tables. */

import { assertEquals } from "@std/assert";
import { commandsOf, commandTable, statisticsTable } from "../../cli/reports.ts";
import type { CommandInfo, ServerStatistics } from "../../handlers/server_info.ts";

const COMMANDS: CommandInfo[] = [
  { name: "PING", number: 1, summary: "Answers PONG", params: [], stream: false },
  { name: "GREET", number: null, summary: "", params: ["name", "times"], stream: false },
];

const STATISTICS: ServerStatistics = {
  uptime: 12.5,
  connections: { open: 1, accepted: 20, refused: 0 },
  inFlight: 3,
  bytes: { received: 212, sent: 1793 },
  refused: { badFrame: 0, invalidMessage: 1, truncated: 0, unknownCommand: 2, overloaded: 0 },
  lateReplies: 0,
  draining: false,
  limits: { maxConnections: 10_000, maxInFlightTotal: 65_536 },
  commands: {
    PING: { calls: 4, errors: {}, inFlight: 0, totalMs: 1, maxMs: 0.5, durations: [] },
    DELAY: {
      calls: 10,
      errors: { INVALID_SLEEP: 5, CANCELLED: 1 },
      inFlight: 3,
      totalMs: 3456.7891,
      maxMs: 2000,
      durations: [],
    },
    INFO: { calls: 0, errors: {}, inFlight: 0, totalMs: 0, maxMs: 0, durations: [] },
  },
};

Deno.test("commandTable() has a line for each command", () => {
  assertEquals(
    commandTable(COMMANDS),
    `\
number  name   params      summary
1       PING               Answers PONG
-       GREET  name times`,
  );
});

Deno.test("statisticsTable() has the server's counts, and a line for each command", () => {
  assertEquals(
    statisticsTable(STATISTICS),
    `\
uptime, seconds              12.5
connections, open            1
connections, accepted        20
connections, refused         0
in flight                    3
bytes, received              212
bytes, sent                  1793
refused, bad frame           0
refused, invalid message     1
refused, truncated           0
refused, unknown command     2
refused, overloaded          0
late replies                 0
draining                     false
limits, max connections      10000
limits, max in flight total  65536

command  calls  in flight  mean ms  max ms    errors
PING     4      0          0.250    0.500
DELAY    10     3          345.679  2000.000  INVALID_SLEEP 5, CANCELLED 1
INFO     0      0          -        0.000`,
  );
});

Deno.test("a server of another kind may answer anything", () => {
  for (const answer of [undefined, null, 1, "text", [], {}, { commands: null }, { commands: 1 }]) {
    assertEquals(commandsOf(answer), undefined);
    assertEquals(statisticsTable(answer), undefined);
  }
  assertEquals(commandTable([null, 7, { name: ["\x1b"], params: [1n], number: NaN }]).split("\n").slice(1), [
    "",
    "",
    '{"$number":"NaN"}  ["\\u001b"]  {"$bigint":"1"}',
  ]);
  assertEquals(typeof statisticsTable({ commands: { A: null, B: { errors: 1, totalMs: "x" } } }), "string");
});
