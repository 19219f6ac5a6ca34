/** Level 3: streams of items, both ways. */

import type { Asked, ClientUnderTest } from "../client_kit.ts";
import { Raw } from "../msgpack.ts";
import { Skip } from "../report.ts";
import { shown } from "../values.ts";
import { type Message, Wrong } from "../wire.ts";
import {
  answer,
  during,
  echo,
  expectAnswer,
  FAILS,
  isFailure,
  type Scenario,
  scenario,
  type Script,
  stillWorks,
  story,
} from "./scenario.ts";

const TICK = { stream: "TICK", params: { count: 3 } };
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index + 1);

/** Answers the next request by items, then a last reply. */
function stream(items: readonly unknown[], last: Message): Script {
  return async (client) => {
    const { served, request } = await client.request();
    await served.items(request, items);
    await served.reply(request, last);
  };
}

const replyStreams: Scenario[] = [
  scenario(3, "Streams and credit", "items, and a result at the end", TICK, stream([1, 2, 3], { res: 3 }), {
    items: [1, 2, 3],
    res: 3,
  }),
  scenario(3, "Streams and credit", "items, and nil at the end", TICK, stream(["a"], { res: null }), {
    items: ["a"],
    res: null,
  }),
  scenario(
    3,
    "Streams and credit",
    "no item, and a result, marked with `$items`",
    TICK,
    stream([], { res: 0, $items: 0 }),
    {
      items: [],
      res: 0,
    },
  ),
  scenario(3, "Streams and credit", "items that are nil or false", TICK, stream([null, false, 0], { res: null }), {
    items: [null, false, 0],
    res: null,
  }),
  scenario(3, "Streams and credit", "items, and a failure at the end", TICK, stream([1], { err: "NO_PAPER" }), {
    items: [1],
    err: "NO_PAPER",
  }),
  scenario(3, "Streams and credit", "a failure at once", TICK, stream([], { err: "INVALID_PARAMS" }), {
    items: [],
    err: "INVALID_PARAMS",
  }),
  scenario(3, "Streams and credit", "an error with `more` ends the stream", TICK, async (client) => {
    const { served, request } = await client.request();
    await served.reply(request, { res: 1, more: true }, { err: "NO_PAPER", more: true });
  }, { items: [1], err: "NO_PAPER" }),
  scenario(
    3,
    "Streams and credit",
    "an error with `more` ends a call",
    echo(1),
    answer({ err: "NO_PAPER", more: true }),
    {
      err: "NO_PAPER",
    },
  ),
  story(3, "Streams and credit", "an item without `res` is not passed on", async (client) => {
    const got = await during(client, TICK, async () => {
      const { served, request } = await client.request();
      await served.reply(request, { res: 1, more: true }, { more: true }, { err: "NO_PAPER" });
    });
    if (!isFailure(got) || shown(got.items) !== "[1]") {
      throw new Wrong(`the driver's ${shown(got)}`, "[1], and a failure");
    }
    await stillWorks(client);
  }),
  scenario(
    3,
    "Streams and credit",
    "2,000 items, as the client grants them",
    TICK,
    stream(upTo(2_000), { res: null }),
    {
      items: upTo(2_000),
      res: null,
    },
  ),
  scenario(3, "Streams and credit", "items with fields that the client does not know", TICK, async (client) => {
    const { served, request } = await client.request();
    await served.reply(request, { res: 1, more: true, $id: 7, $later: 1 }, { res: 2 });
  }, { items: [1], res: 2 }),
  story(3, "Streams and credit", "a stream that is left is cancelled, and items may still come", async (client) => {
    const got = await during(client, { stream: "TICK", params: {}, take: 2 }, async () => {
      const { served, request } = await client.request();
      await served.items(request, [1, 2]);
      await served.until(
        () => served.cancelled.has(request.seq) || served.link.hasEnded,
        `{cmd: 0, seq: ${request.seq}, cancel: true}`,
      );
      const left = Math.min(served.credit.get(request.seq) ?? 3, 3);
      await served.reply(request, ...upTo(left).map((res) => ({ res, more: true })), { err: "CANCELLED" });
    });
    expectAnswer(got, { items: [1, 2] });
    await stillWorks(client);
  }),
  story(3, "Streams and credit", "the end of a stream crosses the cancel", async (client) => {
    const got = await during(client, { stream: "TICK", params: {}, take: 1 }, stream([1], { res: 1 }));
    expectAnswer(got, { items: [1] });
    await stillWorks(client);
  }),
  story(3, "Streams and credit", "the connection is lost inside a stream", async (client) => {
    const got = await during(client, TICK, async () => {
      const { served, request } = await client.request();
      await served.items(request, [1]);
      served.link.close();
    });
    if (!isFailure(got) || shown(got.items) !== "[1]") {
      throw new Wrong(`the driver's ${shown(got)}`, "[1], and a failure");
    }
    await stillWorks(client);
  }),
  story(
    3,
    "Streams and credit",
    "items in place of one reply: the call fails, and takes no other call's",
    async (client) => {
      const got = await during(client, echo(1), async () => {
        const { served, request } = await client.request();
        await served.reply(request, { res: 1, more: true }, { res: 2, more: true }, { res: 3 });
      });
      expectAnswer(got, FAILS);
      await stillWorks(client);
    },
  ),
  story(3, "Streams and credit", "a stream whose items carry no id is not sent again", async (client) => {
    await during(client, TICK, async () => {
      const { served, request } = await client.request();
      await served.items(request, [1]);
      served.link.close();
    });
    if (!client.isQuiet) throw new Wrong("another request", "no request");
    await stillWorks(client);
  }),
];

