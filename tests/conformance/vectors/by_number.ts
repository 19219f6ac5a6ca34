/** Level 2: requests with `seq`, deadlines, cancel. */

import { encode, Raw } from "../msgpack.ts";
import { NUMBER } from "../values.ts";
import { frame, type Message } from "../wire.ts";
import {
  CLIENT_FIN,
  expect,
  goesOn,
  pong,
  send,
  sendAll,
  sendBytes,
  SERVER_FIN,
  type Step,
  type Vector,
  vectorsOf,
} from "./vector.ts";

const INVALID = { err: "INVALID_MESSAGE" };
const DONE = { res: "DONE", slept: NUMBER };
const LONG = { sleep: 3600, cmd: 2 };
const BROKEN = sendBytes(...frame(encode({ cmd: 1 })).subarray(0, -1), 0x0d);

function cancel(seq: number): Step {
  return send({ cmd: 0, seq, cancel: true });
}

function cancelled(seq: number): Step {
  return expect({ seq, err: "CANCELLED" });
}

const order: Vector[] = [
  ...vectorsOf(2, "Order", [], [
    ...([0, 1, 127, 128, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1] as const).map((
      seq,
    ): [string, Step[]] => [`\`seq\` ${seq} comes back`, [send({ cmd: 1, seq }), expect(pong(seq))]]),
    ["`seq` as a 64-bit integer", [
      send({ cmd: 1, seq: new Raw(Uint8Array.of(0xd3, 0, 0, 0, 0, 0, 0, 0, 1)) }),
      expect(pong(1)),
    ]],
    ["`seq` as a whole float", [
      send({ cmd: 1, seq: new Raw(Uint8Array.of(0xcb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0)) }),
      expect(pong(1)),
    ]],
    ["`seq` may be used again after the reply", [...goesOn(1), ...goesOn(1)]],
    ["a hundred numbers at once", [
      sendAll(Array.from({ length: 100 }, (_, seq) => ({ cmd: 1, seq }))),
      { anyOrder: Array.from({ length: 100 }, (_, seq) => pong(seq)) },
    ]],
  ]),
  ...vectorsOf(2, "Order", ["DELAY"], [
    ["a short call overtakes a long one", [
      send({ ...LONG, seq: 1 }),
      ...goesOn(2),
      cancel(1),
      cancelled(1),
    ]],
    ["a call with `seq` overtakes the queue", [
      sendAll([{ sleep: 0.1, cmd: 2 }, { cmd: 1, seq: 1 }]),
      expect(pong(1)),
      expect(DONE),
    ]],
    ["the queue does not wait for a call with `seq`", [
      sendAll([{ ...LONG, seq: 1 }, { cmd: 1 }]),
      expect(pong()),
      cancel(1),
      cancelled(1),
    ]],
    ["the answers come in the order in which they are ready", [
      sendAll([{ sleep: 0.1, cmd: 2, seq: 1 }, { sleep: 0.01, cmd: 2, seq: 2 }]),
      expect({ seq: 2, ...DONE }),
      expect({ seq: 1, ...DONE }),
    ]],
    ["a `seq` in flight is refused, and its call is not harmed", [
      sendAll([{ ...LONG, seq: 1 }, { cmd: 1, seq: 1 }]),
      expect(INVALID),
      cancel(1),
      cancelled(1),
      ...goesOn(1),
    ]],
    ["a `seq` of a wrong kind is answered in the queue's turn", [
      sendAll([{ sleep: 0.05, cmd: 2 }, { cmd: 1, seq: "1" }, { cmd: 1 }]),
      expect(DONE),
      expect(INVALID),
      expect(pong()),
    ]],
    ["calls in flight are answered before BAD_FRAME", [
      send({ sleep: 0.05, cmd: 2, seq: 1 }),
      BROKEN,
      expect({ seq: 1, ...DONE }),
      expect({ err: "BAD_FRAME" }),
      SERVER_FIN,
    ]],
    ["calls in flight are answered behind the end", [
      sendAll([{ sleep: 0.05, cmd: 2, seq: 1 }, { sleep: 0.01, cmd: 2, seq: 2 }]),
      CLIENT_FIN,
      expect({ seq: 2, ...DONE }),
      expect({ seq: 1, ...DONE }),
      SERVER_FIN,
    ]],
  ]),
];

