/** Level 1: one call at a time; values, failures, frames that are cut and frames that are broken, lost connections. */

import type { ClientUnderTest } from "../client_kit.ts";
import { encode, join, Raw } from "../msgpack.ts";
import { Skip } from "../report.ts";
import { bytesOf, shown } from "../values.ts";
import { frame, type Message, Wrong } from "../wire.ts";
import {
  answer,
  answerEcho,
  during,
  echo,
  expectAnswer,
  expectHungUp,
  FAILS,
  isFailure,
  type Scenario,
  scenario,
  stillWorks,
  story,
} from "./scenario.ts";

/** The reply to a request as a frame. */
function replyFrame({ seq }: Message, reply: Message): Uint8Array {
  return frame(encode({ ...seq !== undefined && { seq }, ...reply }));
}

/** Answers the next request by a frame in pieces. */
function inPieces(reply: Message, cut: (bytes: Uint8Array) => Uint8Array[]) {
  return async (client: ClientUnderTest) => {
    const { served, request } = await client.request();
    await served.link.sendBytes(...cut(replyFrame(request, reply)));
  };
}

const singly = (bytes: Uint8Array) => Array.from(bytes, (byte) => Uint8Array.of(byte));

/** A reply with a text, so that its payload has exactly this size. */
function replyOfSize(request: Message, size: number): { reply: Message; text: string } {
  for (let length = size; length >= 0; length--) {
    const reply = { res: "x".repeat(length) };
    const payload = encode({ ...request.seq !== undefined && { seq: request.seq }, ...reply });
    if (payload.length === size) return { reply, text: reply.res };
  }
  throw new RangeError(`no reply has ${size} bytes`);
}

const frames: Scenario[] = [
  scenario(1, "The wire on one page", "a call and its result", echo(7), answerEcho, { res: 7 }),
  scenario(
    1,
    "The wire on one page",
    "a call that fails",
    { call: "FOO", params: {} },
    answer({ err: "CMD_NOT_FOUND" }),
    {
      err: "CMD_NOT_FOUND",
    },
  ),
  scenario(1, "The frame", "a reply in single bytes", echo(1), inPieces({ res: "PONG" }, singly), { res: "PONG" }),
  scenario(1, "The frame", "a newline in the payload", echo(1), answer({ res: "\n" }), { res: "\n" }),
  scenario(1, "The frame", "a carriage return and a newline in the payload", echo(1), answer({ res: "\r\n\r\n" }), {
    res: "\r\n\r\n",
  }),
  scenario(1, "The frame", "the number 10, which is a newline", echo(1), answer({ res: 10 }), { res: 10 }),
  scenario(1, "The frame", "a payload that holds a whole frame", echo(1), answer({ res: " &\x7fcmd\n &\n" }), {
    res: " &\x7fcmd\n &\n",
  }),
  scenario(1, "The frame", "blanks at both ends of a text", echo(1), answer({ res: " \t a \n" }), { res: " \t a \n" }),
  ...[223, 224, 225, 233, 234, 235, 255, 256, 480, 57_088, 57_310].map((size) =>
    story(1, "The frame", `a reply of ${size} bytes`, async (client) => {
      let wanted = "";
      const got = await during(client, echo(1), async () => {
        const { served, request } = await client.request();
        const { reply, text } = replyOfSize(request, size);
        wanted = text;
        await served.reply(request, reply);
      });
      expectAnswer(got, { res: wanted });
    })
  ),
  story(1, "The frame", "requests of all sizes around 224 and 256 bytes", async (client) => {
    for (let length = 170; length < 260; length += 3) {
      const text = "x".repeat(length);
      expectAnswer(await during(client, echo(text), answerEcho), { res: text });
    }
  }),
  story(1, "Long frames", "a request of 60,000 bytes, which the client may refuse to send", async (client) => {
    const text = "x".repeat(60_000);
    const got = client.ask(echo(text));
    const script = client.request().then(({ served, request }) => {
      if (request.data !== text) throw new Wrong(shown(request), "data: 60,000 characters");
      return served.reply(request, { res: 1 });
    });
    const first = await Promise.race([got, script.then(() => undefined, () => undefined)]);
    if (first !== undefined && isFailure(first)) {
      script.catch(() => {});
      throw new Skip("the client sends no long frames");
    }
    await script;
    expectAnswer(await got, { res: 1 });
  }),
  story(1, "Long frames", "a long reply, if the client has said `max`", async (client) => {
    const text = "x".repeat(60_000);
    const got = await during(client, echo(1), async () => {
      const { served, request } = await client.request();
      if (served.settings.max < 60_020) {
        await served.reply(request, { res: 1 });
        throw new Skip("the client has not said `max`");
      }
      await served.reply(request, { res: text });
    });
    expectAnswer(got, { res: text });
  }),
];

