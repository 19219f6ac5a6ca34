/**
 * Reads a JSON Schema into a form for writing declarations and for comparing contracts.
 *
 * In: a schema, from any server. Out: a {@linkcode Shape}. A part that is not understood becomes any shape, or a bound
 * that is only compared. Keywords that only describe a value are left out. A reference is replaced by its target, or by
 * any shape if it leads into itself. Nothing is fetched. Refused, by a {@linkcode ContractError}: a schema that is too
 * large or too deep after its references are replaced and its parts are joined.
 */

import { partAt } from "../handlers/shapes.ts";

/** A description of commands that cannot be used. */
export class ContractError extends Error {
  /** Always `"ContractError"`. */
  override readonly name = "ContractError";
}

/** Limits of a value, by JSON Schema keyword. */
export type Bounds = ReadonlyMap<string, unknown>;

/** A value of one kind, within bounds. */
interface Simple {
  readonly kind: "string" | "bytes" | "number" | "integer" | "boolean" | "null";
  readonly bounds: Bounds;
}

/** One field of an object. */
export interface ShapeField {
  readonly shape: Shape;
  readonly required: boolean;
}

/** An object. */
export interface ObjectShape {
  readonly kind: "object";
  readonly fields: ReadonlyMap<string, ShapeField>;
  /** The shape of all other fields; `undefined` if the schema does not say. */
  readonly others: Shape | undefined;
  readonly bounds: Bounds;
}

/** An array: its first elements, then the rest. */
export interface ArrayShape {
  readonly kind: "array";
  readonly first: readonly Shape[];
  readonly rest: Shape;
  readonly bounds: Bounds;
}

/** One value. */
interface Literal {
  readonly kind: "literal";
  readonly value: string | number | boolean;
}

/** The values that are valid. */
export type Shape =
  | { readonly kind: "any" }
  | { readonly kind: "never" }
  | Literal
  | Simple
  | ArrayShape
  | ObjectShape
  | { readonly kind: "union"; readonly members: readonly Shape[] };

export const ANY_SHAPE: Shape = { kind: "any" };
const NEVER: Shape = { kind: "never" };

/** References, and unions that are joined, can make a small schema large. */
const MAX_PARTS = 10_000;

/** References can make it deeper than the stack. */
const MAX_DEPTH = 500;

const NUMBER_BOUNDS = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const TEXT_BOUNDS = [
  ...["minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType", "contentSchema"],
];

/** The keywords that limit the values of a kind. A validator adds others, such as `example`, which only describe it. */
const BOUNDS: Readonly<Record<string, readonly string[]>> = {
  number: NUMBER_BOUNDS,
  integer: NUMBER_BOUNDS,
  string: TEXT_BOUNDS,
  bytes: TEXT_BOUNDS.filter((name) => name !== "format"),
  array: [
    ...["minItems", "maxItems", "uniqueItems", "contains", "minContains", "maxContains"],
    ...["additionalItems", "unevaluatedItems"],
  ],
  object: [
    ...["minProperties", "maxProperties", "propertyNames", "patternProperties", "unevaluatedProperties"],
    ...["dependentRequired", "dependentSchemas", "dependencies"],
  ],
};

/** The keywords that limit values of all kinds. */
const ANY_BOUNDS = ["not", "if", "then", "else"];

type Schema = Readonly<Record<string, unknown>>;

/** Reads a schema. */
export function readShape(schema: unknown): Shape {
  return new ShapeReader(schema).read(schema);
}

/** The union of several shapes. */
function unionOf(shapes: readonly Shape[]): Shape {
  const members = shapes.flatMap((shape) => shape.kind === "union" ? shape.members : [shape])
    .filter(({ kind }) => kind !== "never");
  if (members.some(({ kind }) => kind === "any")) return ANY_SHAPE;
  const unique = [...new Map(members.map((shape) => [shapeKey(shape), shape])).values()];
  return unique.length === 0 ? NEVER : unique.length === 1 ? unique[0] : { kind: "union", members: unique };
}

/** The shapes that an element of an array may have. */
export function elementsOf({ first, rest }: ArrayShape): readonly Shape[] {
  return rest.kind === "never" && first.length > 0 ? first : [...first, rest];
}

/** The keys that are known. */
const KEYS = new WeakMap<Shape, string>();

/** A key that is equal for equal shapes. */
export function shapeKey(shape: Shape): string {
  const known = KEYS.get(shape);
  if (known !== undefined) return known;
  const key = JSON.stringify(shape, (_key, value) => {
    return value instanceof Map ? [...value] : typeof value === "bigint" ? `${value}` : value;
  });
  KEYS.set(shape, key);
  return key;
}

class ShapeReader {
  readonly #root: unknown;
  /** The references that led to the part being read. */
  readonly #within = new Set<string>();
  #parts = 0;
  #depth = 0;

  constructor(root: unknown) {
    this.#root = root;
  }

  read(schema: unknown): Shape {
    this.#count(1);
    if (++this.#depth > MAX_DEPTH) throw new ContractError(`a shape has more than ${MAX_DEPTH} levels`);
    const shape = schema === false ? NEVER : isSchema(schema) ? this.#whole(schema) : ANY_SHAPE;
    this.#depth--;
    return shape;
  }

  #count(parts: number): void {
    this.#parts += parts;
    if (this.#parts > MAX_PARTS) throw new ContractError(`a shape has more than ${MAX_PARTS} parts`);
  }

  #whole(schema: Schema): Shape {
    const { $ref, allOf, anyOf, oneOf } = schema;
    let shape = this.#own(schema);
    if (typeof $ref === "string") shape = this.#both(this.#referred($ref), shape);
    for (const part of Array.isArray(allOf) ? allOf : []) shape = this.#both(shape, this.read(part));
    for (const parts of [anyOf, oneOf]) {
      if (Array.isArray(parts)) shape = this.#both(unionOf(parts.map((part) => this.read(part))), shape);
    }
    return shape;
  }

