/** What makes a command of packline's own: as `command()`, with one of the protocol's numbers, or with none. */

import { BUILT_IN_NUMBERS } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import type { Command, CommandOptions, Context, ItemsOf, NeededItem } from "../command.ts";
import type { CommandShapes } from "../server_info.ts";
import type { JsonSchema, StandardSchema } from "../standard_schema.ts";

/** What a command of packline's own may be given beside what all may. */
export interface BuiltInOptions extends Omit<CommandOptions, "number"> {
  /** Answers at once and costs next to nothing: it is never refused as `OVERLOADED`, so a busy server is not taken for a dead one. */
  immediate?: boolean;
  /** What INFO tells of it. By a schema it would be checked too, at each call. */
  shapes?: CommandShapes;
}

/** In: a name and a definition. Out: the command, with the number that the protocol has for the name, frozen. */
export function builtIn<Params, Result, Item = never>(
  name: string,
  definition: BuiltInOptions & {
    items?: StandardSchema<Item>;
    handler: (params: Params, context: Context<ItemsOf<Item>>) => Result | Promise<Result>;
  },
): Command<Params, Result, unknown, NeededItem<Item>> {
  const params = Object.keys(definition.shapes?.params?.properties ?? {});
  return Object.freeze({ number: BUILT_IN_NUMBERS.get(name), params, ...definition });
}

/** The shape of parameters. */
export function paramsShape(properties: Record<string, JsonSchema>, required: readonly string[] = []): JsonSchema {
  return { type: "object", properties, ...(required.length === 0 ? {} : { required }) };
}

/** What INFO tells of errors whose data says which parameter will not do. */
export const INVALID_PARAMS_SHAPE = {
  INVALID_PARAMS: {
    type: "array",
    items: {
      type: "object",
      properties: {
        path: { type: "array", items: { type: ["string", "number"] } },
        message: { type: "string" },
      },
      required: ["path", "message"],
    },
  },
} as const;

/** What is said of a parameter that will not do, in the form that a schema's findings have. */
export function invalidParam(name: string, message: string): RpcError {
  return new RpcError("INVALID_PARAMS", `${name}: ${message}`, { data: [{ path: [name], message }] });
}
