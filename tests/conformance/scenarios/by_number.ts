/** Level 2: many calls at once on one connection, and calls that are cancelled. */

import type { Asked, ClientUnderTest } from "../client_kit.ts";
import type { Answer, CallStep } from "../driver.ts";
import { encode, join, Raw } from "../msgpack.ts";
import { shown } from "../values.ts";
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
  stillWorks,
  story,
} from "./scenario.ts";

/** Calls of ECHO with 0, 1, 2 and so on. */
function calls(count: number): { calls: CallStep[] } {
  return { calls: Array.from({ length: count }, (_, data) => ({ call: "ECHO", params: { data } })) };
}

/** Their requests, all of them before one is answered. */
async function requests(client: ClientUnderTest, count: number): Promise<Asked[]> {
  const asked: Asked[] = [];
  while (asked.length < count) asked.push(await client.request());
  const [{ served }] = asked;
  for (const one of asked) {
    if (one.served !== served) throw new Wrong("requests on several connections", "all calls on one connection");
    if (one.request.seq === undefined) throw new Wrong(shown(one.request), "a `seq`");
  }
  return asked;
}

function expectReplies({ replies }: Answer, right: (index: number) => (reply: Answer) => void, count: number): void {
  if (replies?.length !== count) throw new Wrong(`the driver's ${shown(replies)}`, `${count} replies`);
  replies.forEach((reply, index) => right(index)(reply));
}

const own = (index: number) => (reply: Answer) => expectAnswer(reply, { res: index });
const fails = () => (reply: Answer) => expectAnswer(reply, FAILS);

const order: Scenario[] = [
  story(2, "Order", "ten calls, answered in reverse", async (client) => {
    const got = await during(client, calls(10), async () => {
      for (const { served, request } of (await requests(client, 10)).reverse()) {
        await served.reply(request, { res: request.data });
      }
    });
    expectReplies(got, own, 10);
  }),
  story(2, "Order", "fifty calls, answered in one write", async (client) => {
    const got = await during(client, calls(50), async () => {
      const asked = await requests(client, 50);
      const bytes = asked.map(({ request: { seq, data } }) => frame(encode({ seq, res: data })));
      await asked[0].served.link.sendBytes(join(...bytes));
    });
    expectReplies(got, own, 50);
  }),
  story(2, "Order", "five calls, answered in single bytes", async (client) => {
    const got = await during(client, calls(5), async () => {
      const asked = await requests(client, 5);
      const bytes = join(...asked.map(({ request: { seq, data } }) => frame(encode({ seq, res: data }))).reverse());
      await asked[0].served.link.sendBytes(...Array.from(bytes, (byte) => Uint8Array.of(byte)));
    });
    expectReplies(got, own, 5);
  }),
  story(2, "Order", "the failure of one does not harm the others", async (client) => {
    const got = await during(client, calls(3), async () => {
      const asked = await requests(client, 3);
      for (const { served, request } of asked) {
        await served.reply(request, request.data === 1 ? { err: "INTERNAL" } : { res: request.data });
      }
    });
    expectReplies(got, (index) => index === 1 ? (reply) => expectAnswer(reply, { err: "INTERNAL" }) : own(index), 3);
  }),
  story(2, "Values", "`seq` comes back as a float64", async (client) => {
    const got = await during(client, calls(2), async () => {
      for (const { served, request } of (await requests(client, 2)).reverse()) {
        const seq = new Uint8Array(9);
        seq[0] = 0xcb;
        new DataView(seq.buffer).setFloat64(1, request.seq as number);
        await served.link.send({ seq: new Raw(seq), res: request.data });
      }
    });
    expectReplies(got, own, 2);
  }),
  story(
    2,
    "Duties of a client",
    "the connection is lost: all calls in flight fail, and none is sent again",
    async (client) => {
      const got = await during(client, calls(5), async () => (await requests(client, 5))[0].served.link.close());
      expectReplies(got, fails, 5);
      if (!client.isQuiet) throw new Wrong("another request", "no call is sent again by itself");
      await stillWorks(client);
    },
  ),
  story(
    2,
    "Duties of a client",
    "INVALID_MESSAGE without `seq`: the client closes, and its calls fail",
    async (client) => {
      const got = await during(client, calls(2), async () => {
        const [asked] = await requests(client, 2);
        await asked.served.link.send({ err: "INVALID_MESSAGE" });
        await expectHungUp(asked);
      });
      expectReplies(got, fails, 2);
      await stillWorks(client);
    },
  ),
  story(2, "Duties of a client", "a reply for a `seq` that is not in flight is no other call's", async (client) => {
    const got = await during(client, calls(1), async () => {
      const [{ served, request }] = await requests(client, 1);
      await served.link.send({ seq: (request.seq as number) + 1_000, res: "another's" });
      await served.reply(request, { res: 0 });
    });
    expectReplies(got, () => (reply) => isFailure(reply) || expectAnswer(reply, { res: 0 }), 1);
    await stillWorks(client);
  }),
  story(2, "Duties of a client", "a second reply to a call is no other call's", async (client) => {
    const got = await during(client, calls(2), async () => {
      const [first, second] = await requests(client, 2);
      const twice: Message = { seq: first.request.seq, res: first.request.data };
      await first.served.link.send(twice, twice);
      await second.served.reply(second.request, { res: second.request.data });
    });
    expectReplies(got, (index) => (reply) => isFailure(reply) && index > 0 || own(index)(reply), 2);
    await stillWorks(client);
  }),
];

