/** Servers and clients that are wrong in one way each: the kit notices each, by the check that should notice it. */

import { assert, assertEquals } from "@std/assert";
import { serve } from "../support/demo_server.ts";
import { checkClient } from "./client_kit.ts";
import { linesOf, type Outcome } from "./report.ts";
import { ALL_SERVER_CHECKS, askInfo, checkServer } from "./server_kit.ts";
import { SCENARIOS } from "./scenarios/scenarios.ts";
import { checkShutdown } from "./shutdown_checks.ts";
import { CLIENT_MISTAKES } from "./wrong_client.ts";
import { SERVER_MISTAKES, SHUTDOWN_MISTAKES, WrongServer } from "./wrong_server.ts";

/** A wrong server answers nothing; a right one takes a fraction of this. */
const PATIENCE_MS = 1_000;

function serveRight() {
  return serve({ port: 0, logLevel: "error", onError: () => {} });
}

/** Checks what is wrong by the one check that should notice it; some at a time, since most of it is waiting. */
async function expectNoticed<Wrong>(
  t: Deno.TestContext,
  mistakes: Record<string, Wrong>,
  noticedBy: (wrong: Wrong) => [heading: string, name: string],
  check: (mistake: string, only: (check: { heading: string; name: string }) => boolean) => Promise<Outcome[]>,
): Promise<void> {
  const entries = Object.entries(mistakes);
  assert(entries.length >= 20);
  for (let at = 0; at < entries.length; at += AT_A_TIME) {
    const some = entries.slice(at, at + AT_A_TIME);
    const found = await Promise.all(some.map(([mistake, wrong]) => {
      const [heading, name] = noticedBy(wrong);
      return check(mistake, (check) => check.heading === heading && check.name === name);
    }));
    for (const [index, [mistake, wrong]] of some.entries()) {
      await t.step(`one that ${mistake}: ${noticedBy(wrong).join(": ")}`, () => {
        assertEquals(found[index].map(({ result }) => result), ["failed"], linesOf(found[index]).join("\n"));
      });
    }
  }
}

/** Programs that run at the same time. */
const AT_A_TIME = 7;

Deno.test("a server that is wrong in one way is noticed", async (t) => {
  await using right = await serveRight();
  const info = await askInfo({ hostname: "127.0.0.1", port: right.port });
  await expectNoticed(t, SERVER_MISTAKES, ({ noticedBy }) => noticedBy, async (mistake, only) => {
    await using server = new WrongServer(right.port, SERVER_MISTAKES[mistake]);
    return await checkServer(server.place, { only, patienceMs: PATIENCE_MS, info });
  });
});

Deno.test("a server that is right passes the same checks, through the same proxy", async () => {
  await using right = await serveRight();
  await using server = new WrongServer(right.port, {});
  const noticing = new Set(Object.values(SERVER_MISTAKES).map(({ noticedBy }) => noticedBy.join()));
  const only = ({ heading, name }: { heading: string; name: string }) => noticing.has(`${heading},${name}`);
  const outcomes = await checkServer(server.place, { only });
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
  assertEquals(outcomes.length, noticing.size, "a check that should notice a mistake exists");
  assert(noticing.size < ALL_SERVER_CHECKS.length);
});

for (const [mistake, wrong] of Object.entries(SHUTDOWN_MISTAKES)) {
  Deno.test(`a server that ${mistake} is noticed at its shutdown`, async () => {
    const right = await serveRight();
    await using server = new WrongServer(right.port, wrong);
    let stopped = Promise.resolve<unknown>(undefined);
    const stop = () => void (stopped = right.shutdown({ graceMs: 2_000 }));
    const outcomes = await checkShutdown({ place: server.place, stop });
    await stopped;
    const failed = outcomes.filter(({ result }) => result === "failed");
    assert(
      failed.some(({ heading, name }) => `${heading},${name}` === wrong.noticedBy.join()),
      linesOf(outcomes).join(),
    );
  });
}

// Clients -------------------------------------------------------------------------------------------------------------

/** The driver of a small client, with a mistake or without. */
function driverOf(mistake: string): string[] {
  const program = new URL("wrong_client.ts", import.meta.url).pathname;
  return [Deno.execPath(), "run", "--no-prompt", "--no-check", "--allow-net=127.0.0.1", program, mistake];
}

Deno.test("a client that is wrong in one way is noticed", async (t) => {
  await expectNoticed(
    t,
    CLIENT_MISTAKES,
    (noticedBy) => noticedBy,
    (mistake, only) => checkClient(driverOf(mistake), { only }),
  );
});

Deno.test("a small client that was made from PROTOCOL.md alone passes every scenario", async () => {
  const outcomes = await checkClient(driverOf(""));
  assertEquals(outcomes.filter(({ result }) => result !== "passed"), [], linesOf(outcomes).join("\n"));
  assertEquals(outcomes.length, SCENARIOS.length);
});
