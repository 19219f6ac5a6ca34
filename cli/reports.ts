/**
 * What INFO and STATS answer, as tables for people.
 *
 * In: the `res` of a reply, as a server of whatever kind has sent it. Out: an aligned table. Refused, by `undefined`:
 * what does not have the shape of such an answer.
 */

import { toReadableJson } from "./json.ts";
import { table } from "./table.ts";

/** The commands that a server's INFO lists, or `undefined` if it lists none. */
export function commandsOf(info: unknown): readonly unknown[] | undefined {
  const commands = fieldsOf(info).commands;
  return Array.isArray(commands) ? commands : undefined;
}

/** The commands: number, name, parameters, summary. */
export function commandTable(commands: readonly unknown[]): string {
  const rows = commands.map(fieldsOf).map(({ number, name, params, summary }) => [
    number === null ? "-" : cell(number),
    cell(name),
    Array.isArray(params) ? params.map(cell).join(" ") : "",
    cell(summary),
  ]);
  return table([["number", "name", "params", "summary"], ...rows]);
}

/** The counts: first the server's, then those of each command. */
export function statisticsTable(statistics: unknown): string | undefined {
  const { commands, ...server } = fieldsOf(statistics);
  if (typeof commands !== "object" || commands === null) return undefined;
  const counts = Object.entries(server).flatMap(([name, value]) => {
    if (typeof value !== "object" || value === null) return [[wordsOf(name), cell(value)]];
    return Object.entries(value).map(([part, count]) => [`${wordsOf(name)}, ${wordsOf(part)}`, cell(count)]);
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

/** The fields of a map; none if it is no map. */
function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? value as Record<string, unknown> : {};
}

function cell(value: unknown): string {
  if (value === undefined) return "";
  return typeof value === "string" ? value : toReadableJson(value);
}

/** To the microsecond; a command that was never called has no mean. */
function milliseconds(value: number): string {
  return Number.isFinite(value) ? value.toFixed(3) : "-";
}

/** `badFrame` as people write it; the one time among the counts gets its unit. */
function wordsOf(name: string): string {
  if (name === "uptime") return "uptime, seconds";
  return name.replaceAll(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
}
