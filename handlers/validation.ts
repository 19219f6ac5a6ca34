/**
 * Validates the parameters of a call, and the items of its stream, with the schemas of its command; with `checkResults`
 * also its results.
 *
 * In: the parameters; an item; a handler's answer. Out: the schema's output; the same answer. Refused: invalid values of
 * the caller, by `INVALID_PARAMS` with the path and text of each issue; an invalid result, by a `TypeError`.
 */

import { shortened } from "../codec/text.ts";
import { RpcError } from "../errors.ts";
import { endItems, iteratorOf } from "../session/item_sender.ts";
import { replyOf } from "./command.ts";
import type { SchemaIssue, SchemaResult, StandardSchema } from "./standard_schema.ts";
import { isStream, isThenable } from "./item_sender.ts";
import { isTracked } from "./tracked.ts";

/** The most issues in the data of an error: a caller may send a list in which each entry is wrong. */
const MAX_ISSUES = 100;

/** The most issues in a text. */
const MAX_SHOWN = 10;

/** Longer texts of an issue, and longer steps of its path, are cut: they may contain what the caller has sent. */
const MAX_CHARS = 500;

/** An issue, as a caller gets it. */
interface Issue {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

/**
 * The parameters, or an item of the caller's stream, for the handler; a promise if the schema is asynchronous.
 *
 * @param index The place of the item.
 */
export function validated(schema: StandardSchema, value: unknown, index?: number): unknown {
  const result = schema["~standard"].validate(value);
  return isThenable(result) ? result.then((result) => valueOf(result, index)) : valueOf(result, index);
}

function valueOf(result: SchemaResult<unknown>, index: number | undefined): unknown {
  if (result.issues === undefined) return result.value;
  const data = toldOf(result.issues, index === undefined ? [] : ["items", index]);
  throw new RpcError("INVALID_PARAMS", textOf(data, result.issues.length), { data });
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
  const told = toldOf(result.issues);
  throw new TypeError(`the result does not fit its schema: ${textOf(told, result.issues.length)}`);
}

/** The first issues. Each is read field by field: that of a class, as arktype's, has its text from a getter. */
function toldOf(issues: readonly SchemaIssue[], within: Issue["path"] = []): Issue[] {
  return Array.from(issues).slice(0, MAX_ISSUES).map((issue) => ({
    path: [...within, ...pathOf(issue)],
    message: shortened(String(issue.message), MAX_CHARS),
  }));
}

function textOf(issues: readonly Issue[], count: number): string {
  const shown = issues.slice(0, MAX_SHOWN).map(({ path, message }) =>
    path.length === 0 ? message : `${path.join(".")}: ${message}`
  );
  if (count > shown.length) shown.push(`and ${count - shown.length} more`);
  return shown.join("; ");
}

function pathOf(issue: SchemaIssue): Issue["path"] {
  return (issue.path ?? []).map((step) => {
    const key = typeof step === "object" ? step.key : step;
    return typeof key === "number" ? key : shortened(String(key), MAX_CHARS);
  });
}
