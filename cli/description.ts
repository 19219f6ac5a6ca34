/**
 * Formats what a server says about one command, with the types of its parameters, its result and its errors.
 *
 * In: the command as INFO lists it, with its shapes if it has any. Out: a title, and a line for each field and for each
 * entry of a list. Fields that a later server adds are shown as well. Refused: nothing; a shape that cannot be used is
 * `unknown`.
 */

import { cell, fieldsOf, fieldWords, ITEMS_PARAM } from "./reports.ts";
import { ANY_SHAPE, ContractError, readShape, type Shape } from "./shape.ts";
import { table } from "./table.ts";
import { keyOf, typeText } from "./types_typescript.ts";

/** The description of a command. */
export function commandDescription(command: unknown): string {
  const { name, summary, params, items, stream, shapes, ...others } = fieldsOf(command);
  const known = fieldsOf(shapes);
  const takes = items === true ? typed(`a stream of items (${ITEMS_PARAM} or -)`, known.items) : undefined;
  const answers = stream === true ? "with a stream" : stream === false ? "once" : undefined;
  const fields = {
    parameters: "params" in known ? typedParameters(known.params, params) : params,
    takes,
    answers: answers && typed(answers, known.result),
    ...("errors" in known && { errors: Object.entries(fieldsOf(known.errors)).map(typedError) }),
    ...others,
  };
  const rows = Object.entries(fields).flatMap(([field, value]) => {
    const entries = Array.isArray(value) ? value : [value];
    return entries.filter((each) => each !== null && each !== undefined).map((each, place) => [
      place === 0 ? fieldWords(field) : "",
      cell(each),
    ]);
  });
  const title = [[[name, summary].map(cell).filter((text) => text !== "").join(": ")]];
  return rows.length === 0 ? table(title) : `${table(title)}\n\n${table(rows)}`;
}

/** `name: string`, `times?: number`; the bare names if the shape says no more. */
function typedParameters(schema: unknown, params: unknown): unknown {
  const shape = shapeOf(schema);
  if (shape.kind !== "object") return shape.kind === "any" ? params : [typeText(shape)];
  return Array.from(
    shape.fields,
    ([name, field]) => `${keyOf(name)}${field.required ? "" : "?"}: ${typeText(field.shape)}`,
  );
}

function typedError([code, schema]: [code: string, schema: unknown]): string {
  return schema === null ? code : typed(code, schema);
}

function typed(text: string, schema: unknown): string {
  return schema === undefined ? text : `${text}: ${typeText(shapeOf(schema))}`;
}

function shapeOf(schema: unknown): Shape {
  try {
    return readShape(schema);
  } catch (error) {
    if (error instanceof ContractError) return ANY_SHAPE;
    throw error;
  }
}
