/**
 * Checks a client through its driver: the kit is the server, and does as each scenario says, right and wrong.
 *
 * In: a driver's command, a level. Out: outcomes. Refused: nothing.
 */

import { ClientWatch } from "./client_watch.ts";
import { type Answer, Driver, type DriverStep } from "./driver.ts";
import { type Check, type Outcome, runChecks } from "./report.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";
import { shown } from "./values.ts";
import type { Level } from "./vectors/vector.ts";
import { Link, type Message, Wrong } from "./wire.ts";

/** Numbers by which a client may call the commands of the protocol. */
const NAMES: Record<number, string> = { 1: "PING", 2: "DELAY", 3: "INFO", 4: "STATS" };

const INFO = { name: "packline", version: "0.0.0", protocol: 1, uptime: 0, limits: {}, commands: [] };

/** The kit's end of a connection. It answers PING and INFO by itself, and keeps settings, cancels and credit. */
export class Served {
  readonly link: Link;
  readonly #watch = new ClientWatch();
  /** What the client has said of the connection. */
  readonly settings: { max: number; alive?: number; notice: boolean } = { max: 57_310, notice: false };
  /** Items that the client takes, by call; of a call that said nothing, as many as come. */
  readonly credit = new Map<unknown, number>();
  readonly cancelled = new Set<unknown>();
  /** Whether PING is answered. */
  answersPings = true;
  /** When anything last came. */
  lastMs = performance.now();
  /** The longest silence of the client. */
  silenceMs = 0;
  #wrong: Wrong | undefined;
  #wake = () => {};

  constructor(conn: Deno.Conn) {
    this.link = new Link(conn);
    this.link.onMessage = (message) => this.#take(message);
  }

  /** The next request or item, or the end of the client's stream; the command is its name. */
  async request(patienceMs?: number): Promise<Message> {
    const message = await this.link.message(patienceMs);
    this.check();
    return typeof message.cmd === "number" && message.cmd in NAMES ? { ...message, cmd: NAMES[message.cmd] } : message;
  }

  /** Throws what the client has done wrong so far. */
  check(): void {
    if (this.#wrong) throw this.#wrong;
    this.link.check();
  }

  /** Answers a request: by its `seq`, if it has one. */
  async reply({ seq }: Message, ...replies: Message[]): Promise<void> {
    for (const { more, err } of replies) if (more !== true || err !== undefined) this.#watch.onFinal(seq);
    await this.link.send(...replies.map((reply) => ({ ...seq !== undefined && { seq }, ...reply })));
  }

  /** Lets the client send more items of a call. */
  async grant(request: Message, credit: number): Promise<void> {
    await this.grantAs(request, credit, credit);
  }

  /** The same, the number written in some other way. */
  async grantAs({ seq }: Message, credit: number, written: unknown): Promise<void> {
    this.#watch.onGrant(seq, credit);
    await this.link.send({ seq, credit: written });
  }

  /** Sends items of a stream as the client takes them. */
  async items(request: Message, items: readonly unknown[]): Promise<void> {
    for (const res of items) {
      await this.until(() => this.credit.get(request.seq) !== 0, `credit for {seq: ${request.seq}}`);
      const left = this.credit.get(request.seq);
      if (left !== undefined) this.credit.set(request.seq, left - 1);
      await this.reply(request, { res, more: true });
    }
  }

  /** Waits for something that the client says. */
  async until(condition: () => boolean, right: string, patienceMs = this.link.patienceMs): Promise<void> {
    let patient = true;
    const timer = setTimeout(() => {
      patient = false;
      this.#wake();
    }, patienceMs);
    try {
      while (!condition()) {
        this.check();
        if (!patient) throw new Wrong(`nothing of that for ${patienceMs} ms`, right);
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #take(message: Message): boolean {
    const nowMs = performance.now();
    this.silenceMs = Math.max(this.silenceMs, nowMs - this.lastMs);
    this.lastMs = nowMs;
    try {
      this.#watch.onMessage(message);
    } catch (error) {
      if (!(error instanceof Wrong)) throw error;
      this.#wrong ??= error;
    }
    const taken = this.#heed(message);
    this.#wake();
    return taken;
  }

  /** What is not for the scenario. */
  #heed(message: Message): boolean {
    const { cmd, seq } = message;
    if (cmd === 0) return this.#control(message);
    if (typeof message.credit === "number") this.credit.set(seq, message.credit);
    const name = typeof cmd === "number" ? NAMES[cmd] : cmd;
    if (name === "PING" && this.answersPings) void this.reply(message, { res: "PONG" });
    if (name === "INFO") void this.reply(message, { res: INFO });
    return name === "PING" || name === "INFO";
  }

  #control(message: Message): boolean {
    const { seq, max, alive, notice, cancel, credit } = message;
    if (typeof max === "number") this.settings.max = max;
    if (typeof alive === "number") this.settings.alive = alive;
    if (typeof notice === "boolean") this.settings.notice = notice;
    if (cancel === true) this.cancelled.add(seq);
    if (typeof credit === "number" && this.credit.has(seq)) this.credit.set(seq, this.credit.get(seq)! + credit);
    return !("item" in message || "end" in message);
  }
}

/** A request, and the connection it has come on. */
export interface Asked {
  served: Served;
  request: Message;
}

/** A client under one check: a server of its own, and the driver, which all checks share. */
export class ClientUnderTest implements AsyncDisposable {
  readonly #driver: Driver;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #accepted: Served[] = [];
  readonly #waiting: Served[] = [];
  readonly #accepting: Promise<void>;
  #steps: string[] = [];
  #isCut = false;
  #wake = () => {};

