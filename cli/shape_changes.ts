/**
 * Compares two shapes of the same value.
 *
 * In: the shape before and after, and who sends the value. Out: a text for each change that breaks a caller: a value
 * that it may send but that is no longer accepted, or a value that it may get now but could not get before. Refused:
 * nothing.
 */

import { type ArrayShape, type Bounds, type ObjectShape, type Shape, type ShapeField, shapeKey } from "./shape.ts";

/** The value whose shapes are compared. */
interface Compared {
  /** Whether the caller sends it or gets it. */
  readonly side: "sent" | "got";
  /** What texts call a field of the value. */
  readonly names: "parameter" | "field";
  /** What texts call the value itself. */
  readonly whole: string;
  /** The names of the fields that lead to this part. */
  readonly path?: string;
}

/** The bounds that a value must not be below, and those that it must not be above. */
const LOWER: ReadonlySet<string> = new Set(["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"]);
const UPPER: ReadonlySet<string> = new Set(["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"]);

const BOOLEANS: readonly Shape[] = [true, false].map((value) => ({ kind: "literal", value }));

/** The changes that break a caller. */
export function shapeChanges(before: Shape, after: Shape, compared: Compared): string[] {
  const [from, to] = compared.side === "sent" ? [before, after] : [after, before];
  if (to.kind === "any" || from.kind === "never") return [];
  if (before.kind === "object" && after.kind === "object") return objectChanges(before, after, compared);
  if (before.kind === "array" && after.kind === "array") return arrayChanges(before, after, compared);
  if (from.kind === "integer" && to.kind === "number" || from.kind === to.kind && "bounds" in from && "bounds" in to) {
    return boundChanges(before, after, compared);
  }
  const wrong = membersOf(from).filter((member) => !fits(member, to, compared));
  const whole = `${nameOf(compared)} was ${textOf(before)} and is ${textOf(after)}`;
  return [...new Set(wrong.flatMap((member) => leastChanges(member, to, compared) ?? [whole]))];
}

function membersOf(shape: Shape): readonly Shape[] {
  return shape.kind === "union" ? shape.members : [shape];
}

/** The changes between a shape and the most similar member of another one; `undefined` if none is similar. */
function leastChanges(from: Shape, to: Shape, compared: Compared): string[] | undefined {
  const similar = membersOf(to).filter((member) => areSimilar(from, member));
  return similar.map((member) => changesBetween(from, member, compared)).sort((a, b) => a.length - b.length).at(0);
}

/** Whether two shapes are of the same kind, and not marked as different variants, as by `kind: "a"` and `kind: "b"`. */
function areSimilar(one: Shape, other: Shape): boolean {
  if (one.kind !== "object" || other.kind !== "object") return one.kind === other.kind && one.kind !== "literal";
  const marks = marksOf(other);
  return [...marksOf(one)].every(([name, value]) => !marks.has(name) || marks.get(name) === value);
}

/** The fields of an object that have one value. */
function marksOf({ fields }: ObjectShape): Map<string, unknown> {
  const marks = new Map<string, unknown>();
  for (const [name, { shape }] of fields) if (shape.kind === "literal") marks.set(name, shape.value);
  return marks;
}

function changesBetween(from: Shape, to: Shape, compared: Compared): string[] {
  return compared.side === "sent" ? shapeChanges(from, to, compared) : shapeChanges(to, from, compared);
}

/** Whether each value of one shape is valid for the other. */
function fits(from: Shape, to: Shape, compared: Compared): boolean {
  if (to.kind === "any" || from.kind === "never") return true;
  if (from.kind === "union") return from.members.every((member) => fits(member, to, compared));
  if (from.kind === "boolean" && to.kind === "union") {
    return to.members.some(({ kind }) => kind === "boolean") || BOOLEANS.every((value) => fits(value, to, compared));
  }
  if (to.kind === "union") {
    // Most variants are unchanged. To compare each with all others before it is found takes long.
    const key = shapeKey(from);
    return to.members.some((member) => shapeKey(member) === key) ||
      to.members.some((member) => fits(from, member, compared));
  }
  if (from.kind === "literal") return to.kind === "literal" ? from.value === to.value : takes(to, from.value);
  if (from.kind !== to.kind && !(from.kind === "integer" && to.kind === "number")) return false;
  // Large unions within each other would take minutes if all variants were compared with all others to their ends.
  if (from.kind === "object" && !areSimilar(from, to)) return false;
  return changesBetween(from, to, compared).length === 0;
}

/**
 * Whether a plain value is valid for a shape. A shape with bounds other than those of numbers and lengths takes none.
 */
function takes(shape: Shape, value: string | number | boolean): boolean {
  const { kind } = shape;
  const isOfKind: boolean = kind === "integer" ? Number.isInteger(value) : kindOf(value) === kind;
  if (!isOfKind) return false;
  const size = typeof value === "string" ? [...value].length : Number(value);
  return [..."bounds" in shape ? shape.bounds : []].every(([name, bound]) => {
    if (name === "exclusiveMinimum") return size > Number(bound);
    if (name === "exclusiveMaximum") return size < Number(bound);
    return LOWER.has(name) ? size >= Number(bound) : UPPER.has(name) ? size <= Number(bound) : false;
  });
}

