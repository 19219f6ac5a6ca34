/**
 * `examples/wireshark/packline.lua`, driven by `tshark` over captures that are made for each test (`support/captures.ts`). What is on
 * the wire in them comes from packline's own client and server, and from `tests/support/wire.ts` where it must be wrong. Without
 * `tshark` all of it is ignored.
 */

import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { connect } from "../../client.ts";
import { BUILT_IN_NUMBERS, FIELD_NAMES, REPLY_FIELDS } from "../../codec/message.ts";
import { MESSAGES } from "../../codec/message_table.ts";
import { Folder, testWith } from "../production/programs.ts";
import { newSeed, Random } from "../support/random.ts";
import { chunksOf, concat, frame, message, unhex } from "../support/wire.ts";
import {
  Capture,
  columnsOf,
  commands,
  Connection,
  example,
  fieldsOf,
  HEADER_BYTES,
  record,
  rowsOf,
  runIn,
  script,
  tshark,
} from "../support/captures.ts";

/** A test of the script. */
function test(name: string, run: () => Promise<void>): void {
  testWith(["tshark"], `packline.lua ${name}`, run);
}

test("shows a client's calls: requests, replies, errors, a cancel", async () => {
  const capture = new Capture();
  await record(capture, async (dial) => {
    await using client = await connect({ dial, commands, maxPayloadBytes: 50_000, timeoutMs: Infinity });
    await client.reply("PING");
    const patience = new AbortController();
    const delay = client.reply("DELAY", { sleep: 10 }, { signal: patience.signal }).catch(({ code }) => code);
    await client.reply("ECHO", { value: "Ada" }, { meta: { token: "t" } });
    patience.abort();
    assertEquals(await delay, "CANCELLED");
    // The caller does not wait for the server's word; the capture is to have it before the next call.
    while (client.statistics().lateReplies === 0) await new Promise((resolve) => setImmediate(resolve));
    await client.reply("DELAY", { sleep: -1 }).catch(() => {});
    await client.reply("FOO" as "PING").catch(() => {});
  });
  const named = ["-o", "packline.names:16=ECHO"];
  const fields = "_ws.col.Info frame.number kind cmd seq res err request_in reply_in _ws.expert.message";
  const [rows, found] = await Promise.all([
    rowsOf(capture, fields, "-2", ...named),
    fieldsOf(capture, "frame.number length", "-Y", 'packline.cmd == "DELAY" && packline.seq == 1'),
  ]);
  assertEquals(rows.map(([column]) => column), [
    "settings max=50000 alive=30000 notice=true",
    "PING seq=0",
    'reply to PING seq=0 res="PONG"',
    'DELAY seq=1 sleep=10 | ECHO seq=2 value="Ada"',
    'reply to ECHO seq=2 res="Ada"',
    "cancel seq=1",
    "error to DELAY seq=1 CANCELLED",
    "DELAY seq=3 sleep=-1",
    "error to DELAY seq=3 INVALID_SLEEP",
    "FOO seq=4",
    "error to FOO seq=4 CMD_NOT_FOUND",
  ]);
  // The first three packets are the handshake's.
  assertEquals(rows.map(([, ...cells]) => cells.map((cell) => cell || "-").join(" ")), [
    "4 settings control - - - - - -",
    "5 request PING 0 - - - 6 -",
    "6 reply - 0 PONG - 5 - -",
    "7 request;request DELAY;ECHO 1;2 - - - 10;8 -",
    "8 reply - 2 Ada - 7 - -",
    "9 cancel control 1 - - - - -",
    "10 error - 1 - CANCELLED 7 - The request failed",
    "11 request DELAY 3 - - - 12 -",
    "12 error - 3 - INVALID_SLEEP 11 - The request failed",
    "13 request FOO 4 - - - 14 -",
    "14 error - 4 - CMD_NOT_FOUND 13 - The request failed",
  ]);
  assertEquals(found, ["7 18;35"]);
});

