/**
 * The contract of a server: its commands and their shapes, sorted, without values that change while it runs.
 *
 * In: a client, a reply to INFO, or a saved contract. Out: the contract, or its text, which is always the same for the
 * same commands. Refused, by a {@linkcode ContractError}: a description without commands or with too many levels, and a
 * server that refuses to give one.
 */

import { printable } from "../codec/printable.ts";
import { setField } from "../codec/text.ts";
import type { Client } from "../client/connect.ts";
import { isReceived, RpcError } from "../errors.ts";
import { textFor } from "./error_text.ts";
import { ANY_SHAPE, ContractError, readShape, type Shape } from "./shape.ts";

/** A saved contract can be nested deeper than the stack. */
const MAX_LEVELS = 1_000;

/** One command. */
export interface ContractCommand {
  readonly name: string;
  readonly number: number | null;
  readonly summary: string;
  /** The names of its parameters, as far as they are known. */
  readonly params: readonly string[];
  /** Whether it answers with a stream. */
  readonly stream: boolean;
  /** Whether it takes a stream. */
  readonly items: boolean;
  /** The shapes as received; an unknown shape is missing. */
  readonly shapes: Readonly<Record<string, unknown>>;
}

/** The shapes that a command can have. */
type ShapeName = "params" | "result" | "items";

/** All commands, by name. */
export type Contract = readonly ContractCommand[];

/** Reads a reply to INFO, or a saved contract. */
export function contractOf(description: unknown): Contract {
  const { commands } = objectOf(description);
  if (!Array.isArray(commands)) throw new ContractError("there are no commands in it");
  const byName = new Map<string, ContractCommand>();
  for (const command of commands) {
    const { name, number, summary, params, stream, items, shapes } = objectOf(command);
    if (typeof name !== "string" || name === "" || byName.has(name)) continue;
    byName.set(name, {
      name,
      number: typeof number === "number" ? number : null,
      summary: typeof summary === "string" ? summary : "",
      params: Array.isArray(params) ? [...new Set(params.filter((param) => typeof param === "string"))].sort() : [],
      stream: stream === true,
      items: items === true,
      shapes: objectOf(plain(shapes)),
    });
  }
  return [...byName.values()].sort((a, b) => a.name < b.name ? -1 : 1);
}

/** The contract of a running server. */
export async function servedContract(client: Client): Promise<Contract> {
  const info = await client.call("INFO", { shapes: true }).catch((error) => {
    if (!(error instanceof RpcError && isReceived(error))) throw error;
    const text = textFor(error);
    throw new ContractError(text === undefined ? error.code : `${error.code}: ${text}`);
  });
  return contractOf(info);
}

/** The contract as text to save. */
export function contractText(contract: Contract): string {
  const $comment = "Made by client.ts --types json; not to be edited";
  return JSON.stringify({ $comment, commands: contract }, null, 2).split("\n").map(printable).join("\n");
}

/** One shape of a command, if it is known. */
export function shapeIn({ shapes }: ContractCommand, name: ShapeName): Shape | undefined {
  return Object.hasOwn(shapes, name) ? readShape(shapes[name]) : undefined;
}

/**
 * The shape of the parameters. If it is unknown: an object of any content, with the parameters whose names are known.
 */
export function paramsIn(command: ContractCommand): Shape {
  const fields = new Map(command.params.map((name) => [name, { shape: ANY_SHAPE, required: false }]));
  return shapeIn(command, "params") ?? { kind: "object", fields, others: ANY_SHAPE, bounds: new Map() };
}

/**
 * The error codes of a command, if they are known; each with the shape of its data, or `undefined` if it has no data.
 */
export function errorsIn({ shapes }: ContractCommand): Map<string, Shape | undefined> | undefined {
  if (!Object.hasOwn(shapes, "errors")) return undefined;
  const errors = Object.entries(objectOf(shapes.errors));
  return new Map(errors.map(([code, shape]) => [code, shape === null ? undefined : readShape(shape)]));
}

/** The value, if it is an object and not an array; otherwise an empty one. */
export function objectOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? value as Record<string, unknown> : {};
}

/** Entries in the order of their names, so that the same commands always give the same text. */
export function sortedByName<Value>(entries: Iterable<[name: string, value: Value]>): [name: string, value: Value][] {
  return [...entries].sort(([a], [b]) => a < b ? -1 : 1);
}

/** Converts a value to plain JSON with sorted keys. Values that JSON lacks have no meaning in a JSON Schema. */
function plain(value: unknown, level = 0): unknown {
  if (level > MAX_LEVELS) throw new ContractError(`a shape has more than ${MAX_LEVELS} levels`);
  if (Array.isArray(value)) return value.map((part) => plain(part, level + 1));
  if (typeof value === "number") return Number.isFinite(value) ? value : null;
  if (typeof value === "bigint" || value instanceof Uint8Array) return null;
  if (typeof value !== "object" || value === null) return value;
  const sorted: Record<string, unknown> = {};
  for (const [key, part] of sortedByName(Object.entries(value))) {
    setField(sorted, key, plain(part, level + 1));
  }
  return sorted;
}