const requests: Vector[] = vectorsOf(2, "Requests", [], [
  ...([
    ["`seq` is a text", { seq: "1" }],
    ["`seq` is negative", { seq: -1 }],
    ["`seq` is a fraction", { seq: 1.5 }],
    ["`seq` is 2^53", { seq: 2n ** 53n }],
    ["`seq` is nil", { seq: null }],
    ["`seq` is a boolean", { seq: true }],
    ["`seq` is a list", { seq: [1] }],
    ["`ttl` is 0", { ttl: 0 }],
    ["`ttl` is negative", { ttl: -1 }],
    ["`ttl` is a text", { ttl: "1" }],
    ["`ttl` is nil", { ttl: null }],
    ["`ttl` is not a number", { ttl: NaN }],
    ["`ttl` is an integer of 2^53", { ttl: 2n ** 53n }],
  ] as [string, Message][]).map(([name, fields]): [string, Step[]] => [
    name,
    [...goesOn(), send({ cmd: 1, ...fields }), expect(INVALID), ...goesOn()],
  ]),
  ["a wrong `ttl` is answered with its `seq`", [send({ cmd: 1, seq: 7, ttl: 0 }), expect({ seq: 7, ...INVALID })]],
  ["a wrong `meta` is answered with its `seq`", [send({ cmd: 1, seq: 7, meta: 1 }), expect({ seq: 7, ...INVALID })]],
  ["`max` and `cancel` are free outside a control message", [
    send({ cmd: 1, seq: 7, max: "x", cancel: 1 }),
    expect(pong(7)),
  ]],
]);

const replies: Vector[] = [
  ...vectorsOf(2, "Replies", [], [
    ["CMD_NOT_FOUND carries its `seq`", [send({ cmd: "FOO", seq: 4 }), expect({ seq: 4, err: "CMD_NOT_FOUND" })]],
  ]),
  ...vectorsOf(2, "Replies", ["DELAY"], [
    ["INVALID_SLEEP carries its `seq`", [
      send({ sleep: -1, cmd: 2, seq: 4 }),
      expect({ seq: 4, err: "INVALID_SLEEP" }),
    ]],
  ]),
  ...vectorsOf(2, "Replies", ["ECHO"], [
    ["REPLY_TOO_LARGE carries its `seq`", [
      send({ data: "x".repeat(60_000), cmd: "ECHO", seq: 4 }),
      expect({ seq: 4, err: "REPLY_TOO_LARGE" }),
    ], { maxPayloadBytes: 1_048_576 }],
  ]),
];

const deadlines: Vector[] = vectorsOf(2, "Deadlines", ["DELAY"], [
  ["a call with `seq` runs out of time", [
    send({ ...LONG, seq: 3, ttl: 20 }),
    expect({ seq: 3, err: "DEADLINE_EXCEEDED" }),
    ...goesOn(3),
  ]],
  ["a call of the queue runs out of time, and the next one runs", [
    sendAll([{ ...LONG, ttl: 20 }, { cmd: 1 }]),
    expect({ err: "DEADLINE_EXCEEDED" }),
    expect(pong()),
  ]],
  ["time in the queue counts, and the answer comes in its turn", [
    sendAll([{ sleep: 0.1, cmd: 2 }, { sleep: 0, cmd: 2, ttl: 10 }, { cmd: 1 }]),
    expect(DONE),
    expect({ err: "DEADLINE_EXCEEDED" }),
    expect(pong()),
  ]],
  ["a call that is in time", [send({ sleep: 0.01, cmd: 2, seq: 3, ttl: 60_000 }), expect({ seq: 3, ...DONE })]],
  ["a fraction of a millisecond more", [
    send({ ...LONG, seq: 3, ttl: 20.5 }),
    expect({ seq: 3, err: "DEADLINE_EXCEEDED" }),
  ]],
  ["a time as long as a float can say", [send({ sleep: 0, cmd: 2, seq: 3, ttl: 1e300 }), expect({ seq: 3, ...DONE })]],
  ["each call has its own", [
    sendAll([{ ...LONG, seq: 1, ttl: 60 }, { ...LONG, seq: 2, ttl: 20 }]),
    expect({ seq: 2, err: "DEADLINE_EXCEEDED" }),
    expect({ seq: 1, err: "DEADLINE_EXCEEDED" }),
  ]],
]);

