/**
 * Checks of a server that are more than one plain conversation: what INFO and STATS tell, many calls at once, cuts by
 * chance, limits, and time.
 */

import { Conversation, cutAtRandom } from "./conversation.ts";
import { type Check, Skip } from "./report.ts";
import type { ServerUnderTest } from "./server_kit.ts";
import { shown } from "./values.ts";
import { send } from "./vectors/vector.ts";
import { type Link, type Message, Wrong } from "./wire.ts";

type ServerCheck = Check<ServerUnderTest>;

/** Fails if something does not hold. */
function hold(condition: boolean, came: () => string, right: string): void {
  if (!condition) throw new Wrong(came(), right);
}

async function ask(link: Link, request: Message): Promise<Message> {
  await link.send(request);
  return await link.message();
}

function isMap(value: unknown): value is Message {
  return typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);
}

const isText = (value: unknown) => typeof value === "string";
const isCount = (value: unknown) => Number.isInteger(value) && (value as number) >= 0;

// INFO and STATS ---------------------------------------------------------------------------------------------------------

const INFO_FIELDS: [name: string, right: string, holds: (value: unknown) => boolean][] = [
  ["name", "a text", isText],
  ["version", "a text", isText],
  ["protocol", "1", (value) => value === 1],
  ["uptime", "seconds, a number from 0", (value) => typeof value === "number" && value >= 0],
  [
    "limits",
    "a map of numbers",
    (value) => isMap(value) && Object.values(value).every((one) => typeof one === "number"),
  ],
  ["commands", "an array of maps", (value) => Array.isArray(value) && value.every(isMap)],
];

const COMMAND_FIELDS: [name: string, right: string, holds: (value: unknown) => boolean][] = [
  ["name", "a text", isText],
  ["number", "an integer, or nil", (value) => value === null || isCount(value)],
  ["summary", "a text", isText],
  ["params", "an array of texts", (value) => Array.isArray(value) && value.every(isText)],
  ["stream", "a boolean", (value) => typeof value === "boolean"],
];

const info: ServerCheck[] = [
  ...INFO_FIELDS.map(([name, right, holds]): ServerCheck => ({
    level: 1,
    heading: "INFO (3)",
    name: `\`${name}\``,
    run({ info: { res } }) {
      hold(holds(res[name]), () => `${name}: ${shown(res[name])}`, right);
      return Promise.resolve();
    },
  })),
  ...COMMAND_FIELDS.map(([name, right, holds]): ServerCheck => ({
    level: 1,
    heading: "INFO (3)",
    name: `\`${name}\` of each command`,
    run({ info: { res } }) {
      for (const command of res.commands as Message[]) {
        hold(holds(command[name]), () => shown(command), `${name}: ${right}`);
      }
      return Promise.resolve();
    },
  })),
  ...([
    [1, ["PING", "DELAY", "INFO", "ECHO"]],
    [3, ["TICK", "TALLY"]],
  ] as const).map(([level, names]): ServerCheck => ({
    level,
    heading: "Levels of conformance",
    name: `the server has ${names.join(", ")}`,
    run({ info: { commands } }) {
      hold(names.every((name) => commands.has(name)), () => [...commands].join(", "), `among them ${names.join(", ")}`);
      return Promise.resolve();
    },
  })),
  {
    level: 1,
    heading: "Commands",
    name: "the numbers that are the protocol's own",
    run({ info: { res } }) {
      const numbers = new Map<unknown, number>([["PING", 1], ["DELAY", 2], ["INFO", 3], ["STATS", 4]]);
      for (const { name, number } of res.commands as Message[]) {
        const right = numbers.get(name);
        const fits = number === null || (right === undefined ? (number as number) >= 16 : number === right);
        hold(fits, () => `${name}: ${number}`, right === undefined ? "a number from 16 up, or nil" : String(right));
      }
      return Promise.resolve();
    },
  },
  {
    level: 3,
    heading: "INFO (3)",
    name: "`stream` of TICK and `items` of TALLY are true",
    run(server) {
      server.needs(["TICK", "TALLY"]);
      const of = (wanted: string) => (server.info.res.commands as Message[]).find(({ name }) => name === wanted)!;
      hold(of("TICK").stream === true, () => shown(of("TICK")), "stream: true");
      hold(of("TALLY").items === true, () => shown(of("TALLY")), "items: true");
      return Promise.resolve();
    },
  },
  {
    level: 1,
    heading: "STATS (4)",
    name: "the counts of a server and of its commands",
    async run(server) {
      server.needs(["STATS"]);
      const { res } = await ask(await server.link(), { cmd: 4 });
      const { connections, bytes, refused, commands } = res as Record<string, Message>;
      for (
        const [map, names] of [
          [connections, ["open", "accepted", "refused"]],
          [bytes, ["received", "sent"]],
          [refused, ["badFrame", "invalidMessage", "truncated", "unknownCommand", "overloaded"]],
          ...Object.values(commands).map((one) => [one, ["calls", "inFlight"]] as [Message, string[]]),
        ] as [Message, string[]][]
      ) {
        for (const name of names) {
          hold(isMap(map) && isCount(map[name]), () => shown(map), `${name}: an integer from 0`);
        }
      }
    },
  },
  {
    level: 1,
    heading: "STATS (4)",
    name: "`all` is not a boolean",
    async run(server) {
      server.needs(["STATS"]);
      const reply = await ask(await server.link(), { all: 1, cmd: 4 });
      hold(reply.err === "INVALID_PARAMS", () => shown(reply), "{err: INVALID_PARAMS}");
    },
  },
];