/** What has come of a stream of the client's. */
interface Upload extends Asked {
  items: unknown[];
}

/** Takes the client's stream: `grants` says how many more items there may be after each one. */
async function upload(client: ClientUnderTest, grants: (taken: number) => number): Promise<Upload> {
  const { served, request } = await client.request();
  if (request.$items !== true) throw new Wrong(shown(request), "$items: true");
  const first = grants(0);
  if (first > 0) await served.grant(request, first);
  const items: unknown[] = [];
  while (true) {
    const message = await served.request();
    if (message.cmd !== 0 || message.seq !== request.seq) throw new Wrong(shown(message), `items of ${request.seq}`);
    if (message.end === true) return { served, request, items };
    items.push(message.item);
    const more = grants(items.length);
    if (more > 0) await served.grant(request, more);
  }
}

/** Takes the client's stream, and answers how many items there were. */
function tally(grants: (taken: number) => number): Script {
  return async (client) => {
    const { served, request, items } = await upload(client, grants);
    await served.reply(request, { res: items.length });
  };
}

const one = () => 1;
const UPLOAD = { call: "TALLY", params: {}, items: ["a", "b", "c"] };

const callerStreams: Scenario[] = [
  scenario(3, "Streams from the caller", "a grant for each item", UPLOAD, tally(one), { res: 3 }),
  scenario(
    3,
    "Streams from the caller",
    "a grant only after the first item",
    UPLOAD,
    tally((taken) => taken > 0 ? 1 : 0),
    {
      res: 3,
    },
  ),
  scenario(3, "Streams from the caller", "many grants at once", UPLOAD, tally((taken) => taken === 0 ? 256 : 0), {
    res: 3,
  }),
  scenario(3, "Values", "a grant that comes as a float64", UPLOAD, async (client) => {
    const { served, request } = await client.request();
    await served.grantAs(request, 3, new Raw(Uint8Array.of(0xcb, 0x40, 0x08, 0, 0, 0, 0, 0, 0)));
    let end = false;
    while (!end) end = (await served.request()).end === true;
    await served.reply(request, { res: 3 });
  }, { res: 3 }),
  scenario(3, "Streams from the caller", "no item", { ...UPLOAD, items: [] }, tally(() => 0), { res: 0 }),
  scenario(3, "Streams from the caller", "one item", { ...UPLOAD, items: ["a"] }, tally(one), { res: 1 }),
  scenario(
    3,
    "Streams from the caller",
    "500 items, seven at a time",
    { ...UPLOAD, items: upTo(500) },
    tally((taken) => taken % 7 === 1 ? 7 : 0),
    { res: 500 },
  ),
  story(3, "Streams from the caller", "the items are the caller's, in order", async (client) => {
    const items = ["a", 1, { b: [2] }, true, Uint8Array.of(10)];
    await during(client, { ...UPLOAD, items }, async () => {
      const { served, request, items: came } = await upload(client, one);
      await served.reply(request, { res: null });
      if (shown(came) !== shown(items)) throw new Wrong(shown(came), shown(items));
    });
  }),
  story(3, "Streams from the caller", "the reply comes before the end: the client stops", async (client) => {
    const got = await during(client, { ...UPLOAD, items: upTo(100) }, async () => {
      const { served, request } = await client.request();
      await served.request();
      await served.reply(request, { res: "enough" });
      await served.grant(request, 5); // it crosses, and is ignored
    });
    expectAnswer(got, { res: "enough" });
    await stillWorksAfterItems(client);
  }),
  story(3, "Streams from the caller", "a failure comes before the end", async (client) => {
    const got = await during(client, { ...UPLOAD, items: upTo(100) }, async () => {
      const { served, request } = await client.request();
      await served.grant(request, 10);
      await served.request();
      await served.reply(request, { err: "NO_ROOM" });
    });
    expectAnswer(got, { err: "NO_ROOM" });
    await stillWorksAfterItems(client);
  }),
  story(3, "Streams from the caller", "after a grant, a lost call is not sent again", async (client) => {
    const got = await during(client, { ...UPLOAD, items: upTo(10) }, async () => {
      const { served, request } = await client.request();
      await served.grant(request, 3);
      await served.request();
      served.link.close();
    });
    expectAnswer(got, FAILS);
    if (!client.isQuiet) throw new Wrong("another request", "no request");
    await stillWorks(client);
  }),
  story(3, "Streams from the caller", "items of 60,000 bytes, if the client sends long frames", async (client) => {
    const text = "x".repeat(60_000);
    const got = await during(client, { ...UPLOAD, items: [text, text] }, async () => {
      const { served, request } = await client.request();
      await served.grant(request, 3);
      let size = 0;
      for (let end = false; !end;) {
        const message = await served.request();
        if (typeof message.item === "string") size += message.item.length;
        end = message.end === true || served.cancelled.has(request.seq);
      }
      await served.reply(request, { res: size });
    }).catch((error) => {
      throw error instanceof Wrong && error.came.startsWith("nothing")
        ? new Skip("the client sends no long frames")
        : error;
    });
    expectAnswer(got, { res: 120_000 });
  }),
  story(3, "Streams from the caller", "items both ways at once", async (client) => {
    const step = { stream: "ECHO", params: {}, items: ["a", "b", "c"] };
    const got = await during(client, step, async () => {
      const { served, request } = await client.request();
      for (let message = await served.request(); message.end !== true; message = await served.request()) {
        await served.items(request, [message.item]);
        await served.grant(request, 1);
      }
      await served.reply(request, { res: null });
    });
    expectAnswer(got, { items: ["a", "b", "c"], res: null });
  }),
  story(3, "Streams from the caller", "the server's stream first, then the client's", async (client) => {
    const got = await during(client, { stream: "ECHO", params: {}, items: ["a", "b"] }, async () => {
      const { served, request } = await client.request();
      await served.items(request, [1, 2, 3]);
      await served.grant(request, 2);
      for (let message = await served.request(); message.end !== true;) message = await served.request();
      await served.reply(request, { res: "both" });
    });
    expectAnswer(got, { items: [1, 2, 3], res: "both" });
  }),
  story(3, "Streams from the caller", "a refusal before any grant", async (client) => {
    const got = await during(client, UPLOAD, async () => {
      await answer({ err: "OVERLOADED" })(client);
      await client.request(1_500).then(async (again) => {
        if (again.request.cmd === 0) again = await client.request(1_500);
        for (let taken = 0; taken < 3; taken++) {
          await again.served.request();
          await again.served.grant(again.request, 1);
        }
        await again.served.request();
        await again.served.reply(again.request, { res: 3 });
      }).catch(() => {});
    });
    if (!isFailure(got)) expectAnswer(got, { res: 3 });
  }),
];

/** One more call; items that were on their way may come before it. */
async function stillWorksAfterItems(client: ClientUnderTest): Promise<void> {
  const got = await during(client, { call: "ECHO", params: { data: "on" } }, async () => {
    let asked = await client.request();
    while (asked.request.cmd === 0) asked = await client.request();
    await asked.served.reply(asked.request, { res: "on" });
  });
  expectAnswer(got, { res: "on" });
}

/** All of level 3. */
export const STREAMS: Scenario[] = [...replyStreams, ...callerStreams];