test("shows a client's stream, and long frames both ways, over many segments", async () => {
  const capture = new Capture();
  await record(capture, async (dial) => {
    await using client = await connect({ dial, commands, timeoutMs: Infinity });
    for await (const _ of client.stream("NUMBERS", { count: 3 }, { credit: 2 }));
    await client.reply("ECHO", { value: "x".repeat(70_000) });
  });
  const rows = await rowsOf(capture, "_ws.col.Info kind length terminator _ws.expert.message");
  const columns = rows.map(([column]) => column);
  // Whether two frames share a segment is TCP's business, and the server's.
  const words = columns.join(" | ");
  assertEquals(words.split(" | ").slice(0, 3), [
    "settings max=1048576 alive=30000 notice=true",
    "NUMBERS seq=0 count=3 credit=2",
    "item to NUMBERS seq=0 res=1",
  ]);
  assertStringIncludes(words, "item to NUMBERS seq=0 res=3");
  assertStringIncludes(words, 'reply to NUMBERS seq=0 res="all"');
  assertMatch(words, /(^| \| )credit seq=0 credit=\d/);
  assertMatch(words, /command 16 seq=1 value="x{60}…" \| reply to command 16 seq=1 res="x{60}…"$/);
  assertEquals(rows.slice(-2).map(([, ...cells]) => cells.join(" ")), ["request 70022 0x0a ", "reply 70015 0x0a "]);
  assertEquals(rows.map((cells) => cells.at(-1)).join(""), "");
});

/** A value for each type that the table of messages has, and how it is shown. */
const VALUES: Record<string, [value: unknown, shown: string]> = {
  "0": [0, "0"],
  "true": [true, "true"],
  "integer or text": [16, "command 16"],
  "integer, 0 to 2^53 - 1": [70_000, "70000"],
  "integer, 1 to 2^53 - 1": [2 ** 31, "2147483648"],
  "integer, 1000 to 3600000": [1_000, "1000"],
  "number > 0": [0.5, "0.5"],
  "number >= 0": [0.5, "0.5"],
  "true or false": [true, "true"],
  "map of text to text": [{ a: "b" }, '{a: "b"}'],
  "text": ["some text", "some text"],
  "any value": [[1], "[1]"],
};

test("knows each kind of message and each of its fields, as the table of messages has them", async () => {
  const capture = new Capture();
  const connection = new Connection(capture);
  const kinds = Object.entries(MESSAGES);
  // The fields that can be filtered by; a name of Wireshark's holds no $.
  const names = [...FIELD_NAMES].filter((name) => !name.startsWith("$"));
  const expected = kinds.map(([kind, { direction, fields, others }]) => {
    const values = Object.entries(fields).map(([name, { type }]) => [name, VALUES[type]] as const);
    // What means something in another kind is a parameter of a request.
    const parameters = kind === "request" ? Object.fromEntries([...FIELD_NAMES].map((name) => [name, true])) : {};
    const sent = { ...parameters, ...Object.fromEntries(values.map(([name, [value]]) => [name, value])) };
    connection.send(
      direction === "to the server" ? "client" : "server",
      message(others === undefined ? sent : { ...sent, later: 1 }),
    );
    const shown = new Map<string, string>(values.map(([name, [, text]]) => [name, text]));
    if (fields.cmd?.type === "0") shown.set("cmd", "control");
    return [kind, ...names.map((name) => shown.get(name) ?? "")];
  });
  const rows = await rowsOf(capture, ["kind", ...names].join(" "));
  const flags = ["cancel", "more", "notice", "end"].map((name) => names.indexOf(name) + 1);
  // A flag is shown as 1 or as True, by the version of tshark.
  const isTrue = (cell: string, index: number) => flags.includes(index) && /^(1|True)$/.test(cell);
  assertEquals(rows.map((row) => row.map((cell, index) => isTrue(cell, index) ? "true" : cell)), expected);

  // Which kind it is, is the first word of each line, but of a request: that is its command.
  const columns = await columnsOf(capture);
  for (const [index, [kind]] of kinds.entries()) {
    assertMatch(columns[index], new RegExp(kind === "request" ? "^command 16 " : `^${kind} `));
  }
});