const values: Scenario[] = [
  ...([
    ["nil", "c0", null],
    ["false", "c2", false],
    ["true", "c3", true],
    ["1 as uint64", "cf 00*7 01", 1],
    ["-1 as int64", "d3 ff ff ff ff ff ff ff ff", -1],
    ["2^32 as float64", "cb 41 f0 00 00 00 00 00 00", 4_294_967_296],
    ["2^53 - 1 as float64", "cb 43 3f ff ff ff ff ff ff", 2 ** 53 - 1],
    ["65,535", "cd ff ff", 65_535],
    ["-2^31", "d2 80 00 00 00", -(2 ** 31)],
    ["1.5 as float32", "ca 3f c0 00 00", 1.5],
    ["0.1", "cb 3f b9 99 99 99 99 99 9a", 0.1],
    ["an empty text", "a0", ""],
    ["a text in a longer form", "d9 01 61", "a"],
    ["a text with a length of four bytes", "db 00 00 00 01 61", "a"],
    ["a text outside the basic plane", "a4 f0 9f 98 80", "\u{1f600}"],
    ["an array with a length of two bytes", "dc 00 02 01 02", [1, 2]],
    ["a map with a length of four bytes", "df 00 00 00 01 a1 61 01", { a: 1 }],
    ["a map in an array in a map", "81 a1 61 91 81 a1 62 c3", { a: [{ b: true }] }],
    ["binary", "c4 03 00 0a ff", Uint8Array.of(0, 10, 255)],
  ] as [string, string, unknown][]).map(([name, bytes, value]) =>
    scenario(1, "Values", `${name} from the server`, echo(1), answer({ res: new Raw(bytesOf(bytes)) }), { res: value })
  ),
  ...([
    ["numbers", [0, 127, 128, 255, 256, 65_536, 4_294_967_295, -1, -32, -33, -129, -32_769, 1.5]],
    ["texts", ["", "a", "é", "\u{1f600}", "\n", "x".repeat(31), "x".repeat(32), "x".repeat(256)]],
    ["booleans", [true, false]],
    ["maps", { a: { b: { c: "d" } } }],
    ["binary", Uint8Array.of(0, 10, 13, 255)],
  ] as [string, unknown][]).map(([name, value]) =>
    scenario(1, "Values", `${name} to the server and back`, echo(value), answerEcho, { res: value })
  ),
];

const replies: Scenario[] = [
  scenario(1, "Replies", "a result that looks as a failure", echo(1), answer({ res: { err: "NO" } }), {
    res: { err: "NO" },
  }),
  scenario(1, "Replies", "fields that the client does not know", echo(1), answer({ res: 1, slept: 2, $later: [1] }), {
    res: 1,
  }),
  scenario(1, "Replies", "a failure with text and data", echo(1), answer({ err: "NO_PAPER", msg: "no", data: [1] }), {
    err: "NO_PAPER",
  }),
  scenario(1, "Replies", "fields in another order", echo(1), answer({ slept: 1, res: 2 }), { res: 2 }),
  scenario(1, "What goes wrong", "a code that the client does not know", echo(1), answer({ err: "OUT_OF_INK" }), {
    err: "OUT_OF_INK",
  }),
  ...["INVALID_MESSAGE", "INVALID_PARAMS", "INTERNAL", "REPLY_TOO_LARGE", "REPLY_NOT_ENCODABLE"].map((err) =>
    scenario(1, "What goes wrong", err, echo(1), answer({ err }), { err })
  ),
  story(1, "What goes wrong", "a failure does not end the connection's use", async (client) => {
    expectAnswer(await during(client, echo(1), answer({ err: "INTERNAL" })), { err: "INTERNAL" });
    await stillWorks(client);
  }),
  story(1, "Meta", "`meta` goes along with the call, beside its parameters", async (client) => {
    await during(client, echo(1, { meta: { token: "sesame" } }), async () => {
      const { request } = await answerEcho(client);
      const fits = shown(request.meta) === '{token: "sesame"}' && request.data === 1;
      if (!fits) throw new Wrong(shown(request), 'meta: {token: "sesame"} and data: 1');
    });
  }),
  story(1, "Requests", "parameters lie beside `cmd`", async (client) => {
    await during(client, { call: "ANY", params: { a: 1, b: "c" } }, async () => {
      const { served, request } = await client.request();
      await served.reply(request, { res: null });
      const fits = request.cmd === "ANY" && request.a === 1 && request.b === "c";
      if (!fits) throw new Wrong(shown(request), '{cmd: "ANY", a: 1, b: "c", …}');
    });
  }),
  story(1, "Order", "fifty calls, one after the other", async (client) => {
    for (let data = 0; data < 50; data++) {
      expectAnswer(await during(client, echo(data), answerEcho), { res: data });
    }
  }),
];