const cancels: Vector[] = [
  ...vectorsOf(2, "Cancel", ["DELAY"], [
    ["a call in flight", [send({ ...LONG, seq: 4 }), cancel(4), cancelled(4), ...goesOn()]],
    ["a call that came in the same write", [
      sendAll([{ ...LONG, seq: 4 }, { cmd: 0, seq: 4, cancel: true }]),
      cancelled(4),
    ]],
    ["a second cancel is ignored", [
      sendAll([{ ...LONG, seq: 4 }, { cmd: 0, seq: 4, cancel: true }, { cmd: 0, seq: 4, cancel: true }]),
      cancelled(4),
      ...goesOn(4),
    ]],
    ["the others go on", [
      sendAll([{ ...LONG, seq: 4 }, { sleep: 0.05, cmd: 2, seq: 5 }]),
      cancel(4),
      cancelled(4),
      expect({ seq: 5, ...DONE }),
    ]],
    ["a cancel acts ahead of the queue", [
      sendAll([{ sleep: 0.1, cmd: 2 }, { ...LONG, seq: 4 }, { cmd: 0, seq: 4, cancel: true }]),
      cancelled(4),
      expect(DONE),
    ]],
    ["the `seq` is free after the answer", [
      send({ ...LONG, seq: 4 }),
      cancel(4),
      cancelled(4),
      send({ sleep: 0, cmd: 2, seq: 4 }),
      expect({ seq: 4, ...DONE }),
    ]],
    ["`seq` 0", [send({ ...LONG, seq: 0 }), cancel(0), cancelled(0)]],
    ["the largest `seq`", [send({ ...LONG, seq: 2 ** 53 - 1 }), cancel(2 ** 53 - 1), cancelled(2 ** 53 - 1)]],
  ]),
  ...vectorsOf(2, "Cancel", [], [
    ["an unknown number is ignored", [cancel(99), ...goesOn()]],
    ["a finished call is ignored", [...goesOn(4), cancel(4), ...goesOn(4)]],
  ]),
];

const control: Vector[] = vectorsOf(2, "control (0)", [], [
  ...([
    ["`cancel` is false", { seq: 1, cancel: false }],
    ["`cancel` is 1", { seq: 1, cancel: 1 }],
    ["`cancel` is nil", { seq: 1, cancel: null }],
    ["`cancel` without `seq`", { cancel: true }],
    ["`cancel` with a `seq` of a wrong kind", { seq: "1", cancel: true }],
    ["`cancel` and `max`: two meanings", { seq: 1, cancel: true, max: 100_000 }],
    ["`cancel` and `credit`: two meanings", { seq: 1, cancel: true, credit: 1 }],
  ] as [string, Message][]).map(([name, fields]): [string, Step[]] => [
    name,
    [...goesOn(), send({ cmd: 0, ...fields }), expect(INVALID), ...goesOn()],
  ]),
  ["a cancel with a field that the server does not know", [
    send({ cmd: 0, seq: 99, cancel: true, later: 1 }),
    ...goesOn(),
  ]],
]);

/** All of level 2. */
export const BY_NUMBER: Vector[] = [...order, ...requests, ...replies, ...deadlines, ...cancels, ...control];
