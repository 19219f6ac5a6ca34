/**
 * The driver of packline's own clients: Deno's, or with the argument `--web` the browser's, over a socket in place of a WebSocket.
 *
 * In: steps, a line each. Out: answers (`README.md`). Refused: nothing.
 */

import { connect as connectPage } from "../../../client/web.ts";
import { connect, RpcError } from "../../../mod.ts";
import { socketTransport } from "../../../transport/deno_network.ts";
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

function open(server: string, options: { aliveMs?: number }): ReturnType<typeof connect> {
  if (!Deno.args.includes("--web")) return connect({ servers: [server], ...options });
  const { hostname, port } = new URL(`tcp://${server}`);
  const dial = async (signal: AbortSignal) =>
    socketTransport(await Deno.connect({ hostname, port: Number(port), signal }));
  return connectPage({ url: `ws://${server}`, dial, ...options });
}

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
    client = await open(step.connect, { ...aliveMs && { aliveMs } });
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
