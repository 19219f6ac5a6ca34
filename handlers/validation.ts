/**
 * Validates the parameters of a call with the schema of its command.
 *
 * In: the parameters. Out: the schema's output. Refused: invalid parameters, by `INVALID_PARAMS` with the path and text
 * of each issue.
 */

import { RpcError } from "../errors.ts";
import type { SchemaIssue, SchemaResult, StandardSchema } from "./command.ts";

/** The parameters for the handler; a promise if the schema is asynchronous. */
export function validated(schema: StandardSchema, params: unknown): unknown {
  const result = schema["~standard"].validate(params);
  return result instanceof Promise ? result.then(valueOf) : valueOf(result);
}

function valueOf(result: SchemaResult<unknown>): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map((issue) => ({ path: pathOf(issue), message: issue.message }));
  const text = issues.map(({ path, message }) => path.length > 0 ? `${path.join(".")}: ${message}` : message).join(
    "; ",
  );
  throw new RpcError("INVALID_PARAMS", text, { data: issues });
}

function pathOf(issue: SchemaIssue): (string | number)[] {
  return (issue.path ?? []).map((step) => {
    const key = typeof step === "object" ? step.key : step;
    return typeof key === "number" ? key : String(key);
  });
}