/** Bytes in place of a reply, after which the connection is of no more use. */
const BROKEN: [name: string, heading: string, bytes: (request: Message) => Uint8Array][] = [
  ["a carriage return in place of the newline", "Broken frames", (request) => {
    const bytes = replyFrame(request, { res: 1 });
    bytes[bytes.length - 1] = 0x0d;
    return bytes;
  }],
  ["57,311 bytes in a short frame", "Broken frames", () => Uint8Array.of(0xff, 0xff)],
  ["65,534 bytes in a short frame", "Broken frames", () => Uint8Array.of(0x1f, 0x1e)],
  ["a long frame of 2^32 - 1 bytes", "Broken frames", () => Uint8Array.of(0x1f, 0x1f, 255, 255, 255, 255)],
  [
    "a long frame for 6 bytes",
    "Broken frames",
    () => Uint8Array.of(0x1f, 0x1f, 0, 0, 0, 6, ...encode({ res: 1 }), 0x0a),
  ],
  ["an array", "Duties of a client", () => frame(encode([1]))],
  ["a number", "Duties of a client", () => frame(encode(1))],
  ["the byte c1", "Duties of a client", () => frame(Uint8Array.of(0xc1))],
  ["a map that ends early", "Duties of a client", () => frame(Uint8Array.of(0x82, 0xa3, 0x72, 0x65, 0x73, 0x01))],
  [
    "something behind the map",
    "Duties of a client",
    (request) =>
      frame(join(encode({ ...request.seq !== undefined && { seq: request.seq }, res: 1 }), Uint8Array.of(0xc0))),
  ],
  ["a page of text", "Duties of a client", () => new TextEncoder().encode(`HTTP/1.1 400 ${"-".repeat(20_000)}`)],
];