const cancels: Scenario[] = [
  story(2, "Cancel", "a cancel is sent, and the call ends", async (client) => {
    const got = await during(client, echo(1, { cancelAfterMs: 50 }), async () => {
      const { served, request } = await client.request();
      await served.until(() => served.cancelled.has(request.seq), `{cmd: 0, seq: ${request.seq}, cancel: true}`);
      await served.reply(request, { err: "CANCELLED" });
    });
    expectAnswer(got, FAILS);
    await stillWorks(client);
  }),
  story(2, "Cancel", "the real reply crosses the cancel", async (client) => {
    const got = await during(client, echo(1, { cancelAfterMs: 50 }), async () => {
      const { served, request } = await client.request();
      await served.until(() => served.cancelled.has(request.seq), `{cmd: 0, seq: ${request.seq}, cancel: true}`);
      await served.reply(request, { res: "crossed" });
    });
    if (!isFailure(got)) expectAnswer(got, { res: "crossed" });
    await stillWorks(client);
  }),
  story(2, "Duties of a client", "the answer to a cancel comes late: the next call gets its own", async (client) => {
    let late = async () => {};
    const got = await during(client, echo(1, { cancelAfterMs: 50 }), async () => {
      const { served, request } = await client.request();
      await served.until(() => served.cancelled.has(request.seq), `{cmd: 0, seq: ${request.seq}, cancel: true}`);
      late = () => served.reply(request, { err: "CANCELLED" });
      setTimeout(() => void late(), 200); // for a client that waits for it
    });
    expectAnswer(got, FAILS);
    const next = await during(client, echo("next"), async () => {
      const { served, request } = await client.request();
      await served.reply(request, { res: "next" });
    });
    expectAnswer(next, { res: "next" });
  }),
  story(2, "Deadlines", "a call that runs out of time does not harm the others", async (client) => {
    const step = {
      calls: [{ call: "ECHO", params: { data: 0 }, timeoutMs: 150 }, { call: "ECHO", params: { data: 1 } }],
    };
    const got = await during(client, step, async () => {
      const asked = await requests(client, 2);
      const slow = asked.find(({ request }) => request.data === 0)!;
      const other = asked.find(({ request }) => request.data === 1)!;
      await new Promise((resolve) => setTimeout(resolve, 300)); // the time of the first call is over
      await slow.served.reply(slow.request, { err: "DEADLINE_EXCEEDED" });
      await other.served.reply(other.request, { res: 1 });
    });
    expectReplies(got, (index) => index === 0 ? fails() : own(1), 2);
  }),
  story(2, "Order", "no `seq` is used twice in a hundred calls in flight", async (client) => {
    const got = await during(client, calls(100), async () => {
      const asked = await requests(client, 100);
      const seqs = new Set(asked.map(({ request }) => request.seq));
      if (seqs.size !== 100) throw new Wrong(`${seqs.size} different ones`, "100 different ones");
      for (const { served, request } of asked) await served.reply(request, { res: request.data });
    });
    expectReplies(got, own, 100);
    await during(client, echo(1), answer({ res: 1 }));
    await during(client, echo(1), answerEcho);
  }),
];

/** All of level 2. */
export const BY_NUMBER: Scenario[] = [...order, ...cancels];