test("takes for a notice what has neither res nor err, and a field that no reply has", async () => {
  const capture = new Capture();
  const connection = new Connection(capture);
  const names = [...FIELD_NAMES, "$later", "gone"].filter((name) => !["cmd", "res", "err"].includes(name));
  for (const name of names) connection.send("server", message({ [name]: 1 }));
  assertEquals(
    await fieldsOf(capture, "kind"),
    names.map((name) => REPLY_FIELDS.has(name) ? "reply" : name === "going" ? name : "unknown notice"),
  );
});

test("shows a stream from the caller: items, its end, and the credit that comes for them", async () => {
  const capture = new Capture();
  const connection = new Connection(capture);
  connection.send("client", message({ name: "a", cmd: "UPLOAD", $items: true, seq: 1 }));
  connection.send("client", message({ cmd: 0, seq: 1, item: null }), message({ item: "x", seq: 1, cmd: 0, later: 1 }));
  connection.send("server", message({ seq: 1, credit: 8 }), message({ seq: 1, res: "a", $id: 7, more: true }));
  connection.send("client", message({ cmd: 0, seq: 1, end: true }));
  connection.send("server", message({ seq: 1, res: 2 }));
  assertEquals(await fieldsOf(capture, "_ws.col.Info kind item end credit"), [
    'UPLOAD seq=1 name="a" $items=true request - - -',
    "request item seq=1 item=nil request item nil - -",
    'request item seq=1 item="x" later=1 request item x - -',
    "request credit seq=1 credit=8 request credit - - 8",
    'item to UPLOAD seq=1 res="a" $id=7 item - - -',
    `request end seq=1 request end - ${await flagOf(capture, "end")} -`,
    "reply to UPLOAD seq=1 res=2 reply - - -",
  ]);
});

test("shows a number as its digits, however it came, and knows a call by it", async () => {
  const capture = new Capture();
  const connection = new Connection(capture);
  const largest = Number.MAX_SAFE_INTEGER; // of the own PINGs of packline's client, which count down from here
  for (const seq of [largest, largest - 1, largest - 11, 1e15, 2 ** 52]) {
    connection.send("client", message({ cmd: 1, seq }));
    connection.send("server", message({ seq, res: "PONG" }));
  }
  connection.send("client", message({ cmd: 0, seq: 1, credit: 2n ** 64n - 1n }));
  const pings = [4, 6, 8, 10, 12];
  assertEquals(await fieldsOf(capture, "seq credit request_in"), [
    ...["9007199254740991", "9007199254740990", "9007199254740980", "1000000000000000", "4503599627370496"]
      .flatMap((seq, n) => [`${seq} - -`, `${seq} - ${pings[n]}`]),
    "1 18446744073709551615 -",
  ]);
});

/** How this version of tshark shows a flag that is set: `1` or `True`. */
async function flagOf(capture: Capture, name: string): Promise<string> {
  const [shown] = await fieldsOf(capture, name, "-Y", `packline.${name} == 1`);
  assertMatch(shown, /^(1|True)$/);
  return shown;
}

test("knows the numbers of the protocol's commands, and no other", async () => {
  const capture = new Capture();
  const connection = new Connection(capture);
  const named = new Map([...BUILT_IN_NUMBERS].map(([name, number]) => [number, name]));
  const numbers = Array.from({ length: 20 }, (_, number) => number + 1);
  for (const cmd of numbers) connection.send("client", message({ cmd }));
  assertEquals(await fieldsOf(capture, "cmd"), numbers.map((number) => named.get(number) ?? `command ${number}`));
});