const broken: Scenario[] = [
  ...BROKEN.map(([name, heading, bytes]) =>
    story(1, heading, `${name} in place of a reply: the call fails, the client closes`, async (client) => {
      const got = await during(client, echo(1, { timeoutMs: 5_000 }), async () => {
        const asked = await client.request();
        await asked.served.link.sendBytes(bytes(asked.request));
        await expectHungUp(asked);
      });
      expectAnswer(got, FAILS);
      await stillWorks(client);
    })
  ),
  ...([
    ["in place of a reply", () => []],
    ["inside a header", () => [0x20]],
    ["inside a payload", (request: Message) => [...replyFrame(request, { res: 1 }).subarray(0, 5)]],
    ["before the newline", (request: Message) => [...replyFrame(request, { res: 1 }).subarray(0, -1)]],
  ] as [string, (request: Message) => number[]][]).map(([name, bytes]) =>
    story(1, "The end of a connection", `the end ${name}: the call fails, and is not sent again`, async (client) => {
      const got = await during(client, echo("lost"), async () => {
        const { served, request } = await client.request();
        await served.link.sendBytes(Uint8Array.from(bytes(request)));
        served.link.close();
      });
      expectAnswer(got, FAILS);
      if (!client.isQuiet) throw new Wrong("another request", "no call is sent again by itself");
      await stillWorks(client);
    })
  ),
  story(
    1,
    "The end of a connection",
    "the server ends a connection that is at rest: the next call works",
    async (client) => {
      const got = await during(client, echo(1), async () => {
        const { served } = await answerEcho(client);
        await served.link.finish();
        await served.link.comes(300); // a client that reads at rest closes too; another one looks before it writes
      });
      expectAnswer(got, { res: 1 });
      await stillWorks(client);
    },
  ),
  story(1, "What goes wrong", "BAD_FRAME and the end", async (client) => {
    const got = await during(client, echo(1), async () => {
      const { served } = await client.request();
      await served.link.send({ err: "BAD_FRAME", msg: "no" });
      await served.link.finish();
    });
    expectAnswer(got, FAILS);
    await stillWorks(client);
  }),
  story(1, "What goes wrong", "OVERLOADED and the end, before any request", async (client) => {
    const got = await during(client, echo(1), async () => {
      const served = await client.accept();
      await served.link.send({ err: "OVERLOADED", msg: "no room" });
      served.link.close();
      await client.request(2_000).then(({ served, request }) => served.reply(request, { res: 1 }), () => client.cut());
    });
    if (!isFailure(got)) expectAnswer(got, { res: 1 });
  }),
  story(1, "What goes wrong", "OVERLOADED with `$after`: not sent again before that", async (client) => {
    let early = false;
    const got = await during(client, echo(1), async () => {
      const { served, request } = await client.request();
      await served.reply(request, { err: "OVERLOADED", $after: 300 });
      const sentMs = performance.now();
      await client.request(1_500).then(({ served, request }) => {
        early = performance.now() - sentMs < 290;
        return served.reply(request, { res: 1 });
      }, () => {});
    });
    if (early) throw new Wrong("the same request at once", "a wait of 300 ms, or the failure");
    if (!isFailure(got)) expectAnswer(got, { res: 1 });
  }),
  story(1, "Duties of a client", "SHUTTING_DOWN: nothing new on this connection", async (client) => {
    const got = await during(client, echo(1), async () => {
      const { served, request } = await client.request();
      await served.reply(request, { err: "SHUTTING_DOWN" });
      await served.link.finish();
      await client.request(1_500).then((again) => {
        if (again.served === served) throw new Wrong("a request on the same connection", "a new connection");
        return again.served.reply(again.request, { res: 1 });
      }, () => {});
      await served.link.comes();
      if (served.link.hasMessage) throw new Wrong("a request on the same connection", "a new connection");
    });
    if (!isFailure(got)) expectAnswer(got, { res: 1 });
    await stillWorks(client);
  }),
  story(1, "Duties of a client", "nobody listens: the call fails", async (client) => {
    client.cut();
    expectAnswer(await client.ask(echo(1, { timeoutMs: 1_000 })), FAILS);
  }),
];

const time: Scenario[] = [
  story(
    1,
    "Duties of a client",
    "a call has a timer of its own, and a late reply is not the next one's",
    async (client) => {
      let late = async () => {};
      const got = await during(client, echo("slow", { timeoutMs: 200 }), async () => {
        const { served, request } = await client.request();
        late = () => served.reply(request, { res: "late" });
      });
      expectAnswer(got, FAILS);
      const next = await during(client, echo("next"), async () => {
        const { served, request } = await client.request();
        await late();
        await served.reply(request, { res: "next" });
      });
      expectAnswer(next, { res: "next" });
    },
  ),
  scenario(
    1,
    "Deadlines",
    "DEADLINE_EXCEEDED",
    echo(1, { timeoutMs: 5_000 }),
    answer({ err: "DEADLINE_EXCEEDED" }),
    FAILS,
  ),
  story(1, "Deadlines", "`ttl`, if it is sent, is no more than the time of the call", async (client) => {
    await during(client, echo(1, { timeoutMs: 5_000 }), async () => {
      const { request } = await answerEcho(client);
      const fits = request.ttl === undefined || (request.ttl as number) <= 5_000;
      if (!fits) throw new Wrong(shown(request), "ttl: at most 5000");
    });
  }),
  story(1, "Duties of a client", "a call without time is not sent", async (client) => {
    expectAnswer(await client.ask(echo(1, { timeoutMs: 0 })), FAILS);
    if (!client.isQuiet) throw new Wrong("a request", "no request");
    await stillWorks(client);
  }),
  story(1, "The end of a connection", "the client closes in order", async (client) => {
    let end = () => Promise.resolve();
    await during(client, echo(1), async () => {
      const asked = await answerEcho(client);
      end = () => expectHungUp(asked);
    });
    expectAnswer(await during(client, { close: true }, () => end()), {});
  }),
];

/** All of level 1. */
export const IN_ORDER: Scenario[] = [...frames, ...values, ...replies, ...broken, ...time];