  #referred(ref: string): Shape {
    if (this.#within.has(ref)) return ANY_SHAPE;
    this.#within.add(ref);
    const shape = this.read(partAt(this.#root, ref));
    this.#within.delete(ref);
    return shape;
  }

  /** The shape from a schema's own keywords, without the schemas that it refers to or combines. */
  #own(schema: Schema): Shape {
    if ("const" in schema) return literal(schema.const);
    if (Array.isArray(schema.enum)) return unionOf(schema.enum.map(literal));
    const { type, not } = schema;
    if (isSchema(not) && Object.keys(not).length === 0) return NEVER;
    const types = Array.isArray(type) ? type : type === undefined ? typesMeant(schema) : [type];
    return types.length === 0 ? ANY_SHAPE : unionOf(types.map((type) => this.#ofType(type, schema)));
  }

  #ofType(type: unknown, schema: Schema): Shape {
    if (type === "object") return this.#object(schema);
    if (type === "array") return this.#array(schema);
    if (type === "string" && schema.format === "binary") return { kind: "bytes", bounds: boundsOf(schema, "bytes") };
    if (type === "boolean" || type === "null" || type === "string" || type === "number" || type === "integer") {
      return { kind: type, bounds: boundsOf(schema, type) };
    }
    return ANY_SHAPE;
  }

  #object(schema: Schema): Shape {
    const { properties, required, additionalProperties, patternProperties } = schema;
    const needed = new Set(Array.isArray(required) ? required : []);
    const fields = new Map<string, ShapeField>();
    for (const [name, part] of Object.entries(isSchema(properties) ? properties : {})) {
      fields.set(name, { shape: this.read(part), required: needed.has(name) });
    }
    const others = additionalProperties === undefined ? undefined : this.read(additionalProperties);
    const unlisted = patternProperties === undefined ? others ?? ANY_SHAPE : ANY_SHAPE;
    for (const name of needed) {
      if (typeof name === "string" && !fields.has(name)) fields.set(name, { shape: unlisted, required: true });
    }
    return { kind: "object", fields, others, bounds: boundsOf(schema, "object") };
  }

  #array(schema: Schema): Shape {
    const { prefixItems, items } = schema;
    const first = (Array.isArray(prefixItems) ? prefixItems : []).map((part) => this.read(part));
    return { kind: "array", first, rest: this.read(items), bounds: boundsOf(schema, "array") };
  }

  /** The intersection of two shapes. If they cannot be joined, the first one, with the second as a bound. */
  #both(one: Shape, other: Shape): Shape {
    if (one.kind === "any" || other.kind === "never") return other;
    if (other.kind === "any" || one.kind === "never") return one;
    this.#count(1);
    if (one.kind === "union") return unionOf(one.members.map((member) => this.#both(member, other)));
    if (other.kind === "union") return unionOf(other.members.map((member) => this.#both(one, member)));
    if (one.kind === "literal") return one;
    if (other.kind === "literal") return other;
    if (one.kind !== other.kind) return { ...one, bounds: new Map([...one.bounds, ["allOf", shapeKey(other)]]) };
    const bounds = new Map([...one.bounds, ...other.bounds]);
    if (one.kind === "object" && other.kind === "object") {
      const fields = new Map<string, ShapeField>();
      for (const name of new Set([...one.fields.keys(), ...other.fields.keys()])) {
        const [first, second] = [one, other].map((shape) => shape.fields.get(name) ?? unlisted(shape));
        const required = first.required || second.required;
        fields.set(name, { shape: this.#both(first.shape, second.shape), required });
      }
      this.#count(fields.size);
      return { kind: "object", fields, others: this.#joined(one.others, other.others), bounds };
    }
    return { ...one, bounds };
  }

  /** The shape of other fields in two joined objects: neither object refuses the fields of the other. */
  #joined(one: Shape | undefined, other: Shape | undefined): Shape | undefined {
    return one === undefined || one.kind === "never"
      ? other
      : other === undefined || other.kind === "never"
      ? one
      : this.#both(one, other);
  }
}

/** A field that an object does not list, in an object that is joined with it. */
function unlisted({ others, bounds }: ObjectShape): ShapeField {
  const isOpen = others === undefined || others.kind === "never" || bounds.has("patternProperties");
  return { shape: isOpen ? ANY_SHAPE : others, required: false };
}

function isSchema(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The types of a schema without `type`, derived from its other keywords. */
function typesMeant(schema: Schema): string[] {
  if ("properties" in schema || "additionalProperties" in schema || "required" in schema) return ["object"];
  return "items" in schema || "prefixItems" in schema ? ["array"] : [];
}

/** The shape of one value; that of `null` is its type, so that both ways to write it are equal. */
function literal(value: unknown): Shape {
  if (value === null) return { kind: "null", bounds: new Map() };
  const isPlain = ["string", "number", "boolean"].includes(typeof value);
  return isPlain ? { kind: "literal", value: value as Literal["value"] } : ANY_SHAPE;
}

function boundsOf(schema: Schema, kind: Simple["kind"] | "object" | "array"): Bounds {
  const names = [...BOUNDS[kind] ?? [], ...ANY_BOUNDS].filter((name) => Object.hasOwn(schema, name));
  return new Map(names.sort().map((name) => [name, schema[name]]));
}
