/**
 * Converts wire values to JSON for people and programs, and back, without loss.
 *
 * In: a value from the wire, or typed JSON text. Out: JSON on one line, or the value. Refused, by a
 * {@linkcode UsageError}: an integer of more than 64 bits, a number above the largest float, an invalid form.
 *
 * Values that JSON lacks become objects with one key, here called forms:
 *
 *     {"$binary": "AAEC"}            bytes, as base64
 *     {"$bigint": "9007199254740993"}   an integer beyond 2^53, which most readers of JSON would round
 *     {"$number": "NaN"}             also "Infinity", "-Infinity" and "-0"
 *
 * A real map that looks like a form, or like an escaped one, gets one more `$` before its key. `codec/printable.ts`
 * makes text safe for a terminal. A typed integer beyond 2^53 is not rounded: it becomes a bigint.
 */

import { setField } from "../codec/text.ts";
import { UsageError } from "./arguments.ts";
import { printable } from "../codec/printable.ts";

/** The key of a form, or of a map that looks like one. */
const FORM = /^\$+(binary|bigint|number)$/;

/** Numbers that JSON lacks. */
const NUMBERS: ReadonlyMap<unknown, number> = new Map([
  ["NaN", NaN],
  ["Infinity", Infinity],
  ["-Infinity", -Infinity],
  ["-0", -0], // sent as 0
]);

/** Converts a value to JSON. */
export function toJson(value: unknown): string {
  return printable(JSON.stringify(express(value)));
}

/** Converts a value to JSON for people: fractions have six decimals, or six digits below 1. */
export function toReadableJson(value: unknown): string {
  return printable(JSON.stringify(express(value), (_key, part) => typeof part === "number" ? rounded(part) : part));
}

function rounded(value: number): number {
  if (Number.isInteger(value)) return value;
  return Number(Math.abs(value) < 1 ? value.toPrecision(6) : value.toFixed(6));
}

/** The JSON equivalent of a value. */
function express(value: unknown): unknown {
  if (typeof value === "bigint") return { $bigint: String(value) };
  if (typeof value === "number") {
    if (Object.is(value, -0)) return { $number: "-0" };
    if (!Number.isFinite(value)) return { $number: String(value) };
    return Number.isInteger(value) && !Number.isSafeInteger(value) ? floatJson(value) : value;
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

/** A float that has the digits of an integer. With a fraction, it is read back as a float. */
function floatJson(value: number): unknown {
  const digits = String(value);
  // The types lack this function of ECMAScript.
  const { rawJSON } = JSON as unknown as { rawJSON(text: string): unknown };
  return rawJSON(/e/.test(digits) ? digits : `${digits}.0`);
}

/**
 * Parses JSON text.
 *
 * @throws {SyntaxError} If the text is not JSON.
 * @throws {UsageError} If a number or form is not valid on the wire.
 */
export function fromJson(text: string): unknown {
  // The third argument has the source text of a number; the types lack it.
  const revive = (_key: string, value: unknown, context?: { source?: string }) => {
    if (typeof value === "number") return numberOf(value, context?.source ?? "");
    return typeof value === "object" && value !== null ? understand(value) : value;
  };
  try {
    return JSON.parse(text, revive);
  } catch (error) {
    if (error instanceof RangeError) throw new UsageError("the JSON is nested too deeply");
    throw error;
  }
}

function numberOf(value: number, source: string): number | bigint {
  if (!Number.isFinite(value)) throw new UsageError(`${source} is out of range`);
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

/** The value that a JSON object stands for. An object that is not a form stands for itself. */
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
  throw new UsageError(`{"${key}": ${toJson(content)}} is not a valid value`);
}

function formOf(object: object): { key: string; content: unknown } | undefined {
  if (Array.isArray(object)) return undefined;
  const entries = Object.entries(object);
  if (entries.length !== 1 || !FORM.test(entries[0][0])) return undefined;
  return { key: entries[0][0], content: entries[0][1] };
}
