/** Level 4: settings that say when a connection dies. What takes time, or a shutdown, is in `server_checks.ts`. */

import { NUMBER } from "../values.ts";
import type { Message } from "../wire.ts";
import { CLIENT_FIN, expect, goesOn, send, sendAll, SERVER_FIN, type Step, type Vector, vectorsOf } from "./vector.ts";

const INVALID = { err: "INVALID_MESSAGE" };
const LONG = { sleep: 3600, cmd: 2 };

/** All of level 4 that is a plain conversation. */
export const KNOWING: Vector[] = [
  ...vectorsOf(4, "control (0)", [], [
    ...([
      ["`alive` is 999", { alive: 999 }],
      ["`alive` is 3,600,001", { alive: 3_600_001 }],
      ["`alive` is 0", { alive: 0 }],
      ["`alive` is a fraction", { alive: 1_000.5 }],
      ["`alive` is a text", { alive: "1000" }],
      ["`alive` is nil", { alive: null }],
      ["`notice` is 1", { notice: 1 }],
      ["`notice` is nil", { notice: null }],
      ["`alive` and `cancel`: two meanings", { alive: 30_000, seq: 1, cancel: true }],
      ["one good setting and one bad one", { max: 60_000, notice: "x" }],
    ] as [string, Message][]).map(([name, fields]): [string, Step[]] => [
      name,
      [...goesOn(), send({ cmd: 0, ...fields }), expect(INVALID), ...goesOn()],
    ]),
    ["all settings at once", [send({ cmd: 0, max: 60_000, alive: 30_000, notice: true }), ...goesOn()]],
    ["the least and the most of `alive`", [
      send({ cmd: 0, alive: 1_000 }),
      send({ cmd: 0, alive: 3_600_000 }),
      ...goesOn(),
    ]],
    ["`notice` is false", [send({ cmd: 0, notice: false }), ...goesOn()]],
    ["a setting between requests", [...goesOn(1), send({ cmd: 0, alive: 30_000 }), ...goesOn(2)]],
    ["settings and a field that the server does not know", [
      send({ cmd: 0, notice: true, later: 1 }),
      ...goesOn(),
    ]],
  ]),
  ...vectorsOf(4, "Signs of life", ["DELAY"], [
    ["after `alive`, the end of the client's half ends its calls without an answer", [
      send({ cmd: 0, alive: 30_000 }),
      send({ ...LONG, seq: 1 }),
      ...goesOn(2),
      CLIENT_FIN,
      SERVER_FIN,
    ]],
    ["and the queue's", [
      send({ cmd: 0, alive: 30_000 }),
      sendAll([LONG, { cmd: 1 }, { cmd: 1, seq: 2 }]),
      expect({ seq: 2, res: "PONG" }),
      CLIENT_FIN,
      SERVER_FIN,
    ]],
    ["calls are answered as ever", [
      send({ cmd: 0, alive: 30_000 }),
      send({ sleep: 0.02, cmd: 2, seq: 1 }),
      expect({ seq: 1, res: "DONE", slept: NUMBER }),
    ]],
  ]),
  ...vectorsOf(4, "Signs of life", [], [
    ["an end with nothing open is an end in order", [
      send({ cmd: 0, alive: 30_000 }),
      ...goesOn(1),
      CLIENT_FIN,
      SERVER_FIN,
    ]],
  ]),
];
