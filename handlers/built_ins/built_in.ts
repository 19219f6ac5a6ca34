/** What makes a command of packline's own: as `command()`, with one of the protocol's numbers, or with none. */

import { BUILT_IN_NUMBERS } from "../../codec/message_table.ts";
import { RpcError } from "../../errors.ts";
import type { Command, CommandOptions, Context, ItemsOf, NeededItem } from "../command.ts";
import type { StandardSchema } from "../standard_schema.ts";

/** What a command of packline's own may be given beside what all may. */
export interface BuiltInOptions extends Omit<CommandOptions, "number"> {
  /** Answers at once and costs next to nothing: it is never refused as `OVERLOADED`, so a busy server is not taken for a dead one. */
  immediate?: boolean;
  /** The names of the parameters. */
  params?: readonly string[];
}

/** In: a name and a definition. Out: the command, with the number that the protocol has for the name, frozen. */
export function builtIn<Params, Result, Item = never>(
  name: string,
  definition: BuiltInOptions & {
    items?: StandardSchema<Item>;
    handler: (params: Params, context: Context<ItemsOf<Item>>) => Result | Promise<Result>;
  },
): Command<Params, Result, unknown, NeededItem<Item>> {
  return Object.freeze({ number: BUILT_IN_NUMBERS.get(name), ...definition });
}

/** What is said of a parameter that will not do, in the form that a schema's findings have. */
export function invalidParam(name: string, message: string): RpcError {
  return new RpcError("INVALID_PARAMS", `${name}: ${message}`, { data: [{ path: [name], message }] });
}
