/**
 * Compares two contracts, and finds the changes that break a caller written for the first one.
 *
 * In: the contract before and after. Out: a line for each breaking change. The type of what a caller sends may become
 * wider, and the type of what it gets may become narrower; the opposite breaks it. A type that was unknown before
 * cannot break it. Refused, by a {@linkcode ContractError}: what `shape.ts` refuses.
 */

import { type Contract, type ContractCommand, errorsIn, shapeIn } from "./contract.ts";
import { shapeChanges } from "./shape_changes.ts";

/** All breaking changes, sorted by command. */
export function breakingChanges(before: Contract, after: Contract): string[] {
  return before.flatMap((command) => {
    const now = after.find(({ name }) => name === command.name);
    const found = now === undefined ? ["the command is gone"] : changesOf(command, now);
    return found.map((change) => `${command.name}: ${change}`);
  });
}

function changesOf(before: ContractCommand, after: ContractCommand): string[] {
  const found: string[] = [];
  if (before.number !== null && after.number !== before.number) {
    found.push(`its number was ${before.number} and is ${after.number ?? "gone"}`);
  }
  if (before.stream !== after.stream) {
    found.push(
      after.stream ? "it answers with a stream and no longer once" : "it answers once and no longer with a stream",
    );
  }
  if (before.items !== after.items) {
    found.push(after.items ? "it needs a stream from the caller now" : "it takes no stream from the caller any more");
  }
  const params = shapeIn(before, "params");
  const newParams = shapeIn(after, "params");
  if (params !== undefined && newParams !== undefined) {
    found.push(...shapeChanges(params, newParams, { side: "sent", names: "parameter", whole: "the parameters" }));
  } else {
    const gone = before.params.filter((name) => !after.params.includes(name));
    found.push(...gone.map((name) => `the parameter ${JSON.stringify(name)} is gone`));
  }
  const items = shapeIn(before, "items");
  const newItems = shapeIn(after, "items");
  if (items !== undefined && newItems !== undefined) {
    found.push(...shapeChanges(items, newItems, { side: "sent", names: "field", whole: "an item of the caller" }));
  }
  // If the kind of reply has changed, that is already reported, and an item would be compared with a result.
  if (before.stream === after.stream) found.push(...resultChanges(before, after));
  return [...found, ...errorChanges(before, after)];
}

function resultChanges(before: ContractCommand, after: ContractCommand): string[] {
  const result = shapeIn(before, "result");
  const newResult = shapeIn(after, "result");
  if (result === undefined) return [];
  const whole = before.stream ? "an item of the reply" : "the result";
  if (newResult === undefined) return [`${whole} is not described any more`];
  return shapeChanges(result, newResult, { side: "got", names: "field", whole });
}

function errorChanges(before: ContractCommand, after: ContractCommand): string[] {
  const errors = errorsIn(before);
  const newErrors = errorsIn(after);
  if (errors === undefined) return [];
  if (newErrors === undefined) return ["its errors are not described any more"];
  return [...newErrors].flatMap(([code, data]) => {
    if (!errors.has(code)) return [`the error ${code} is new`];
    const known = errors.get(code);
    const whole = `the data of the error ${code}`;
    if (known === undefined) return []; // a caller that expects no data reads none
    return data === undefined
      ? [`${whole} is gone`]
      : shapeChanges(known, data, { side: "got", names: "field", whole });
  });
}