function kindOf(value: unknown): string {
  return typeof value;
}

function objectChanges(before: ObjectShape, after: ObjectShape, compared: Compared): string[] {
  const found: string[] = [];
  for (const name of new Set([...before.fields.keys(), ...after.fields.keys()])) {
    const inner = within(compared, name);
    found.push(...fieldChanges(
      before.fields.get(name) ?? other(before),
      after.fields.get(name) ?? other(after),
      inner,
    ));
  }
  return [...found, ...otherChanges(before.others, after.others, compared), ...boundChanges(before, after, compared)];
}

/** Changes of fields that neither object lists. A receiver ignores fields that it does not know. */
function otherChanges(before: Shape | undefined, after: Shape | undefined, compared: Compared): string[] {
  if (compared.side === "sent") {
    if (after?.kind === "never" && before?.kind !== "never") {
      return [`${nameOf(compared)} may have no other fields now`];
    }
  } else {
    if (before === undefined || before.kind === "any" || before.kind === "never") return [];
    if (after === undefined) return [`${nameOf(compared)} may have fields of any type now`];
  }
  return before === undefined || after === undefined ? [] : shapeChanges(before, after, within(compared, "*"));
}

/** A field that an object does not list, if its shape is known. */
function other({ others }: ObjectShape): ShapeField | undefined {
  return others === undefined || others.kind === "never" || others.kind === "any"
    ? undefined
    : { shape: others, required: false };
}

function fieldChanges(before: ShapeField | undefined, after: ShapeField | undefined, compared: Compared): string[] {
  const { side } = compared;
  if (after === undefined) return before === undefined ? [] : [`${nameOf(compared)} is gone`];
  if (before === undefined) return side === "sent" && after.required ? [`${nameOf(compared)} is new and required`] : [];
  const found: string[] = [];
  if (side === "sent" && after.required && !before.required) found.push(`${nameOf(compared)} is required now`);
  if (side === "got" && before.required && !after.required) found.push(`${nameOf(compared)} may be missing now`);
  return [...found, ...shapeChanges(before.shape, after.shape, compared)];
}

function arrayChanges(before: ArrayShape, after: ArrayShape, compared: Compared): string[] {
  const count = Math.max(before.first.length, after.first.length);
  const found = Array.from(
    { length: count },
    (_, place) =>
      shapeChanges(before.first[place] ?? before.rest, after.first[place] ?? after.rest, within(compared, `${place}`)),
  );
  const rest = shapeChanges(before.rest, after.rest, within(compared, "[]"));
  return [...found.flat(), ...rest, ...boundChanges(before, after, compared)];
}

function boundChanges(before: Shape, after: Shape, compared: Compared): string[] {
  const was = "bounds" in before ? before.bounds : new Map();
  const is = "bounds" in after ? after.bounds : new Map();
  const [from, to]: Bounds[] = compared.side === "sent" ? [was, is] : [is, was];
  const wrong = [...to].filter(([name, bound]) => !isWithin(name, from.get(name), bound));
  return wrong.map(([name]) => `${nameOf(compared)} had ${boundText(name, was)} and has ${boundText(name, is)}`);
}

/** Whether a bound is at least as strict as another bound of the same name. */
function isWithin(name: string, inner: unknown, outer: unknown): boolean {
  if (typeof inner === "number" && typeof outer === "number") {
    if (LOWER.has(name)) return inner >= outer;
    if (UPPER.has(name)) return inner <= outer;
  }
  return JSON.stringify(inner) === JSON.stringify(outer);
}

function boundText(name: string, bounds: Bounds): string {
  return bounds.has(name) ? `${name} ${JSON.stringify(bounds.get(name))}` : `no ${name}`;
}

function within({ path, ...compared }: Compared, name: string): Compared {
  return { ...compared, path: path === undefined ? name : `${path}.${name}` };
}

function nameOf({ names, whole, path }: Compared): string {
  if (path === undefined) return whole;
  return names === "parameter"
    ? `the parameter ${JSON.stringify(path)}`
    : `${whole}: the field ${JSON.stringify(path)}`;
}

/** A shape in a few words. */
function textOf(shape: Shape): string {
  switch (shape.kind) {
    case "literal":
      return JSON.stringify(shape.value);
    case "union":
      return shape.members.map(textOf).join(" or ");
    case "array":
      return "an array";
    case "object": {
      const marks = Array.from(marksOf(shape), ([name, value]) => `${name} ${JSON.stringify(value)}`);
      return marks.length === 0 ? "an object" : `an object with ${marks.join(", ")}`;
    }
    case "any":
      return "anything";
    default:
      return shape.kind;
  }
}