// Many at once, and cuts ---------------------------------------------------------------------------------------------------

/** The same cuts in each run. */
function randomFrom(seed: number): () => number {
  return () => (seed = (seed * 16_807) % 2_147_483_647) / 2_147_483_647;
}

const many: ServerCheck[] = [
  {
    level: 1,
    heading: "Roles and transport",
    name: "the server says nothing before it is asked",
    async run(server) {
      const [silent, other] = [await server.link(), await server.link()];
      await ask(other, { cmd: 1 });
      await ask(other, { cmd: 1 });
      hold(silent.isQuiet, () => silent.came.join(" "), "nothing");
      await silent.finish();
      await silent.expectEnd();
    },
  },
  {
    level: 1,
    heading: "Roles and transport",
    name: "fifty connections at once",
    async run(server) {
      const links = await Promise.all(Array.from({ length: 50 }, () => server.link()));
      const replies = await Promise.all(links.map((link) => ask(link, { cmd: 1 })));
      for (const reply of replies) hold(reply.res === "PONG", () => shown(reply), "{res: PONG}");
    },
  },
  {
    level: 1,
    heading: "Order",
    name: "two thousand requests before the first reply is read",
    async run(server) {
      server.needs(["ECHO"]);
      const link = await server.link();
      await link.send(...Array.from({ length: 2_000 }, (_, data) => ({ cmd: "ECHO", data })));
      for (let data = 0; data < 2_000; data++) {
        const { res } = await link.message();
        hold(res === data, () => shown({ res }), shown({ res: data }));
      }
    },
  },
  ...[1, 2, 3, 4].map((seed): ServerCheck => ({
    level: 1,
    heading: "The frame",
    name: `requests that are cut by chance, seed ${seed}`,
    async run(server) {
      server.needs(["ECHO"]);
      const random = randomFrom(seed * 48_271);
      const texts = Array.from({ length: 60 }, () => "\n x".repeat(random() * 200));
      const link = await server.link();
      await link.sendBytes(...cutAtRandom(texts.map((data) => ({ cmd: "ECHO", data })), random));
      for (const text of texts) {
        const { res } = await link.message();
        hold(res === text, () => shown({ res }), `{res: ${text.length} characters}`);
      }
    },
  })),
  {
    level: 1,
    heading: "DELAY (2)",
    name: "`slept` is at least what was asked for",
    async run(server) {
      server.needs(["DELAY"]);
      const reply = await ask(await server.link(), { cmd: 2, sleep: 0.03 });
      hold((reply.slept as number) >= 0.029, () => shown(reply), "slept: from 0.03 up");
    },
  },
  {
    level: 2,
    heading: "Order",
    name: "500 calls that sleep, each answered once",
    async run(server) {
      server.needs(["DELAY"]);
      const link = await server.link();
      await link.send(...Array.from({ length: 500 }, (_, seq) => ({ cmd: 2, sleep: (seq * 7 % 20) / 1_000, seq })));
      const open = new Set(Array.from({ length: 500 }, (_, seq) => seq));
      while (open.size > 0) {
        const reply = await link.message();
        hold(reply.res === "DONE" && open.delete(reply.seq as number), () => shown(reply), "DONE, once for each seq");
      }
    },
  },
  {
    level: 3,
    heading: "Streams and credit",
    name: "exactly as many items as were granted, ten times",
    async run(server) {
      server.needs(["TICK"]);
      const link = await server.link();
      let items = 0;
      for (let credit = 1; credit <= 10; credit++) {
        await link.send(
          credit === 1 ? { cmd: "TICK", interval: 0, seq: 1, credit } : { cmd: 0, seq: 1, credit },
        );
        for (let left = credit; left > 0; left--) {
          const item = await link.message();
          hold(item.more === true && item.res === ++items, () => shown(item), `{seq: 1, res: ${items}, more: true}`);
        }
        const fence = await ask(link, { cmd: 1, seq: 2 });
        hold(fence.seq === 2, () => shown(fence), "no item without credit");
      }
    },
  },
  {
    level: 3,
    heading: "Streams from the caller",
    name: "a grant comes at least when the handler waits for an item, ten items long",
    async run(server) {
      server.needs(["TALLY"]);
      const conversation = new Conversation(await server.link());
      await conversation.step(send({ cmd: "TALLY", $items: true, seq: 1 }));
      for (let count = 0; count < 10; count++) {
        await conversation.step({ upload: { seq: 1, items: ["x"], end: false } });
      }
      await conversation.step({ upload: { seq: 1, items: [], end: true } });
      await conversation.step({ expect: { seq: 1, res: { items: 10, bytes: 10 } } });
    },
  },
];

