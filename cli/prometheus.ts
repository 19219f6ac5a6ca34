/**
 * Formats the reply to STATS as Prometheus text (version 0.0.4).
 *
 * In: the `res` of a reply to STATS, from any server. Out: the text, of type {@linkcode PROMETHEUS_TYPE}. Refused, by
 * `undefined`: data of another shape. Values that a server does not report are left out, such as durations and limits of
 * an older one.
 */

import type { CommandStatistics, ServerStatistics } from "../handlers/server_info.ts";
import { DURATION_BOUNDS_MS } from "../handlers/statistics.ts";
import { printable } from "../codec/printable.ts";
import { fieldsOf } from "./reports.ts";

/** The content type of the text. */
export const PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

/** One line: labels and a value. */
type Sample = [labels: Record<string, string>, value: number];

/** The text, without a newline at its end. */
export function prometheusText(answer: unknown): string | undefined {
  if (!isStatistics(answer)) return undefined;
  const { connections, bytes, refused, lateReplies, inFlight, uptime, draining, limits } = answer;
  const commands = Object.entries(answer.commands);
  const each = (valueOf: (counts: CommandStatistics) => number): Sample[] =>
    commands.map(([command, counts]) => [{ command }, valueOf(counts)]);
  return [
    family("uptime_seconds", "gauge", "Time since the server started.", [[{}, uptime]]),
    family("draining", "gauge", "Whether the server is shutting down.", ifTold(draining, Number)),
    family("connections", "gauge", "Connections that are open.", [[{}, connections.open]]),
    family("max_connections", "gauge", "Connections that may be open.", ifTold(limits, (at) => at.maxConnections)),
    family("connections_accepted_total", "counter", "Connections that were accepted.", [[{}, connections.accepted]]),
    family("connections_refused_total", "counter", "Connections refused at the limit.", [
      [{}, connections.refused],
    ]),
    family("received_bytes_total", "counter", "Bytes read from all connections.", [[{}, bytes.received]]),
    family("sent_bytes_total", "counter", "Bytes written to all connections.", [[{}, bytes.sent]]),
    family("refused_total", "counter", "Frames and messages that were refused, by reason.", [
      [{ reason: "bad_frame" }, refused.badFrame],
      [{ reason: "invalid_message" }, refused.invalidMessage],
      [{ reason: "truncated" }, refused.truncated],
      [{ reason: "unknown_command" }, refused.unknownCommand],
      [{ reason: "overloaded" }, refused.overloaded],
    ]),
    family("late_replies_total", "counter", "Replies that came after their call had ended.", [[{}, lateReplies]]),
    family("handlers_running", "gauge", "Handlers that have not returned yet.", [[{}, inFlight]]),
    family("max_handlers_running", "gauge", "Handlers that may run.", ifTold(limits, (at) => at.maxInFlightTotal)),
    family("calls_in_flight", "gauge", "Calls without their final reply.", each((counts) => counts.inFlight)),
    family("calls_total", "counter", "Calls that got their final reply.", each((counts) => counts.calls)),
    family(
      "call_errors_total",
      "counter",
      "Calls that failed, by code.",
      commands.flatMap(([command, { errors }]) =>
        Object.entries(errors).map(([code, count]): Sample => [{ command, code }, count])
      ),
    ),
    durations(commands),
  ].filter((text) => text !== "").join("\n");
}

/** One sample, unless an older server does not report the value. */
function ifTold<Value>(value: Value | undefined, numberOf: (value: Value) => number): Sample[] {
  return value === undefined ? [] : [[{}, numberOf(value)]];
}

function family(name: string, type: "counter" | "gauge", help: string, given: readonly Sample[]): string {
  const samples = given.filter(([, value]) => isCount(value)); // a server in another language may report fewer
  if (samples.length === 0) return "";
  // Prometheus refuses a series that is there twice, and texts that are escaped may become the same.
  const series = new Map<string, number>();
  for (const [labels, value] of samples) {
    const label = labelText(labels);
    series.set(label, (series.get(label) ?? 0) + value);
  }
  return [...head(name, type, help), ...Array.from(series, ([label, value]) => line(name, label, value))].join("\n");
}

function durations(commands: readonly [string, CommandStatistics][]): string {
  const name = "call_duration_seconds";
  const lines = commands.filter(([, counts]) => counts.durations?.length === DURATION_BOUNDS_MS.length + 1)
    .flatMap(([command, { durations, totalMs }]) => {
      let sum = 0;
      return [
        ...durations.map((calls, place) => {
          sum += calls;
          const le = place < DURATION_BOUNDS_MS.length ? String(DURATION_BOUNDS_MS[place] / 1000) : "+Inf";
          return line(`${name}_bucket`, labelText({ command, le }), sum);
        }),
        line(`${name}_sum`, labelText({ command }), totalMs / 1000),
        line(`${name}_count`, labelText({ command }), sum),
      ];
    });
  if (lines.length === 0) return "";
  return [...head(name, "histogram", "Time from a call's arrival to its final reply."), ...lines].join("\n");
}

function head(name: string, type: string, help: string): string[] {
  return [`# HELP packline_${name} ${help}`, `# TYPE packline_${name} ${type}`];
}

function line(name: string, label: string, value: number): string {
  return `packline_${name}${label} ${value}`;
}

function labelText(labels: Record<string, string>): string {
  const pairs = Object.entries(labels).map(([label, text]) => `${label}="${escapeLabel(text)}"`);
  return pairs.length > 0 ? `{${pairs.join(",")}}` : "";
}

/** Escapes the three special characters of labels, and a peer's characters that control a terminal. */
function escapeLabel(text: string): string {
  return text.split("\n")
    .map((line) => printable(line).replaceAll("\\", "\\\\").replaceAll('"', '\\"'))
    .join("\\n");
}

function isStatistics(answer: unknown): answer is ServerStatistics {
  const { uptime, inFlight, lateReplies, draining = false, limits, ...groups } = fieldsOf(answer);
  if (![uptime, inFlight, lateReplies].every(isCount) || typeof draining !== "boolean") return false;
  const { maxConnections, maxInFlightTotal } = fieldsOf(limits);
  if (limits !== undefined && ![maxConnections, maxInFlightTotal].every(isCount)) return false;
  for (const group of ["connections", "bytes", "refused"]) {
    const counts = fieldsOf(groups[group]);
    if (groups[group] === undefined || !Object.values(counts).every(isCount)) return false;
  }
  if (groups.commands === undefined) return false;
  return Object.values(fieldsOf(groups.commands)).every((counts) => {
    const { calls, inFlight, totalMs, errors, durations = [] } = fieldsOf(counts);
    return [calls, inFlight, totalMs, ...Object.values(fieldsOf(errors))].every(isCount) &&
      Array.isArray(durations) && durations.every(isCount);
  });
}

function isCount(value: unknown): value is number {
  return typeof value === "number";
}
