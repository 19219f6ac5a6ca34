/** Level 4: signs of life, and connections that end in order. */

import type { ClientUnderTest } from "../client_kit.ts";
import { Skip } from "../report.ts";
import { shown } from "../values.ts";
import { Wrong } from "../wire.ts";
import {
  answerEcho,
  during,
  echo,
  expectAnswer,
  expectHungUp,
  FAILS,
  type Scenario,
  stillWorks,
  story,
} from "./scenario.ts";

/** The shortest promise. */
const ALIVE_MS = 1_000;

/** Timers of another process need some room. */
const LATE_MS = 400;

/** A scenario whose client promises to say something each second. */
function aliveStory(name: string, run: (client: ClientUnderTest) => Promise<void>): Scenario {
  return {
    level: 4,
    heading: "Signs of life",
    name,
    async run(client) {
      await client.connect(ALIVE_MS);
      await run(client);
    },
  };
}

const life: Scenario[] = [
  story(4, "Connections that know", "the client says `alive` and `notice` before its first request", async (client) => {
    await during(client, echo(1), async () => {
      const { served } = await answerEcho(client);
      const { alive, notice } = served.settings;
      if (alive === undefined || !notice) {
        throw new Wrong(shown({ alive: alive ?? null, notice }), "alive: …, notice: true");
      }
    });
  }),
  aliveStory("while a call is open, the client says something in time", async (client) => {
    const got = await during(client, echo(1), async () => {
      const { served, request } = await client.request();
      if (served.settings.alive !== ALIVE_MS) throw new Skip("the client does not promise `alive: 1000`");
      served.silenceMs = 0;
      await new Promise((resolve) => setTimeout(resolve, 2_200)); // two signs must have come
      const silenceMs = Math.max(served.silenceMs, performance.now() - served.lastMs);
      await served.reply(request, { res: 1 });
      if (silenceMs > ALIVE_MS + LATE_MS) throw new Wrong(`silence for ${silenceMs.toFixed()} ms`, "at most 1000 ms");
    });
    expectAnswer(got, { res: 1 });
  }),
  aliveStory("a call that was given up counts as open until it is answered", async (client) => {
    const got = await during(client, echo(1, { cancelAfterMs: 50 }), async () => {
      const { served, request } = await client.request();
      if (served.settings.alive !== ALIVE_MS) throw new Skip("the client does not promise `alive: 1000`");
      await served.until(() => served.cancelled.has(request.seq), `{cmd: 0, seq: ${request.seq}, cancel: true}`);
      served.silenceMs = 0;
      await new Promise((resolve) => setTimeout(resolve, 2_200)); // two signs must have come
      const silenceMs = Math.max(served.silenceMs, performance.now() - served.lastMs);
      await served.reply(request, { err: "CANCELLED" });
      if (silenceMs > ALIVE_MS + LATE_MS) throw new Wrong(`silence for ${silenceMs.toFixed()} ms`, "at most 1000 ms");
    });
    expectAnswer(got, FAILS);
    await stillWorks(client);
  }),
  aliveStory("a server that says nothing is lost: the call fails, the client closes", async (client) => {
    const got = await during(client, echo(1), async () => {
      const asked = await client.request();
      if (asked.served.settings.alive !== ALIVE_MS) throw new Skip("the client does not promise `alive: 1000`");
      asked.served.answersPings = false;
      const startMs = performance.now();
      while (!asked.served.link.hasEnded) {
        if (performance.now() - startMs > 8_000) {
          throw new Wrong("an open connection after 8 s", "the client closes it");
        }
        await asked.served.link.comes(500);
      }
    });
    expectAnswer(got, FAILS);
    await stillWorks(client);
  }),
];

/** Whether the client has asked for notices. */
async function asked(client: ClientUnderTest) {
  const asked = await client.request();
  if (!asked.served.settings.notice) {
    await asked.served.reply(asked.request, { res: 1 });
    throw new Skip("the client does not ask for notices");
  }
  return asked;
}

const going: Scenario[] = [
  story(4, "Messages", "a notice that the client does not know is ignored", async (client) => {
    const got = await during(client, echo(1), async () => {
      const { served, request } = await asked(client);
      await served.link.send({ later: 1 }, { seq: request.seq, later: 2 });
      await served.reply(request, { res: 1 });
    });
    expectAnswer(got, { res: 1 });
    await stillWorks(client);
  }),
  story(
    4,
    "Going",
    "a call in flight is answered, the next goes over a new connection, the old one is closed",
    async (client) => {
      const got = await during(client, echo(1), async () => {
        const old = await asked(client);
        await old.served.link.send({ going: 10_000 });
        await old.served.reply(old.request, { res: 1 });
      });
      expectAnswer(got, { res: 1 });
      const old = await client.accept();
      const deadlineMs = performance.now() + 3_000;
      for (let isOld = true; isOld;) { // while the client dials, the old connection may serve
        if (performance.now() > deadlineMs) {
          throw new Wrong("requests on the old connection for 3 s", "a new connection");
        }
        const next = await during(client, echo(2), async () => isOld = (await answerEcho(client)).served === old);
        expectAnswer(next, { res: 2 });
      }
      await expectHungUp({ served: old, request: {} });
    },
  ),
  story(4, "Going", "a connection at rest is told to go: the next call goes over a new one", async (client) => {
    const got = await during(client, echo(1), async () => {
      const { served, request } = await asked(client);
      await served.reply(request, { res: 1 });
      await served.link.send({ going: 10_000 });
      await expectHungUp({ served, request });
    });
    expectAnswer(got, { res: 1 });
    await stillWorks(client);
  }),
  story(4, "Going", "a stream that ends with GOING_AWAY and carries no id fails", async (client) => {
    const got = await during(client, { stream: "TICK", params: {} }, async () => {
      const { served, request } = await asked(client);
      await served.items(request, [1]);
      await served.link.send({ going: 10_000 });
      await served.reply(request, { err: "GOING_AWAY" });
    });
    if (typeof got.err !== "string" || shown(got.items) !== "[1]") throw new Wrong(shown(got), "[1], and a failure");
    await stillWorks(client);
  }),
];

/** All of level 4. */
export const KNOWING: Scenario[] = [...life, ...going];
