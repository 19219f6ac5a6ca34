/**
 * Converts the commands of a server to tools of the Model Context Protocol, and their replies to tool results.
 *
 * In: commands as INFO describes them; a call by an agent. Out: tools; the result of a call. A failure is a result too,
 * so that the agent can read it. Refused: nothing; commands that cannot be tools are left out.
 *
 * Left out are commands with a number that is reserved for the protocol (below 16), unless the user names them;
 * commands that need a stream from the caller; and commands whose name is not a valid tool name.
 */

import { FIRST_OWN_NUMBER, isReservedParameter } from "../codec/message.ts";
import type { Client } from "../client/connect.ts";
import { setField } from "../codec/text.ts";
import { RpcError } from "../errors.ts";
import { UsageError } from "./arguments.ts";
import type { Contract, ContractCommand } from "./contract.ts";
import { textFor } from "./error_text.ts";
import { toJson } from "./json.ts";

/** The largest number of items of a stream in a result. */
export const MAX_ITEMS = 100;

/** The largest number of characters of these items, as JSON. */
export const MAX_ITEMS_LENGTH = 65_536;

/** Tool names that all clients accept. */
const TOOL_NAME = /^[A-Za-z0-9_.-]{1,128}$/;

/** The result of a tool. */
interface ToolResult {
  readonly content: readonly { readonly type: "text"; readonly text: string }[];
  readonly structuredContent?: unknown;
  readonly isError?: true;
}

/** A tool, as `tools/list` describes it. */
interface Tool {
  readonly name: string;
  readonly description?: string;
  readonly inputSchema: Readonly<Record<string, unknown>>;
}

/** The commands to offer, and a line for each selected command that cannot be offered. */
export function offered(contract: Contract, names: readonly string[]): { commands: Contract; leftOut: string[] } {
  const leftOut = names.filter((name) => !contract.some((command) => command.name === name))
    .map((name) => `the server has no command ${name}`);
  const commands = contract.filter(({ name, number, items }) => {
    const isMeant = names.length > 0 ? names.includes(name) : number === null || number >= FIRST_OWN_NUMBER;
    if (!isMeant) return false;
    if (items) leftOut.push(`${name} needs a stream of items, which no agent can send`);
    else if (!TOOL_NAME.test(name)) leftOut.push(`${name} is not a valid tool name`);
    return !items && TOOL_NAME.test(name);
  });
  return { commands, leftOut };
}

/** A command as a tool. */
export function toolOf({ name, summary, params, stream, shapes }: ContractCommand): Tool {
  const properties = Object.fromEntries(params.map((param) => [param, {}]));
  const shape = typeof shapes.params === "object" ? shapes.params : { properties };
  const about = [summary, ...stream ? [`Answers with a stream, of which the first ${MAX_ITEMS} items are given.`] : []];
  const description = about.filter((text) => text !== "").join(". ");
  const inputSchema = { ...asForms(shape) as Record<string, unknown>, type: "object" };
  return { name, ...(description === "" ? {} : { description }), inputSchema };
}

/** The form of bytes in JSON. */
const BYTES_FORM = {
  properties: { $binary: { type: "string", contentEncoding: "base64" } },
  required: ["$binary"],
};

/** The shape of the JSON that an agent sends for values of this shape: its bytes are forms, see `json.ts`. */
function asForms(shape: unknown): unknown {
  if (typeof shape !== "object" || shape === null) return shape;
  if (Array.isArray(shape)) return shape.map(asForms);
  const { format, ...others } = shape as Record<string, unknown>;
  const types = [others.type].flat();
  if (format === "binary" && types.includes("string")) {
    const formTypes = types.map((type) => type === "string" ? "object" : type);
    return { ...others, type: formTypes.length === 1 ? formTypes[0] : formTypes, ...BYTES_FORM };
  }
  const forms: Record<string, unknown> = {};
  for (const [key, part] of Object.entries(shape)) setField(forms, key, asForms(part));
  return forms;
}

/** Calls a command. `given` reads the arguments. */
export async function callTool(
  client: Client,
  { name, stream }: ContractCommand,
  given: () => unknown,
  { signal, timeoutMs }: { signal: AbortSignal; timeoutMs: number },
): Promise<ToolResult> {
  try {
    const params = checkedParams(given());
    if (stream) return await collect(client.stream(name, params, { signal, timeoutMs }), timeoutMs);
    return resultOf(await client.call(name, params, { signal, timeoutMs }));
  } catch (error) {
    if (error instanceof RpcError) return failureOf(error);
    // The parameters cannot be sent.
    if (!(error instanceof TypeError || error instanceof RangeError || error instanceof UsageError)) throw error;
    return failureOf(new RpcError("INVALID_PARAMS", error.message));
  }
}

/** The arguments, if none of them has a reserved name. */
function checkedParams(params: unknown): Record<string, unknown> {
  if (typeof params !== "object" || params === null || Array.isArray(params)) {
    throw new UsageError("the arguments must be an object");
  }
  const reserved = Object.keys(params).find(isReservedParameter);
  if (reserved !== undefined) throw new UsageError(`the parameter name "${reserved}" is reserved`);
  return params as Record<string, unknown>;
}

/** Collects a stream up to a limit. The rest is not read, and the handler ends. */
async function collect(stream: AsyncGenerator<unknown, unknown, void>, timeoutMs: number): Promise<ToolResult> {
  const items: string[] = [];
  let length = 0;
  let notice: string | undefined;
  try {
    for await (const item of stream) {
      const json = toJson(item);
      length += json.length;
      if (length > MAX_ITEMS_LENGTH) {
        notice = `the stream was cut: its items take more than ${MAX_ITEMS_LENGTH} characters`;
      } else items.push(json);
      if (items.length === MAX_ITEMS) notice = `the stream was cut after ${MAX_ITEMS} items, there may be more`;
      if (notice !== undefined) break;
    }
  } catch (error) {
    const isLate = error instanceof RpcError && (error.code === "TIMEOUT" || error.code === "DEADLINE_EXCEEDED");
    if (!isLate) throw error;
    notice = `the stream was cut after ${timeoutMs / 1000} s, there may be more`;
  }
  const texts = [`[${items.join(", ")}]`, ...notice === undefined ? [] : [notice]];
  return {
    content: texts.map((text) => ({ type: "text", text })),
    structuredContent: { items: items.map((item) => JSON.parse(item)), ...(notice === undefined ? {} : { notice }) },
  };
}

function resultOf(value: unknown): ToolResult {
  const json = toJson(value);
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value) &&
    !(value instanceof Uint8Array);
  return {
    content: [{ type: "text", text: typeof value === "string" ? value : json }],
    ...(isObject ? { structuredContent: JSON.parse(json) } : {}),
  };
}

function failureOf(error: RpcError): ToolResult {
  const { err, data } = error.toJSON();
  const msg = textFor(error);
  const failure = { code: err, message: msg, ...(data === undefined ? {} : { data }) };
  return {
    content: [{ type: "text", text: msg === undefined ? err : `${err}: ${msg}` }],
    structuredContent: JSON.parse(toJson(failure)),
    isError: true,
  };
}
