/**
 * The shapes of a command's parameters, results, items and errors, as JSON Schema, for INFO.
 *
 * In: a command. Out: its shapes, taken from its schemas. Shapes that no schema describes are absent. Refused: nothing.
 */

import type { Command } from "./command.ts";
import type { CommandShapes } from "./server_info.ts";
import type { JsonSchema, StandardSchema } from "./standard_schema.ts";

/**
 * A part without a JSON Schema, such as a class instance, gets any shape: otherwise zod (the first option) and valibot
 * (the second) would not describe the rest.
 */
const OPTIONS = { target: "draft-2020-12", libraryOptions: { unrepresentable: "any", errorMode: "ignore" } };

/** A shape that is nested deeper than this is left out: INFO must not exceed the depth that every client reads. */
const MAX_DEPTH = 48;

/** The shapes of a command. */
export function shapesOf({ schema, result, items, errors }: Command): CommandShapes {
  const found = {
    params: shapeOf(schema),
    result: shapeOf(result),
    items: shapeOf(items),
    errors: errorShapes(errors),
  };
  return Object.fromEntries(Object.entries(found).filter(([, shape]) => shape !== undefined));
}

/**
 * The names of the parameters in their shape: those of an object, of all members of a union or an intersection, and of
 * the shape that a reference leads to.
 */
export function namesIn({ params }: CommandShapes): string[] {
  const names = new Set<string>();
  const seen = new Set<unknown>();
  const add = (part: unknown) => {
    if (typeof part !== "object" || part === null || seen.has(part)) return;
    seen.add(part);
    const { properties, allOf, anyOf, oneOf, $ref } = part as JsonSchema;
    for (const name of Object.keys(properties ?? {})) names.add(name);
    for (const parts of [allOf, anyOf, oneOf]) if (Array.isArray(parts)) parts.forEach(add);
    if (typeof $ref === "string") add(partAt(params, $ref));
  };
  add(params);
  return [...names];
}

/** The part of a shape that a reference within it leads to; `undefined` if it leads nowhere. */
export function partAt(root: unknown, ref: string): unknown {
  const [start, ...steps] = ref.split("/").map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
  const isPart = (part: unknown, name: string) =>
    typeof part === "object" && part !== null && Object.hasOwn(part, name);
  if (start !== "#") return undefined;
  return steps.reduce((part, name) => isPart(part, name) ? (part as JsonSchema)[name] : undefined, root);
}

function errorShapes(errors: Command["errors"]): CommandShapes["errors"] {
  if (errors === undefined) return undefined;
  return Object.fromEntries(
    Object.entries(errors).map(([code, schema]) => [code, schema === null ? null : shapeOf(schema) ?? {}]),
  );
}

/** The shape of a schema, if its validator can describe it. */
function shapeOf(schema: StandardSchema | undefined): JsonSchema | undefined {
  try {
    const told = schema?.["~standard"].jsonSchema?.input(OPTIONS);
    if (told === undefined) return undefined;
    // A copy, so that it contains only data.
    const { $schema: _version, ...shape } = JSON.parse(JSON.stringify(told));
    return depthOf(shape) > MAX_DEPTH ? undefined : shape;
  } catch {
    return undefined; // not every schema has a JSON Schema
  }
}

function depthOf(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOf));
}