test("finds the frames wherever segments end", async () => {
  const delay = message({ sleep: 10, cmd: 2, seq: 1 });
  // 234 bytes of payload: the header itself holds a newline.
  const newlines = message({ value: "\n".repeat(220), cmd: 16 });
  assertEquals(newlines[1], 0x0a);
  const stream = concat(delay, newlines, frame(new Uint8Array(0)), message({ cmd: 1 }), delay);
  const cuts = [[stream], ...[1, 2, 3, 5, 7, 11, 64, 200].map((size) => chunksOf(stream, size))];
  for (let at = 1; at < delay.length; at++) cuts.push([stream.slice(0, at), stream.slice(at)]);
  const capture = new Capture();
  cuts.forEach((pieces, index) => new Connection(capture, { clientPort: 40_000 + index }).send("client", ...pieces));

  const found = cuts.map(() => [] as string[]);
  for (const row of await fieldsOf(capture, "tcp.stream length terminator")) {
    const [index, lengths, terminators] = row.split(" ");
    found[Number(index)].push(...lengths.split(";"));
    assertMatch(terminators, /^0x0a(;0x0a)*$/);
  }
  assertEquals(found.map((lengths) => lengths.join(" ")), cuts.map(() => "18 234 0 6 18"));
});

test("shows every value of MessagePack", async () => {
  // The bytes, and what they are to people.
  const values = {
    ...{ "05": "5", "ff": "-1", "ccff": "255", "cd0100": "256", "ceffffffff": "4294967295" },
    ...{ "cf0020000000000001": "9007199254740993", "cfffffffffffffffff": "18446744073709551615" },
    ...{
      "d080": "-128",
      "d18000": "-32768",
      "d280000000": "-2147483648",
      "d38000000000000000": "-9223372036854775808",
    },
    ...{
      "ca3fc00000": "1.5",
      "cb3fb999999999999a": "0.1",
      "cb7ff8000000000000": "NaN",
      "cbfff0000000000000": "-Infinity",
    },
    ...{ "c0": "nil", "c2": "false", "c3": "true", "a0": '""', "a3416461": '"Ada"', "d90161": '"a"' },
    ...{ "da00020a22": String.raw`"\n\""`, "db00000002c3b6": '"ö"', "a31b5b4a": String.raw`"\x1b[J"` },
    ...{ "90": "[]", "920102": "[1, 2]", "dc000191c0": "[[nil]]", "dd0000000103": "[3]" },
    ...{ "80": "{}", "81a16b04": "{k: 4}", "de0001a16b05": "{k: 5}", "df000000010706": "{7: 6}" },
    ...{ "c4020a0d": "<binary, 2 bytes>", "c50001ff": "<binary, 1 bytes>", "c600000001fe": "<binary, 1 bytes>" },
    ...{
      "c70105aa": "<extension, 1 bytes>",
      "c8000105bb": "<extension, 1 bytes>",
      "d605abcdabcd": "<extension, 4 bytes>",
    },
    ["d8ff" + "ab".repeat(16)]: "<extension, 16 bytes>",
  };
  const capture = new Capture();
  const connection = new Connection(capture);
  for (const bytes of Object.keys(values)) connection.send("client", frame(unhex(`82 a3636d6401 a176 ${bytes}`)));
  assertEquals(await columnsOf(capture), Object.values(values).map((text) => `PING v=${text}`));
  // Inside one another, and over their own bytes.
  const nested = new Capture();
  new Connection(nested).send("client", frame(unhex("82 a3636d6401 a176 9281a16b04c3")));
  const tree = await tshark(nested, "-Y", "packline", "-O", "packline");
  assertStringIncludes(
    tree,
    "        v: [{k: 4}, true]\n            [0]: {k: 4}\n                k: 4\n            [1]: true\n",
  );
  const json = await tshark(nested, "-Y", 'packline.value == "4"', "-T", "json", "-x", "-J", "packline");
  assertStringIncludes(json.replaceAll(/\s+/g, ""), `["04",${HEADER_BYTES + 2 + 12},1,`, "where it stands");
});

const elsewhere = "no frame: the capture misses what came before, or this is another protocol";

