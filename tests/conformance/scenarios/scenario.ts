/** Short ways to write a scenario: what the driver does, what the kit's server does meanwhile, and what is right. */

import type { Asked, ClientUnderTest } from "../client_kit.ts";
import type { Answer, DriverStep } from "../driver.ts";
import { type Check, Skip } from "../report.ts";
import { matches, shown } from "../values.ts";
import type { Level } from "../vectors/vector.ts";
import { type Message, Wrong } from "../wire.ts";

/** A check of a client. */
export type Scenario = Check<ClientUnderTest>;

/** What the server does while the driver does a step. */
export type Script = (client: ClientUnderTest) => Promise<unknown>;

/** A failure of any code: the client's own. */
export const FAILS = "a failure";

/** What is right to answer: an answer, or a failure. */
export type Right = Answer | typeof FAILS;

/** Has a step done and serves it. A step whose script fails is cut, so that the driver can go on. */
export async function during(client: ClientUnderTest, step: DriverStep, script: Script): Promise<Answer> {
  const answer = client.ask(step);
  answer.catch(() => client.cut()); // the script need not wait for what the driver cannot do
  const [answered, served] = await Promise.allSettled([
    answer,
    script(client).catch((error) => {
      client.cut();
      throw error;
    }),
  ]);
  if (answered.status === "rejected" && answered.reason instanceof Skip) throw answered.reason;
  if (served.status === "rejected") throw served.reason;
  if (answered.status === "rejected") throw answered.reason;
  client.check();
  return answered.value;
}

/** Fails if an answer is not the right one. */
export function expectAnswer(answer: Answer, right: Right): void {
  const fits = right === FAILS ? isFailure(answer) : matches(answer, right);
  if (!fits) throw new Wrong(`the driver's ${shown(answer)}`, right === FAILS ? FAILS : shown(right));
}

/** Whether an answer is a failure with some code. */
export function isFailure(answer: Answer): boolean {
  return typeof answer.err === "string" && answer.err !== "" && !("res" in answer);
}

/** A scenario of one step. */
export function scenario(
  level: Level,
  heading: string,
  name: string,
  step: DriverStep,
  script: Script,
  right: Right,
): Scenario {
  return {
    level,
    heading,
    name,
    async run(client) {
      await client.connect();
      expectAnswer(await during(client, step, script), right);
    },
  };
}

/** A scenario of more steps. */
export function story(level: Level, heading: string, name: string, run: Scenario["run"]): Scenario {
  return {
    level,
    heading,
    name,
    async run(client) {
      await client.connect();
      await run(client);
    },
  };
}

/** ECHO, as a step. */
export function echo(data: unknown, more: Record<string, unknown> = {}): DriverStep {
  return { call: "ECHO", params: { data }, ...more };
}

/** Answers the next request. */
export function answer(...replies: Message[]): Script {
  return async (client) => {
    const { served, request } = await client.request();
    await served.reply(request, ...replies);
  };
}

/** Answers the next request as ECHO does. */
export async function answerEcho(client: ClientUnderTest): Promise<Asked> {
  const asked = await client.request();
  await asked.served.reply(asked.request, { res: asked.request.data ?? null });
  return asked;
}

/** One more call, which must work: over the same connection or another one. */
export async function stillWorks(client: ClientUnderTest): Promise<void> {
  expectAnswer(await during(client, echo("still there"), answerEcho), { res: "still there" });
}

/** What the client must have ended: the connection is of no more use. */
export async function expectHungUp({ served }: Asked): Promise<void> {
  while (!served.link.hasEnded) {
    if (!await served.link.comes()) throw new Wrong("the connection is still open", "the client closes it");
    if (served.link.hasMessage) await served.link.message();
  }
}