  constructor(driver: Driver) {
    this.#driver = driver;
    this.#accepting = this.#accept();
  }

  /** What the driver was told, and what the client was sent. */
  get sent(): string {
    const sent = this.#accepted.flatMap(({ link }) => link.sent);
    return `${this.#steps.slice(-2).join(" ")} and the client ${sent.slice(-3).join(" ") || "nothing"}`;
  }

  /** Has a step done. */
  async ask(step: DriverStep): Promise<Answer> {
    this.#steps.push(`the driver ${shown(step)}`);
    return await this.#driver.ask(step);
  }

  /** Has a new client made for this server. */
  async connect(aliveMs?: number): Promise<void> {
    await this.ask({ connect: `127.0.0.1:${this.#listener.addr.port}`, ...aliveMs && { aliveMs } });
  }

  /** The next connection of the client. */
  async accept(patienceMs?: number): Promise<Served> {
    await this.#until(() => this.#waiting.length > 0, "a connection of the client", patienceMs);
    return this.#waiting.shift()!;
  }

  /** The next request, on whichever connection it comes. */
  async request(patienceMs?: number): Promise<Asked> {
    const asked = () => this.#accepted.find((served) => served.link.hasMessage);
    await this.#until(
      () => {
        this.check();
        return asked() !== undefined;
      },
      "a request of the client",
      patienceMs,
    );
    const served = asked()!;
    return { served, request: await served.request() };
  }

  /** Whether no request waits here. */
  get isQuiet(): boolean {
    return !this.#accepted.some((served) => served.link.hasMessage);
  }

  /** Throws what the client has done wrong so far. */
  check(): void {
    for (const served of this.#accepted) served.check();
  }

  /** Ends all connections, so that the driver gets an answer. */
  cut(): void {
    this.#isCut = true;
    this.refuse();
    for (const { link } of this.#accepted) link.close();
    this.#wake();
  }

  async #until(condition: () => boolean, right: string, patienceMs = 3_000): Promise<void> {
    let patient = true;
    const timer = setTimeout(() => {
      patient = false;
      this.#wake();
    }, patienceMs);
    try {
      while (!condition()) {
        if (!patient) throw new Wrong(`nothing for ${patienceMs} ms`, right);
        if (this.#isCut) throw new Wrong("nothing", right);
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  /** No new connection gets in any more. */
  refuse(): void {
    try {
      this.#listener.close();
    } catch {
      // It was closed before.
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.refuse();
    await this.#accepting;
    for (const { link } of this.#accepted) await link[Symbol.asyncDispose]();
  }

  async #accept(): Promise<void> {
    while (true) {
      const conn = await this.#listener.accept().catch(() => undefined);
      if (conn === undefined) return;
      const served = new Served(conn);
      this.#accepted.push(served);
      this.#waiting.push(served);
      served.link.onArrival = () => this.#wake();
      this.#wake();
    }
  }
}

/** What a run may leave out. */
export interface ClientRun {
  level?: Level;
  only?: (check: Check<ClientUnderTest>) => boolean;
}

/** Checks the client behind a driver. */
export async function checkClient(
  command: readonly string[],
  { level = 4, only = () => true }: ClientRun = {},
): Promise<Outcome[]> {
  await using driver = new Driver(command);
  const scenarios = SCENARIOS.filter((scenario) => scenario.level <= level && only(scenario));
  return await runChecks(scenarios, () => new ClientUnderTest(driver));
}