test("flags a frame that is none, and reads nothing behind it", async () => {
  const ping = message({ cmd: 1 });
  const broken = concat(ping.slice(0, -1), Uint8Array.of(0x0d));
  const stopped = "no frame: a peer stops reading before this";
  // What the client sends, a segment each, and what is said about them.
  const cases: [string, Uint8Array[], string[]][] = [
    ["a wrong terminator", [concat(ping, broken)], ["PING | wrong terminator 0x0d: PING"]],
    ["and bytes behind it", [concat(broken, ping)], [`wrong terminator 0x0d: PING | ${stopped}`]],
    ["a terminator in the next segment", [broken.slice(0, -1), broken.slice(-1)], ["wrong terminator 0x0d: PING"]],
    ["57,311 in a short frame", [unhex("ffff")], [
      "no frame: 57311 bytes are declared, and a short frame holds at most 57310",
    ]],
    ["a long frame too short", [unhex("1f1f00000006 81")], [
      "no frame: 6 bytes are declared, which belong in a short frame",
    ]],
    ["a long frame too long", [unhex("1f1f"), unhex("04000001")], [
      "no frame: 67108865 bytes are declared, more than any server takes",
    ]],
    ["another protocol", [new TextEncoder().encode("GET / HTTP/1.1\r\n\r\n")], [elsewhere]],
  ];
  const capture = new Capture();
  for (const [index, [, pieces]] of cases.entries()) {
    new Connection(capture, { clientPort: 40_000 + index }).send("client", ...pieces);
  }
  const shown = await rowsOf(capture, "tcp.stream _ws.col.Info _ws.expert.severity");
  for (const [index, [name, , expected]] of cases.entries()) {
    const rows = shown.filter(([stream]) => stream === String(index));
    assertEquals(rows.map(([, column]) => column), expected, name);
    for (const [, , severity] of rows) assertMatch(severity, /^8388608(;8388608)*$/, "an error");
  }
  const [flagged, headers] = await Promise.all(
    ["bad_terminator", "bad_header"].map((flag) => fieldsOf(capture, "tcp.stream", "-Y", `packline.${flag}`)),
  );
  assertEquals([flagged, headers], [["0", "1", "2"], ["1", "3", "4", "5", "6"]]);
});

test("flags what is no message", async () => {
  const reasons = {
    ...{ "": "it ends too early", "c1": "0xc1 is not a value", "05": "it is not a map", "9101": "it is not a map" },
    ...{ "8100": "it ends too early", "81a3636d64c1": "0xc1 is not a value", "81a3636d640100": "bytes are left over" },
    ...{ "81a176dfffffffff": "it ends too early", "81a176c6ffffffff": "it ends too early" },
    ["81a176" + "91".repeat(64) + "c0"]: "it is nested deeper than 64",
  };
  const sound = { "90": "no command", "80": "no command", ["81a176" + "91".repeat(63) + "c0"]: undefined };
  const capture = new Capture();
  const connection = new Connection(capture);
  for (const bytes of [...Object.keys(reasons), ...Object.keys(sound)]) connection.send("client", frame(unhex(bytes)));
  assertEquals(
    await fieldsOf(capture, "_ws.expert.message", "-Y", "packline.bad_message"),
    Object.values(reasons).map((reason) => `The payload is not a message: ${reason}`),
  );
});

