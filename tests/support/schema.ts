/** Schemas for tests, without a validator library. */

import type { SchemaResult, StandardSchema } from "../../handlers/standard_schema.ts";
import type { Message } from "./wire.ts";

/** A validator by hand: `validate` gets the parameters. */
export function schemaOf<Output>(
  validate: (params: Message) => SchemaResult<Output> | Promise<SchemaResult<Output>>,
): StandardSchema<Message, Output> {
  return { "~standard": { version: 1, vendor: "by hand", validate: (value) => validate(value as Message) } };
}
