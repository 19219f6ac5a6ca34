/** The stack of a call's error shows the caller's own lines. */

import { assert, assertMatch, assertRejects } from "@std/assert";
import { connect } from "../../client/connect.ts";
import { RpcError } from "../../errors.ts";
import { command, unchecked } from "../../handlers/command.ts";
import { serve } from "../../server.ts";
import { memoryPair } from "../../transport/memory.ts";

const commands = {
  FAIL: command(() => {
    throw new RpcError("GONE");
  }),
  WAIT: command((_: object, { signal }) => new Promise((_, reject) => signal.onabort = () => reject(signal.reason))),
};

/** The stack of the error with which a call rejects. */
async function stackOf(call: () => Promise<unknown>): Promise<string> {
  const { stack = "" } = await assertRejects(call, RpcError);
  return stack;
}

Deno.test("an error shows the functions that await the call: a reply, a timeout, an abort", async () => {
  await using server = await serve({ port: 0, commands });
  await using client = await connect<typeof commands>({ port: server.port });
  const abort = new AbortController();
  const outcomes: [code: string, call: () => Promise<unknown>, act?: () => void][] = [
    ["GONE", () => client.call.FAIL()],
    ["TIMEOUT", () => client.call.WAIT({}, { timeoutMs: 100 })],
    ["CANCELLED", () => client.call.WAIT({}, { signal: abort.signal }), () => abort.abort()],
  ];
  for (const [code, call, act] of outcomes) {
    const stack = stackOf(async function placeOfTheCaller() {
      await call();
    });
    act?.();
    assertMatch(await stack, new RegExp(`^RpcError: ${code}\\b`));
    assertMatch(await stack, /async placeOfTheCaller .*stack_test\.[jt]s/);
  }
});

Deno.test("a call that fails at once shows the functions that make it, awaited or not", async () => {
  const client = await connect({ port: 1, lazy: true });
  await client.close();
  function placeOfTheCaller() {
    return client.call("PING");
  }
  assertMatch(await stackOf(placeOfTheCaller), /at placeOfTheCaller /);
});

Deno.test("an error of the caller's own items keeps its stack", async () => {
  const TAKE = command({ items: unchecked(), handler: (_: object, { items }) => Array.fromAsync(items) });
  await using server = await serve({ port: 0, commands: { TAKE } });
  await using client = await connect({ port: server.port });
  async function* placeOfTheSource() {
    yield await Promise.reject(new TypeError("broken"));
  }
  const error = await assertRejects(() => client.call("TAKE", {}, { items: placeOfTheSource() }), TypeError, "broken");
  assertMatch(`${error.stack}`, /at .*placeOfTheSource /);
});

Deno.test("calls that end with their client have stacks of their own", async () => {
  await using server = await serve({ port: 0, commands });
  const client = await connect<typeof commands>({ port: server.port });
  const first = stackOf(async function firstPlace() {
    await client.call.WAIT();
  });
  const second = stackOf(async function secondPlace() {
    await client.call.WAIT();
  });
  await client.call("PING");
  await client.close();
  assertMatch(await first, /^RpcError: CLOSED\b.*\n(?: +at process\..*\n)? +at async firstPlace /);
  assertMatch(await second, /^RpcError: CLOSED\b.*\n(?: +at process\..*\n)? +at async secondPlace /);
});

Deno.test("calls that are lost together have stacks of their own", async () => {
  await using server = await serve({ port: 0, commands });
  const [peer, transport] = memoryPair();
  const served = server.accept(peer);
  await using client = await connect<typeof commands>({ dial: () => Promise.resolve(transport), lazy: true });
  await client.call("PING");
  const first = stackOf(async function firstPlace() {
    await client.call.WAIT();
  });
  const second = stackOf(async function secondPlace() {
    await client.call.WAIT();
  });
  peer.close();
  assertMatch(await first, /^RpcError: CONNECTION_LOST\b/);
  assertMatch(await first, /async firstPlace /);
  assertMatch(await second, /async secondPlace /);
  assert(!(await first).includes("secondPlace"));
  await served;
});
