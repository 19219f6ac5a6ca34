/**
 * Replies as text: for people by default, and as the flags say.
 *
 * In: the reply to a call, field by field. Out: what is printed for it. Refused, by a `BAD_REPLY`: a reply that does not
 * hold what was asked for, such as a list of commands.
 */

import type { Fields } from "../codec/message.ts";
import { RpcError } from "../errors.ts";
import type { CommandCall } from "./call.ts";
import { toJson, toReadableJson } from "./json.ts";
import { prometheusText } from "./prometheus.ts";
import { commandsOf, commandTable, statisticsTable } from "./reports.ts";
import { wrap } from "./wrap.ts";

/** What the flags say about it. */
export interface Presentation {
  /** Bare JSON. */
  readonly json?: boolean;
  /** Only the commands that INFO lists. */
  readonly list?: boolean;
  /** The format of Prometheus, for STATS. */
  readonly format?: "prometheus";
}

/** A reply as the flags want it. */
export function present({ name }: CommandCall, fields: Fields, { json, list, format }: Presentation): string {
  if (list && "res" in fields) {
    const commands = commandsOf(fields.res);
    if (commands === undefined) throw new RpcError("BAD_REPLY", "the server does not list its commands");
    return json ? toJson(commands) : wrap(commandTable(commands));
  }
  if (format === "prometheus" && "res" in fields) {
    const text = prometheusText(fields.res);
    if (text === undefined) throw new RpcError("BAD_REPLY", "the server does not tell its counts");
    return text;
  }
  if (json) return toJson(fields);
  const table = name === "STATS" ? statisticsTable(fields.res) : undefined;
  return table === undefined ? `you said ${toReadableJson(fields)}` : wrap(table);
}
