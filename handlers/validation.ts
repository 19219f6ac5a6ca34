/**
 * Validates the parameters of a call, and the items of its stream, with the schemas of its command.
 *
 * In: the parameters; an item. Out: the schema's output. Refused: invalid values, by `INVALID_PARAMS` with the path and
 * text of each issue.
 */

import { RpcError } from "../errors.ts";
import { endItems, iteratorOf } from "../session/item_sender.ts";
import { replyOf } from "./command.ts";
import type { SchemaIssue, SchemaResult, StandardSchema } from "./standard_schema.ts";
import { isStream } from "./item_sender.ts";
import { isTracked } from "./tracked.ts";

/** Whether a value is a promise, of any library. */
export function isThenable<Value>(value: Value | PromiseLike<Value>): value is PromiseLike<Value> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

/** The parameters for the handler; a promise if the schema is asynchronous. */
export function validated(schema: StandardSchema, params: unknown): unknown {
  const result = schema["~standard"].validate(params);
  return isThenable(result) ? result.then(valueOf) : valueOf(result);
}

/** An item of the caller's stream, for the handler; a promise if the schema is asynchronous. */
export function validatedItem(schema: StandardSchema, item: unknown, index: number): unknown {
  const result = schema["~standard"].validate(item);
  const value = (result: SchemaResult<unknown>) => valueOf(inItem(result, index));
  return isThenable(result) ? result.then(value) : value(result);
}

/** A result whose paths begin at the parameters. */
function inItem(result: SchemaResult<unknown>, index: number): SchemaResult<unknown> {
  if (result.issues === undefined) return result;
  return { issues: result.issues.map((issue) => ({ ...issue, path: ["items", index, ...issue.path ?? []] })) };
}

function valueOf(result: SchemaResult<unknown>): unknown {
  if (result.issues === undefined) return result.value;
  const issues = result.issues.map((issue) => ({ path: pathOf(issue), message: issue.message }));
  throw new RpcError("INVALID_PARAMS", textOf(result.issues), { data: issues });
}

/** Returns a handler's answer, if its result or each item of its stream fits the schema. */
export function checkedResult(schema: StandardSchema, answer: unknown): unknown {
  if (isStream(answer)) return checkedItems(schema, answer);
  if (isThenable(answer)) return answer.then((answer) => checkedResult(schema, answer));
  const { res } = replyOf(answer);
  const result = schema["~standard"].validate(res);
  if (isThenable(result)) return result.then((result) => fitting(result, answer));
  return fitting(result, answer);
}

/** Not a generator: its `return()` would wait for the next item, and a reader that leaves ends a stream at once. */
function checkedItems(schema: StandardSchema, items: AsyncIterable<unknown>): AsyncIterable<unknown> {
  const check = async (item: unknown) => {
    fitting(await schema["~standard"].validate(isTracked(item) ? item.value : item), item);
  };
  return {
    [Symbol.asyncIterator]() {
      const iterator = iteratorOf(items);
      const next = async () => {
        const item = await iterator.next();
        if (item.done) return item;
        try {
          await check(item.value);
        } catch (error) {
          await endItems(iterator);
          throw error;
        }
        return item;
      };
      return { next, return: iterator.return?.bind(iterator) } as AsyncIterator<unknown>;
    },
  };
}

/** Returns the answer unchanged: a result is checked, not converted. */
function fitting(result: SchemaResult<unknown>, answer: unknown): unknown {
  if (result.issues === undefined) return answer;
  throw new TypeError(`the result does not fit its schema: ${textOf(result.issues)}`);
}

function textOf(issues: readonly SchemaIssue[]): string {
  return issues.map((issue) => {
    const path = pathOf(issue).join(".");
    return path === "" ? issue.message : `${path}: ${issue.message}`;
  }).join("; ");
}

function pathOf(issue: SchemaIssue): (string | number)[] {
  return (issue.path ?? []).map((step) => {
    const key = typeof step === "object" ? step.key : step;
    return typeof key === "number" ? key : String(key);
  });
}
