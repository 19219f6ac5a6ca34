/**
 * What a server does when it is told to stop: checked with one that the kit has started itself.
 *
 * In: a command. Out: outcomes. Refused: a command that does not print an address, by a `Wrong`.
 */

import { isReply } from "./conversation.ts";
import type { Outcome } from "./report.ts";
import { shown } from "./values.ts";
import { Link, type Message, type Place, type Tls, Wrong } from "./wire.ts";

/** How long a server may take to start, and to end. */
const START_MS = 20_000;
const STOP_MS = 5_000;

/** A server as a program. */
export class StartedServer implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reading: Promise<void>;

  private constructor(child: Deno.ChildProcess, readonly place: Place, reading: Promise<void>) {
    this.#child = child;
    this.#reading = reading;
  }

  /** Starts it, and waits for the line with its address. */
  static async start([program, ...args]: readonly string[], tls?: Tls): Promise<StartedServer> {
    const child = new Deno.Command(program, { args, stdin: "null", stdout: "piped" }).spawn();
    const { promise, resolve } = Promise.withResolvers<Place | undefined>();
    const reading = listen(child.stdout, resolve);
    const timer = setTimeout(() => resolve(undefined), START_MS);
    const place = await promise;
    clearTimeout(timer);
    if (place !== undefined) return new StartedServer(child, { ...place, tls }, reading);
    kill(child, "SIGKILL");
    await child.status;
    await reading;
    throw new Wrong("no line with an address", "listening on 127.0.0.1:40123, on standard output");
  }

  /** Tells it to stop. */
  stop(): void {
    kill(this.#child, "SIGTERM");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stop();
    const timer = setTimeout(() => kill(this.#child, "SIGKILL"), STOP_MS);
    await this.#child.status;
    clearTimeout(timer);
    await this.#reading;
  }
}

/** Reads all lines; tells the address of the first that has one, or that there is none. */
async function listen(output: ReadableStream<Uint8Array>, tell: (place?: Place) => void): Promise<void> {
  let said = "";
  for await (const text of output.pipeThrough(new TextDecoderStream())) {
    said += text;
    const [, hostname, port] = said.match(/([\w.-]+):(\d+)\n/) ?? [];
    if (hostname !== undefined) tell({ hostname, port: Number(port) });
  }
  tell();
}

function kill(child: Deno.ChildProcess, signal: Deno.Signal): void {
  try {
    child.kill(signal);
  } catch {
    // It has ended.
  }
}

/** A connection that is made before the shutdown, and what is right on it after. */
interface ShutdownCheck {
  heading: string;
  name: string;
  before: Message[];
  /** What the server answers before the shutdown. */
  answered: Message[];
  after(link: Link): Promise<void>;
}

async function expect(link: Link, wanted: Message): Promise<void> {
  const message = await link.message();
  if (!isReply(message, wanted)) throw new Wrong(shown(message), shown(wanted));
}

async function expectGoing(link: Link): Promise<void> {
  const message = await link.message();
  const fits = Object.keys(message).length === 1 && typeof message.going === "number" && message.going >= 0;
  if (!fits) throw new Wrong(shown(message), "{going: …}, in milliseconds");
}

const LONG = { cmd: 2, sleep: 3600, seq: 1 };
const TICK = { cmd: "TICK", interval: 3600, seq: 1 };
const FIRST_TICK = { seq: 1, res: 1, more: true };
const NOTICE = { cmd: 0, notice: true };
const CANCEL = { cmd: 0, seq: 1, cancel: true };
const CANCELLED = { seq: 1, err: "CANCELLED" };

const CHECKS: ShutdownCheck[] = [
  {
    heading: "Going",
    name: "a client that asked is told, and served until it closes",
    before: [NOTICE, { cmd: 1 }],
    answered: [{ res: "PONG" }],
    async after(link) {
      await expectGoing(link);
      await link.send({ cmd: 1, seq: 2 });
      await expect(link, { seq: 2, res: "PONG" });
      await link.finish();
      await link.expectEnd();
    },
  },
  {
    heading: "Going",
    name: "a client that asked is told with a call in flight, which goes on",
    before: [NOTICE, LONG],
    answered: [],
    async after(link) {
      await expectGoing(link);
      await link.send(CANCEL);
      await expect(link, CANCELLED);
      await link.finish();
      await link.expectEnd();
    },
  },
  {
    heading: "Going",
    name: "a client that asks late is told at once, and served",
    before: [LONG],
    answered: [],
    async after(link) {
      await link.send(NOTICE);
      await expectGoing(link);
      await link.send({ cmd: 1, seq: 2 });
      await expect(link, { seq: 2, res: "PONG" });
      await link.send(CANCEL);
      await expect(link, CANCELLED);
      await link.finish();
      await link.expectEnd();
    },
  },
  {
    heading: "What goes wrong",
    name: "a client that did not ask gets SHUTTING_DOWN for a new call, and the end after what is in flight",
    before: [LONG],
    answered: [],
    async after(link) {
      await link.send({ cmd: 1, seq: 3 });
      await expect(link, { seq: 3, err: "SHUTTING_DOWN" });
      await link.send(CANCEL);
      await expect(link, CANCELLED);
      await link.expectEnd();
    },
  },
  {
    heading: "Going",
    name: "what was in the queue is answered",
    before: [{ cmd: 1, seq: 9 }, { cmd: 2, sleep: 0.3 }, { cmd: 1 }],
    answered: [{ seq: 9, res: "PONG" }],
    async after(link) {
      await expect(link, { res: "DONE" });
      await expect(link, { res: "PONG" });
      await link.expectEnd();
    },
  },
  {
    heading: "Going",
    name: "a client that did not ask and says nothing is closed without a word",
    before: [{ cmd: 1 }],
    answered: [{ res: "PONG" }],
    after: (link) => link.expectEnd(),
  },
  {
    heading: "What goes wrong",
    name: "a stream that may take long ends with GOING_AWAY",
    before: [TICK],
    answered: [FIRST_TICK],
    async after(link) {
      await expect(link, { seq: 1, err: "GOING_AWAY" });
      await link.expectEnd();
    },
  },
  {
    heading: "Going",
    name: "a stream of a client that asked ends with GOING_AWAY, behind the notice",
    before: [NOTICE, TICK],
    answered: [FIRST_TICK],
    async after(link) {
      await expectGoing(link);
      await expect(link, { seq: 1, err: "GOING_AWAY" });
      await link.finish();
      await link.expectEnd();
    },
  },
];

/** Tells a server to stop, and checks what it does. */
export async function checkShutdown(server: { place: Place; stop(): void }): Promise<Outcome[]> {
  await using links = new AsyncDisposableStack();
  const prepared: { check: ShutdownCheck; link: Link }[] = [];
  for (const check of CHECKS) {
    const link = links.use(await Link.dial(server.place));
    await link.send(...check.before);
    // Where nothing is answered, the answer to PING shows that all before it has arrived.
    const answered = check.answered.length > 0 ? check.answered : [{ seq: 9, res: "PONG" }];
    if (check.answered.length === 0) await link.send({ cmd: 1, seq: 9 });
    for (const wanted of answered) await expect(link, wanted);
    prepared.push({ check, link });
  }
  server.stop();
  await prepared[0].link.comes(); // the notice: the shutdown has begun
  return await Promise.all(prepared.map(async ({ check: { heading, name, after }, link }): Promise<Outcome> => {
    try {
      await after(link);
      return { level: 4, heading, name, result: "passed", detail: "" };
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      const detail = `sent ${link.sent.join(" ")}; came ${error.came}; right: ${error.right}`;
      return { level: 4, heading, name, result: "failed", detail };
    }
  }));
}
