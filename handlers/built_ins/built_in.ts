/** Makes a built-in command: like `command()`, but with the protocol's number for its name, if there is one. */

import { BUILT_IN_NUMBERS } from "../../codec/message.ts";
import { RpcError } from "../../errors.ts";
import type { Command, CommandOptions, Context, ItemsOf, NeededItem } from "../command.ts";
import type { CommandShapes } from "../server_info.ts";
import type { JsonSchema, StandardSchema } from "../standard_schema.ts";

/** The options of a built-in command. */
export interface BuiltInOptions extends Omit<CommandOptions, "number"> {
  /** Answers at once, at almost no cost. Never refused as `OVERLOADED`, so that a busy server does not seem dead. */
  immediate?: boolean;
  /** Its shapes, for INFO. A schema would also be checked at each call. */
  shapes?: CommandShapes;
}

/** In: a name and a definition. Out: the command, frozen, with the protocol's number for the name. */
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

/** The shape of `INVALID_PARAMS`, whose data says which parameter is invalid. */
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

/** The error for an invalid parameter, in the same form as the issues of a schema. */
export function invalidParam(name: string, message: string): RpcError {
  return new RpcError("INVALID_PARAMS", `${name}: ${message}`, { data: [{ path: [name], message }] });
}
