/**
 * Times and sizes as people write them on a command line: `500ms`, `2s`, `5m`, `1h`; `64KiB`, `1MiB`.
 *
 * In: a text. Out: milliseconds or bytes, and back. Refused, as `undefined`: anything else.
 */

/** The text for `Infinity`. */
export const WITHOUT_END = "none";

const TIME_UNITS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const SIZE_UNITS = { KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };

/** A time in whole milliseconds; a number without a unit is seconds. */
export function readTime(text: string): number | undefined {
  const [, number, unit = "s"] = text.match(/^(\d+\.?|\d*\.\d+)(ms|s|m|h)?$/) ?? [];
  return number === undefined ? undefined : Math.round(Number(number) * TIME_UNITS[unit as keyof typeof TIME_UNITS]);
}

/** A size in bytes; a number without a unit is bytes. */
export function readSize(text: string): number | undefined {
  const [, number, unit] = text.match(/^(\d+)(KiB|MiB|GiB)?$/) ?? [];
  if (number === undefined) return undefined;
  return Number(number) * (SIZE_UNITS[unit as keyof typeof SIZE_UNITS] ?? 1);
}

/** A time in its largest unit without a fraction, as `readTime` reads it. */
export function timeText(ms: number): string {
  return ms === Infinity ? WITHOUT_END : inLargest(ms, TIME_UNITS) ?? `${ms}ms`;
}

/** A size in its largest unit without a fraction, as `readSize` reads it. */
export function sizeText(bytes: number): string {
  return inLargest(bytes, SIZE_UNITS) ?? String(bytes);
}

/** A growing size in its largest unit, rounded down. */
export function roundSize(bytes: number): string {
  const [unit, size] = Object.entries(SIZE_UNITS).findLast(([, size]) => bytes >= size) ?? [" bytes", 1];
  return `${Math.floor(bytes / size)}${unit}`;
}

function inLargest(amount: number, units: Record<string, number>): string | undefined {
  const fitting = Object.entries(units).findLast(([, size]) => amount >= size && amount % size === 0);
  return fitting && `${amount / fitting[1]}${fitting[0]}`;
}
