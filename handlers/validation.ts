/**
 * Checks the parameters of a call by the schema of its command.
 *
 * In: the parameters. Out: what the schema made of them. Refused: `INVALID_PARAMS`, with the path and the text of each fault.
 */

import { RpcError } from "../errors.ts";
import type { SchemaIssue, SchemaResult, StandardSchema } from "./command.ts";

/** The parameters as the handler gets them; a promise if the schema takes its time. */
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