test("links replies to requests, by seq or in their order, over retransmissions and on ports used again", async () => {
  const capture = new Capture();
  const ordered = new Connection(capture);
  ordered.send(
    "client",
    concat(message({ cmd: 1 }), message({ sleep: 10, cmd: 2 }), frame(unhex("c1")), message({ cmd: "FOO" })),
  );
  capture.wait(1_998);
  ordered.send("server", message({ res: "PONG" }));
  capture.wait(7_999);
  ordered.send("server", concat(message({ res: "DONE", slept: 10 }), message({ err: "INVALID_MESSAGE" })));
  ordered.send("server", message({ err: "CMD_NOT_FOUND" }), message({ res: "nobody asked" }));
  ordered.send("client", message({ cmd: 2, sleep: 1 }), message({ cmd: 2, sleep: 1, seq: 1 }));
  ordered.close();

  // The same ports: nothing is inherited.
  const again = new Connection(capture);
  const lost = again.next.client;
  const third = message({ cmd: "THIRD", seq: 3 });
  again.send("client", third, message({ cmd: "FIRST", seq: 1 }), message({ cmd: "SECOND" }));
  again.sendAt("client", lost, third);
  again.send("server", message({ res: "second" }), message({ seq: 3, res: 1, more: true }));
  again.send("server", message({ seq: 1, res: "first" }), message({ seq: 3, res: "third" }));
  again.send("server", message({ seq: 3, res: "once too often" }));

  const expected = [
    "4 - - - 5;6;6;7",
    "5 PING 4 1.999000000 -",
    "6 DELAY;no message 4;4 9.999000000;9.999000000 -",
    "7 FOO 4 10.000000000 -",
    "8 - - - -",
    "9 - - - -",
    "10 - - - -",
    // The handshake, and a segment that came twice, are missing in between.
    "16 - - - 23",
    "17 - - - 22",
    "18 - - - 20",
    "20 SECOND 18 0.002000000 -",
    "21 THIRD 16 0.005000000 -",
    "22 FIRST 17 0.005000000 -",
    "23 THIRD 16 0.007000000 -",
    "24 - - - -",
  ];
  const question = "frame.number reply_to request_in time reply_in";
  const [twice, once] = await Promise.all([fieldsOf(capture, question, "-2"), fieldsOf(capture, question)]);
  assertEquals(twice, expected);
  // When a packet is looked at for the first time, replies are still to come.
  const atOnce = expected.map((row) => /- - - [\d;]+$/.test(row) ? row.replace(/[\d;]+$/, "-") : row);
  assertEquals(once, atOnce);
});

test("takes another port, and Decode As, also for the client's port", async () => {
  const capture = new Capture();
  const connection = new Connection(capture, { port: 4321, clientPort: 5555 });
  connection.send("client", message({ cmd: 1, seq: 1 }));
  connection.send("server", message({ seq: 1, res: "PONG" }));
  const expected = ["PING seq=1", 'reply to PING seq=1 res="PONG"'];
  const flags = ["", "-opackline.port:4000-4010,4321", "-dtcp.port==4321,packline", "-dtcp.port==5555,packline"];
  const columns = await Promise.all(flags.map((flag) => columnsOf(capture, ...flag ? [flag] : [])));
  assertEquals(columns, [[], expected, expected, expected]);
});

test("makes do with captures that miss something", async () => {
  const long = message({ cmd: "SAVE", text: "y".repeat(20_000), seq: 1 });
  const ping = message({ cmd: 1 });

  // The beginning, or something in the middle.
  const late = new Capture();
  const joined = new Connection(late, { handshake: false });
  joined.send("client", long.slice(5_000), ping);
  joined.send("server", message({ seq: 1, res: "SAVED" }));
  const holed = new Connection(late, { clientPort: 40_001 });
  holed.send("client", long.slice(0, 3_000));
  holed.next.client += long.length - 3_000;
  holed.send("client", ping, ping);
  holed.send("server", message({ res: "PONG" }));

  // The end of each long packet.
  const short = new Capture(100);
  new Connection(short).send("client", ping, message({ cmd: "SAVE", text: "y".repeat(200), seq: 1 }), ping);

  // Somebody to put segments together.
  const split = new Capture();
  const delay = message({ sleep: 10, cmd: 2 });
  new Connection(split).send("client", ...chunksOf(delay, 7), ping, ping.slice(0, 1), ping.slice(1));

  const shown = await Promise.all([
    fieldsOf(late, "tcp.stream _ws.col.Info"),
    columnsOf(short),
    columnsOf(split, "-o", "tcp.desegment_tcp_streams:FALSE"),
  ]);
  assertEquals(shown, [
    [
      `0 ${elsewhere}`,
      "0 PING",
      '0 reply seq=1 res="SAVED"',
      "1 [TCP Previous segment not captured] PING",
      "1 PING",
      '1 [TCP ACKed unseen segment] reply to PING res="PONG"',
    ],
    ["PING", "part of a frame: 46 of 225 bytes", "PING"],
    [
      ...["part of a frame: 7 of 16 bytes", elsewhere],
      "no frame: 58090 bytes are declared, and a short frame holds at most 57310",
      ...["PING", "part of a frame: 1 bytes", elsewhere],
    ],
  ]);
});