// Limits, and time ---------------------------------------------------------------------------------------------------------

/** A limit that the server tells, if a check for it is short enough. */
function limit(server: ServerUnderTest, name: string, most: number): number {
  const value = server.info.limits.get(name);
  if (value === undefined || value > most) {
    throw new Skip(`INFO tells ${value ?? "no"} ${name}, this check is for up to ${most}`);
  }
  return value;
}

/** What a connection says until it ends, and after how long that was. */
async function untilEnd(link: Link, patienceMs: number): Promise<{ said: Message[]; tookMs: number }> {
  const startMs = performance.now();
  const said: Message[] = [];
  for (let arrival; (arrival = await link.arrival(patienceMs)) !== "the end";) said.push(arrival);
  return { said, tookMs: performance.now() - startMs };
}

/** Timers of another process need some room. */
const EARLY_MS = 50;
const LATE_MS = 3_000;

const limits: ServerCheck[] = [
  {
    level: 1,
    heading: "Limits",
    name: "a message more than `maxStrikes` that cannot be read ends the connection",
    async run(server) {
      const strikes = limit(server, "maxStrikes", 1_000);
      const link = await server.link();
      await link.send({ cmd: 1 }, ...Array.from({ length: strikes + 1 }, () => ({ cmd: 0, max: "x" })), { cmd: 1 });
      const { said } = await untilEnd(link, LATE_MS);
      const refused = said.filter(({ err }) => err === "INVALID_MESSAGE").length;
      hold(
        refused === strikes + 1 && said.length === strikes + 2,
        () => `${refused} of ${said.length} are refusals`,
        `${strikes + 1} INVALID_MESSAGE, then the end`,
      );
    },
  },
  {
    level: 1,
    heading: "Limits",
    name: "a payload over `maxPayloadBytes` is a broken frame",
    async run(server) {
      const most = limit(server, "maxPayloadBytes", 2 ** 32 - 2) + 1;
      const link = await server.link();
      await ask(link, { cmd: 1 });
      await link.sendBytes(
        most > 57_310
          ? Uint8Array.of(0x1f, 0x1f, most >>> 24, most >> 16, most >> 8, most)
          : Uint8Array.of((most >> 8) + 32, most + 32),
      );
      const { said } = await untilEnd(link, LATE_MS);
      hold(said.length === 1 && said[0].err === "BAD_FRAME", () => shown(said), "{err: BAD_FRAME}, then the end");
    },
  },
  {
    level: 1,
    heading: "Limits",
    name: "`idleTimeoutMs`",
    slow: true,
    async run(server) {
      const idleMs = limit(server, "idleTimeoutMs", 2_000);
      const link = await server.link();
      await ask(link, { cmd: 1 });
      const { said, tookMs } = await untilEnd(link, idleMs + LATE_MS);
      hold(said.length === 0, () => shown(said), "the end, without a word");
      hold(tookMs > idleMs - EARLY_MS, () => `the end after ${tookMs.toFixed()} ms`, `not before ${idleMs} ms`);
    },
  },
  {
    level: 1,
    heading: "Limits",
    name: "`frameTimeoutMs`",
    slow: true,
    async run(server) {
      const frameMs = limit(server, "frameTimeoutMs", 2_000);
      const link = await server.link();
      await link.sendBytes(Uint8Array.of(0x20, 0x26, 0x81));
      const { said, tookMs } = await untilEnd(link, frameMs + LATE_MS);
      hold(said.length === 1 && said[0].err === "BAD_FRAME", () => shown(said), "{err: BAD_FRAME}, then the end");
      hold(tookMs > frameMs - EARLY_MS, () => `the end after ${tookMs.toFixed()} ms`, `not before ${frameMs} ms`);
    },
  },
  {
    level: 1,
    heading: "Limits",
    name: "`halfOpenTimeoutMs`",
    slow: true,
    async run(server) {
      server.needs(["DELAY"]);
      const openMs = limit(server, "halfOpenTimeoutMs", 2_000);
      const link = await server.link();
      await link.send({ cmd: 2, sleep: 3600 });
      await link.finish();
      const { said, tookMs } = await untilEnd(link, openMs + LATE_MS);
      hold(said.length === 0, () => shown(said), "the end, without a word");
      hold(tookMs > openMs - EARLY_MS, () => `the end after ${tookMs.toFixed()} ms`, `not before ${openMs} ms`);
    },
  },
  {
    level: 4,
    heading: "Signs of life",
    name: "a client that is silent for 1.5 times `alive` with a call open has gone",
    slow: true,
    async run(server) {
      server.needs(["DELAY"]);
      const link = await server.link();
      await link.send({ cmd: 0, alive: 1_000 }, { cmd: 2, sleep: 3600, seq: 1 });
      const { said, tookMs } = await untilEnd(link, 1_500 + LATE_MS).catch((error) => {
        throw error instanceof Wrong ? new Wrong(error.came, "the end after 1,500 ms") : error;
      });
      hold(said.length === 0, () => shown(said), "the end, without a word");
      hold(tookMs > 1_500 - EARLY_MS, () => `the end after ${tookMs.toFixed()} ms`, "not before 1,500 ms");
    },
  },
  {
    level: 4,
    heading: "Signs of life",
    name: "PING keeps the promise",
    slow: true,
    async run(server) {
      server.needs(["DELAY"]);
      const link = await server.link();
      await link.send({ cmd: 0, alive: 1_000 }, { cmd: 2, sleep: 1.8, seq: 1 });
      const pings = setInterval(() => void link.send({ cmd: 1, seq: 2 }), 700);
      try {
        let arrival = await link.message();
        while (arrival.seq === 2) arrival = await link.message();
        hold(arrival.res === "DONE", () => shown(arrival), "{seq: 1, res: DONE}");
      } finally {
        clearInterval(pings);
      }
    },
  },
  {
    level: 4,
    heading: "Signs of life",
    name: "with nothing open, the client owes no sign",
    slow: true,
    async run(server) {
      server.needs(["DELAY"]);
      if ((server.info.limits.get("idleTimeoutMs") ?? Infinity) < 5_000) {
        throw new Skip("INFO tells a short idleTimeoutMs, which ends a silent connection");
      }
      const [promised, clock] = [await server.link(), await server.link()];
      await promised.send({ cmd: 0, alive: 1_000 });
      await clock.send({ cmd: 2, sleep: 1.8 });
      await clock.message(1_800 + LATE_MS);
      const pong = await ask(promised, { cmd: 1 });
      hold(pong.res === "PONG", () => shown(pong), "{res: PONG}");
    },
  },
  {
    level: 4,
    heading: "Signs of life",
    name: "without `alive`, a client may be silent while its call is open",
    slow: true,
    async run(server) {
      server.needs(["DELAY"]);
      const link = await server.link();
      await link.send({ cmd: 2, sleep: 1.8, seq: 1 });
      const slept = await link.message(1_800 + LATE_MS);
      hold(slept.res === "DONE", () => shown(slept), "{seq: 1, res: DONE}");
    },
  },
  {
    level: 4,
    heading: "Signs of life",
    name: "after `alive`, PING and a cancel are read above `maxInFlight`",
    async run(server) {
      server.needs(["DELAY"]);
      const most = limit(server, "maxInFlight", 5_000);
      const link = await server.link();
      await link.send({ cmd: 0, alive: 30_000 });
      await link.send(...Array.from({ length: most + 2 }, (_, seq) => ({ cmd: 2, sleep: 3600, seq })));
      const pong = await ask(link, { cmd: 1, seq: 1_000_000 });
      hold(pong.res === "PONG", () => shown(pong), "{seq: 1000000, res: PONG}");
      const cancelled = await ask(link, { cmd: 0, seq: most + 1, cancel: true });
      hold(cancelled.err === "CANCELLED", () => shown(cancelled), `{seq: ${most + 1}, err: CANCELLED}`);
    },
  },
];

/** All of them. */
export const SERVER_CHECKS: readonly ServerCheck[] = [...info, ...many, ...limits];
