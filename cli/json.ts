/**
 * Values of the wire as JSON for people and programs, and back, without loss.
 *
 * In: a value that came over the wire, or JSON text that someone typed. Out: JSON on one line, or the value.
 *
 * What JSON cannot hold is an object with one key:
 *
 *     {"$binary": "AAEC"}            bytes, as base64
 *     {"$bigint": "9007199254740993"}   an integer beyond 2^53, which most readers of JSON would round
 *     {"$number": "NaN"}             also "Infinity", "-Infinity" and "-0"
 *
 * A real map that looks like one of these, or like what this rule makes of one, gets one more `$` before its key. Text
 * in JSON is made fit for a terminal by `codec/printable.ts`.
 *
 * An integer beyond 2^53 in typed JSON is not rounded: it becomes a bigint. Refused, by a {@linkcode UsageError}: one
 * that takes more than 64 bits, a number beyond the largest float, a form above with a wrong text in it.
 */

import { setField } from "../codec/reader.ts";
import { UsageError } from "./arguments.ts";
import { printable } from "../codec/printable.ts";

/** The key of a form, or of a map that looks like one. */
const FORM = /^\$+(binary|bigint|number)$/;

/** Numbers that JSON does not know. */
const NUMBERS: ReadonlyMap<unknown, number> = new Map([
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
  ["-0", -0], // which the wire does not keep: it is sent as 0
]);

/** The value as JSON. */
export function toJson(value: unknown): string {
  return printable(JSON.stringify(express(value)));
}

/** The same for people: a number that is not whole with six places, or with six digits if it is less than 1. */
export function toReadableJson(value: unknown): string {
  return printable(JSON.stringify(express(value), (_key, part) => typeof part === "number" ? rounded(part) : part));
}

function rounded(value: number): number {
  if (Number.isInteger(value)) return value;
  return Number(Math.abs(value) < 1 ? value.toPrecision(6) : value.toFixed(6));
}

/** What JSON can hold in place of a value. */
function express(value: unknown): unknown {
  if (typeof value === "bigint") return { $bigint: String(value) };
  if (typeof value === "number") {
    if (Object.is(value, -0)) return { $number: "-0" };
    return Number.isFinite(value) ? value : { $number: String(value) };
  }
  if (typeof value !== "object" || value === null) return value;
  if (value instanceof Uint8Array) return { $binary: value.toBase64() };
  if (Array.isArray(value)) return value.map(express);
  const form = formOf(value);
  if (form !== undefined) return { [`$${form.key}`]: express(form.content) };
  const map: Record<string, unknown> = {};
  for (const [key, content] of Object.entries(value)) setField(map, key, express(content));
  return map;
}

/**
 * The value of JSON text.
 *
 * @throws {SyntaxError} If the text is no JSON.
 * @throws {UsageError} If a number or a form in it has no value on the wire.
 */
export function fromJson(text: string): unknown {
  // What a number was written as is the third argument, which the types do not know yet.
  const revive = (_key: string, value: unknown, context?: { source?: string }) => {
    if (typeof value === "number") return numberOf(value, context?.source ?? "");
    return typeof value === "object" && value !== null ? understand(value) : value;
  };
  try {
    return JSON.parse(text, revive);
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError("the JSON is nested too deep");
    throw error;
  }
}

function numberOf(value: number, source: string): number | bigint {
  if (!Number.isFinite(value)) throw new UsageError(`${source} is beyond the largest number`);
  if (Number.isSafeInteger(value) || !/^-?\d+$/.test(source)) return value;
  return integerOf(source);
}

function integerOf(digits: string): bigint {
  const integer = BigInt(digits);
  if (BigInt.asIntN(64, integer) !== integer && BigInt.asUintN(64, integer) !== integer) {
    throw new UsageError(`${digits} takes more than 64 bits; write it as a float, with an exponent, or as text`);
  }
  return integer;
}

/** What an object of JSON stands for: mostly itself. */
function understand(object: object): unknown {
  const form = formOf(object);
  if (form === undefined) return object;
  const { key, content } = form;
  if (key.startsWith("$$")) return { [key.slice(1)]: content };
  if (key === "$binary" && typeof content === "string") {
    try {
      return Uint8Array.fromBase64(content);
    } catch {
      throw new UsageError(`{"$binary": ${JSON.stringify(content)}} is not base64`);
    }
  }
  if (key === "$bigint" && typeof content === "string" && /^-?\d+$/.test(content)) return integerOf(content);
  const number = key === "$number" ? NUMBERS.get(content) : undefined;
  if (number !== undefined) return number;
  throw new UsageError(`{"${key}": ${toJson(content)}} stands for no value`);
}

function formOf(object: object): { key: string; content: unknown } | undefined {
  if (Array.isArray(object)) return undefined;
  const entries = Object.entries(object);
  if (entries.length !== 1 || !FORM.test(entries[0][0])) return undefined;
  return { key: entries[0][0], content: entries[0][1] };
}