test("never fails on random bytes, and goes on behind them", async () => {
  const seed = newSeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const sound = concat(
    message({ cmd: 2, sleep: 10, seq: 4, meta: { a: "ö" } }),
    message({ seq: 4, res: [1, { a: null }, new Uint8Array(3)], more: true }),
    message({ cmd: 0, seq: 4, credit: 3 }),
    frame(new Uint8Array(random.bytes(300))),
  );
  const capture = new Capture();
  for (let index = 0; index < 60; index++) {
    const connection = new Connection(capture, { clientPort: 10_000 + index });
    for (const side of ["client", "server"] as const) {
      let bytes = random.chance(0.2) ? random.bytes(200) : concat(sound, sound);
      for (let times = random.below(6); times > 0; times--) bytes[random.below(bytes.length)] = random.below(256);
      if (random.chance(0.3)) bytes = bytes.slice(random.below(bytes.length));
      connection.send(side, ...random.pieces(bytes, random.pick([20, 100, 600])));
    }
    if (random.chance(0.5)) connection.close();
  }
  const packet = new Connection(capture).send("client", message({ cmd: 1 }));
  // Once and twice, put together and in pieces. A failure of the script is in the output, where `run` sees it.
  const runs = [[], ["-2"], ["-o", "tcp.desegment_tcp_streams:FALSE"]].map((args) =>
    rowsOf(capture, "frame.number _ws.col.Info _ws.expert.message res", ...args)
  );
  for (const rows of await Promise.all(runs)) {
    assert(rows.length > 60);
    assertEquals(rows.at(-1), [String(packet), "PING", "", ""]);
  }
});

test("is used as its README says", async () => {
  const capture = new Capture();
  const connection = new Connection(capture);
  connection.send("client", message({ cmd: 2, sleep: 10, seq: 1 }), message({ cmd: 16, name: "Ada" }));
  capture.wait(200);
  connection.send("server", message({ seq: 1, err: "CANCELLED" }));
  new Connection(capture, { port: 9_999 }).send("client", message({ cmd: 1 }));
  await using folder = await Folder.make();
  await Deno.writeFile(`${folder.path}/capture.pcap`, capture.file);
  await Deno.copyFile(script, `${folder.path}/packline.lua`);

  const readme = await Deno.readTextFile(new URL("README.md", example));
  const commands = [...readme.matchAll(/^\$ tshark (.* -r .*)$/gm)].map(([, command]) =>
    [...command.matchAll(/"([^"]*)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain)
  );
  const outputs = await Promise.all(commands.map((words) => runIn(folder, ...words)));
  assertEquals(outputs.length, 5);
  assertStringIncludes(outputs[0], "packline RPC, command 16 name=");
  assertEquals(outputs[1], "6\t1\tCANCELLED\n");
  assertMatch(outputs[2], /^ +6 .* error to DELAY seq=1 CANCELLED\n$/);
  assertMatch(outputs[3], /^ +4 .* DELAY seq=1 sleep=10\n$/);
  assertMatch(outputs[4], / PING\n$/);

  // For good. An unknown field in a filter would make tshark fail.
  const plugins = `${folder.path}/.local/lib/wireshark/plugins`;
  await Deno.mkdir(plugins, { recursive: true });
  await Deno.rename(`${folder.path}/packline.lua`, `${plugins}/packline.lua`);
  const fields = new Set([...readme.matchAll(/`(packline\.\w+[.\w]*)`/g)].map(([, name]) => name));
  fields.delete("packline.lua");
  assert(fields.size > 12);
  const shown = await runIn(folder, "-r", "capture.pcap", "-Y", [...fields].join(" || "));
  assertStringIncludes(shown, "DELAY seq=1 sleep=10");
});
