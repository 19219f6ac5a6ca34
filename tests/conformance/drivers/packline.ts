/**
 * The driver of packline's own client. In: steps, a line each. Out: answers (`README.md`). Refused: nothing.
 */

import { connect, RpcError } from "../../../mod.ts";
import type { Answer, CallStep } from "../driver.ts";
import { fromJson, toJson } from "../values.ts";

/** A step with all that it can say. */
interface Step extends Omit<CallStep, "call"> {
  connect?: string;
  aliveMs?: number;
  call?: string;
  calls?: Step[];
  stream?: string;
  take?: number;
  close?: boolean;
}

let client: Awaited<ReturnType<typeof connect>> | undefined;

function optionsOf({ timeoutMs, meta, cancelAfterMs, items }: Step): Record<string, unknown> {
  return {
    ...timeoutMs !== undefined && { timeoutMs },
    ...meta && { meta },
    ...items && { items },
    ...cancelAfterMs !== undefined && { signal: AbortSignal.timeout(cancelAfterMs) },
  };
}

function failure(error: unknown): Answer {
  if (error instanceof RpcError) return { err: error.code };
  throw error;
}

async function call(step: Step): Promise<Answer> {
  try {
    return { res: await client!.call(step.call!, step.params, optionsOf(step)) };
  } catch (error) {
    return failure(error);
  }
}

async function stream(step: Step): Promise<Answer> {
  const items: unknown[] = [];
  const stream = client!.stream(step.stream!, step.params, optionsOf(step));
  try {
    while (items.length !== step.take) {
      const { done, value } = await stream.next();
      if (done) return { items, res: value };
      items.push(value);
    }
    await stream.return(undefined);
    return { items };
  } catch (error) {
    return { items, ...failure(error) };
  }
}

async function answerTo(step: Step): Promise<Answer> {
  if (step.calls) return { replies: await Promise.all(step.calls.map(call)) };
  if (step.call !== undefined) return await call(step);
  if (step.stream !== undefined) return await stream(step);
  await client?.close();
  client = undefined;
  if (step.connect !== undefined) {
    const { aliveMs } = step;
    client = await connect({ servers: [step.connect], ...aliveMs && { aliveMs } });
  }
  return {};
}

let held = "";
for await (const text of Deno.stdin.readable.pipeThrough(new TextDecoderStream())) {
  const lines = (held + text).split("\n");
  held = lines.pop() ?? "";
  for (const line of lines) console.log(JSON.stringify(toJson(await answerTo(fromJson(JSON.parse(line)) as Step))));
}
await client?.close();
