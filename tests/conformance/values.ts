/**
 * Values as text: in the line of a failure, in `vectors.json`, and in the lines of a driver. And patterns, which values
 * are compared with.
 *
 * In: values or JSON. Out: text, JSON, values, whether a pattern matches. Refused: bytes in another notation than
 * PROTOCOL.md's.
 */

import { Raw } from "./msgpack.ts";

/** Any value, in a pattern. */
export const ANY = { $any: true };
/** A finite number. */
export const NUMBER = { $number: true };
/** A text. */
export const TEXT = { $text: true };

/** No such field. */
export const ABSENT = { $absent: true };

/** A text of one part many times, in a pattern. */
export function repeated(part: string, times: number): { $repeat: [string, number] } {
  return { $repeat: [part, times] };
}

/** Whether a value is what a pattern says. In maps, fields must be the same ones. */
export function matches(value: unknown, pattern: unknown): boolean {
  if (typeof pattern === "number") return typeof value === "number" && Object.is(value + 0, pattern);
  if (typeof pattern !== "object" || pattern === null) return value === pattern;
  if (pattern instanceof Uint8Array) {
    return value instanceof Uint8Array && value.length === pattern.length &&
      value.every((byte, at) => byte === pattern[at]);
  }
  if (Array.isArray(pattern)) {
    return Array.isArray(value) && value.length === pattern.length &&
      pattern.every((part, index) => matches(value[index], part));
  }
  if ("$any" in pattern) return true;
  if ("$int" in pattern) return typeof value === "bigint" && String(value) === pattern.$int;
  if ("$number" in pattern) return typeof value === "number" && Number.isFinite(value);
  if ("$text" in pattern) return typeof value === "string";
  if ("$repeat" in pattern) {
    const [part, times] = pattern.$repeat as [string, number];
    return value === part.repeat(times);
  }
  if (typeof value !== "object" || value === null || Array.isArray(value) || value instanceof Uint8Array) return false;
  const names = Object.keys(pattern);
  return names.length === Object.keys(value).length &&
    names.every((name) => Object.hasOwn(value, name) && matches((value as never)[name], (pattern as never)[name]));
}

/** A value or bytes in a line, shortened. */
export function shown(value: unknown): string {
  const text = value instanceof Uint8Array ? notation(value) : JSON.stringify(toJson(value))
    .replaceAll(/"([A-Za-z$][\w$]*)":/g, "$1: ").replaceAll(/,(?=[\w"{[])/g, ", ").replaceAll("null", "nil");
  return text.length <= 200 ? text : `${text.slice(0, 140)} … (${text.length} characters)`;
}

/** Bytes as PROTOCOL.md writes them: `20 26 78*220 0a`. */
export function notation(bytes: Uint8Array): string {
  const tokens: string[] = [];
  for (let at = 0, end = 0; at < bytes.length; at = end) {
    while (end < bytes.length && bytes[end] === bytes[at]) end++;
    const token = bytes[at].toString(16).padStart(2, "0");
    tokens.push(...end - at < 16 ? new Array(end - at).fill(token) : [`${token}*${end - at}`]);
  }
  return tokens.join(" ");
}

/** Bytes from that notation. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(
    text.split(" ").filter(Boolean).flatMap((token) => {
      const [, byte, times = "1"] = token.match(/^([0-9a-f]{2})(?:\*(\d+))?$/) ?? [];
      if (byte === undefined) throw new SyntaxError(`not a byte: ${token}`);
      return new Array<number>(Number(times)).fill(parseInt(byte, 16));
    }),
  );
}

/** A value as JSON: bytes as `$bin`, large integers as `$int`, other numbers that JSON lacks as `$float`. */
export function toJson(value: unknown): unknown {
  if (value instanceof Uint8Array) return { $bin: value.toHex() };
  if (value instanceof Raw) return { $raw: notation(value.bytes) };
  if (typeof value === "bigint") return { $int: String(value) };
  if (typeof value === "number") return Number.isFinite(value) ? value : { $float: String(value) };
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== "object" || value === null) return value ?? null;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, toJson(field)]));
}

/** The value that JSON stands for. */
export function fromJson(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(fromJson);
  if (typeof json !== "object" || json === null) return json;
  if ("$bin" in json) return Uint8Array.fromHex(json.$bin as string);
  if ("$raw" in json) return new Raw(bytesOf(json.$raw as string));
  if ("$int" in json) {
    const value = BigInt(json.$int as string);
    return Number.isSafeInteger(Number(value)) ? Number(value) : value;
  }
  if ("$repeat" in json) return (json.$repeat as [string, number])[0].repeat((json.$repeat as [string, number])[1]);
  if ("$float" in json) return Number(json.$float);
  return Object.fromEntries(Object.entries(json).map(([name, field]) => [name, fromJson(field)]));
}
