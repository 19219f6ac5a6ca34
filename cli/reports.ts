/**
 * Formats the replies to INFO and STATS as tables.
 *
 * In: the `res` of a reply, or a part of it, from any server. Out: an aligned table. Refused, by `undefined`: data of
 * another shape.
 */

import { toReadableJson } from "./json.ts";
import { table } from "./table.ts";

/** How a stream of items is shown among the parameters. */
export const ITEMS_PARAM = "@PATH";

/** The commands in a reply to INFO; `undefined` if there are none. */
export function commandsOf(info: unknown): readonly unknown[] | undefined {
  const commands = fieldsOf(info).commands;
  return Array.isArray(commands) ? commands : undefined;
}

/** The table of commands: number, name, parameters, summary. */
export function commandTable(commands: readonly unknown[]): string {
  const rows = commands.map(fieldsOf).map(({ number, name, params, items, summary }) => [
    number === null ? "-" : cell(number),
    cell(name),
    [...Array.isArray(params) ? params.map(cell) : [], ...items === true ? [ITEMS_PARAM] : []].join(" "),
    cell(summary),
  ]);
  return table([["number", "name", "params", "summary"], ...rows]);
}

/** The table of counts: first of the server, then of each command. */
export function statisticsTable(statistics: unknown): string | undefined {
  const { commands, ...server } = fieldsOf(statistics);
  if (typeof commands !== "object" || commands === null) return undefined;
  const counts = Object.entries(server).flatMap(([name, value]) => {
    if (typeof value !== "object" || value === null) return [[fieldWords(name), cell(value)]];
    return Object.entries(value).map(([part, count]) => [`${fieldWords(name)}, ${fieldWords(part)}`, cell(count)]);
  });
  const calls = Object.entries(commands).map(([name, value]) => {
    const { calls, inFlight, totalMs, maxMs, errors } = fieldsOf(value);
    return [
      name,
      cell(calls),
      cell(inFlight),
      milliseconds(Number(totalMs) / Number(calls)),
      milliseconds(Number(maxMs)),
      Object.entries(fieldsOf(errors)).map(([code, count]) => `${code} ${cell(count)}`).join(", "),
    ];
  });
  return `${table(counts)}\n\n${table([["command", "calls", "in flight", "mean ms", "max ms", "errors"], ...calls])}`;
}

/** The fields of a map; empty if the value is not a map. */
export function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

/** A value as text for a table; empty if it is missing. */
export function cell(value: unknown): string {
  if (value === undefined) return "";
  return typeof value === "string" ? value : toReadableJson(value);
}

/** Three decimals; a command that was never called has no mean. */
function milliseconds(value: number): string {
  return Number.isFinite(value) ? value.toFixed(3) : "-";
}

/** Converts `badFrame` to words; `uptime` also gets its unit. */
export function fieldWords(name: string): string {
  if (name === "uptime") return "uptime, seconds";
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
