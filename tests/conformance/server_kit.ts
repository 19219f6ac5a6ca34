/**
 * Checks a server: all vectors, and what takes more than a plain conversation (`server_checks.ts`).
 *
 * In: an address, a level. Out: outcomes. Refused: a server that cannot be reached, or has no INFO, by a `Wrong`.
 */

import { Conversation } from "./conversation.ts";
import { type Check, type Outcome, runChecks, Skip } from "./report.ts";
import { SERVER_CHECKS } from "./server_checks.ts";
import { shown } from "./values.ts";
import { vectorsIn } from "./vectors_file.ts";
import vectorsFile from "./vectors.json" with { type: "json" };
import type { Level, Vector } from "./vectors/vector.ts";
import { Link, type Message, type Place, Wrong } from "./wire.ts";

/** What INFO tells of a server. */
export interface Info {
  /** The whole answer. */
  res: Message;
  commands: ReadonlySet<string>;
  limits: ReadonlyMap<string, number>;
}

/** A server under one check: its connections end with the check. */
export class ServerUnderTest implements AsyncDisposable {
  readonly place: Place;
  readonly info: Info;
  readonly #patienceMs: number | undefined;
  readonly #links: Link[] = [];

  constructor(place: Place, info: Info, patienceMs?: number) {
    this.place = place;
    this.info = info;
    this.#patienceMs = patienceMs;
  }

  /** A new connection. */
  async link(): Promise<Link> {
    const link = await Link.dial(this.place, this.#patienceMs);
    this.#links.push(link);
    return link;
  }

  /** What was sent over all its connections. */
  get sent(): string {
    const sent = this.#links.flatMap(({ sent }) => sent);
    return sent.slice(-3).join(" ");
  }

  /** Skips a check that needs commands or limits which this server does not have. */
  needs(commands: readonly string[], limits: Record<string, number> = {}): void {
    const missing = commands.filter((name) => !this.info.commands.has(name));
    if (missing.length > 0) throw new Skip(`the server has no ${missing.join(", ")}`);
    for (const [name, value] of Object.entries(limits)) {
      const has = this.info.limits.get(name);
      if (has !== value) throw new Skip(`INFO tells ${has ?? "no"} ${name}, these checks are for ${value}`);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const link of this.#links) await link[Symbol.asyncDispose]();
  }
}

function checkOf(vector: Vector): Check<ServerUnderTest> {
  const { level, heading, name, needs, limits } = vector;
  return {
    level,
    heading,
    name,
    async run(server) {
      server.needs(needs, limits);
      await new Conversation(await server.link()).play(vector);
    },
  };
}

/** All checks of a server, those of a shutdown left out. */
export const ALL_SERVER_CHECKS: readonly Check<ServerUnderTest>[] = [
  ...vectorsIn(vectorsFile).map(checkOf),
  ...SERVER_CHECKS,
];

/** What a run may leave out, and how long it waits. */
export interface ServerRun {
  level?: Level;
  only?: (check: Check<ServerUnderTest>) => boolean;
  patienceMs?: number;
  /** What INFO tells, if the server shall not be asked for it. */
  info?: Info;
}

/** Checks the server at an address. */
export async function checkServer(
  place: Place,
  { level = 4, only = () => true, patienceMs, info: given }: ServerRun = {},
): Promise<Outcome[]> {
  const info = given ?? await askInfo(place);
  const checks = ALL_SERVER_CHECKS.filter((check) => check.level <= level && only(check));
  return await runChecks(checks, () => new ServerUnderTest(place, info, patienceMs));
}

/** INFO, without which nothing can be said of a server. */
export async function askInfo(place: Place): Promise<Info> {
  await using link = await Link.dial(place);
  await link.send({ cmd: 3 });
  const reply = await link.message();
  const res = reply.res as Message;
  if (typeof res !== "object" || res === null || !Array.isArray(res.commands)) {
    throw new Wrong(shown(reply), "INFO: {res: {commands: [{name: …}, …], …}}");
  }
  const limits = Object.entries(res.limits ?? {}).filter((entry): entry is [string, number] =>
    typeof entry[1] === "number"
  );
  return { res, commands: new Set(res.commands.map(({ name }) => name)), limits: new Map(limits) };
}
