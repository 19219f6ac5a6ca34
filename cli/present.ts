/**
 * Formats replies as text: for people by default, or as the flags say.
 *
 * In: the fields of a reply. Out: the text to print. Refused, by a `BAD_REPLY`: a reply without the requested data,
 * such as a list of commands; by a `CMD_NOT_FOUND`: a command that the server does not list.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { CommandCall } from "./call.ts";
import { commandDescription } from "./description.ts";
import { toJson, toReadableJson } from "./json.ts";
import { prometheusText } from "./prometheus.ts";
import { commandsOf, commandTable, statisticsTable } from "./reports.ts";
import { findCommand } from "./server_commands.ts";
import { wrap } from "./wrap.ts";

/** The flags for the format. */
interface Presentation {
  /** Bare JSON. */
  readonly json?: boolean;
  /** Only the commands that INFO lists. */
  readonly list?: boolean;
  /** Only what INFO says about this command. */
  readonly describe?: string;
  /** The Prometheus format, for STATS. */
  readonly format?: "prometheus";
}

/** Formats a reply. */
export function present({ name }: CommandCall, fields: Fields, presentation: Presentation): string {
  const { json, list, describe, format } = presentation;
  if ((list || describe !== undefined) && "res" in fields) {
    const commands = commandsOf(fields.res);
    if (commands === undefined) throw new RpcError("BAD_REPLY", "the server does not list its commands");
    if (describe !== undefined) {
      const command = findCommand(commands, describe);
      return json ? toJson(command) : wrap(commandDescription(command));
    }
    return json ? toJson(commands) : wrap(commandTable(commands));
  }
  if (format === "prometheus" && "res" in fields) {
    const text = prometheusText(fields.res);
    if (text === undefined) throw new RpcError("BAD_REPLY", "the server does not report its statistics");
    return text;
  }
  if (json) return toJson(fields);
  const table = name === "STATS" ? statisticsTable(fields.res) : undefined;
  return table === undefined ? `you said ${toReadableJson(fields)}` : wrap(table);
}
