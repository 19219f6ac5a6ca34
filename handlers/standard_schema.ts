/**
 * The interface that validators agree on: Standard Schema, version 1, which zod, valibot, arktype and others have.
 */

/**
 * The common interface of validators (Standard Schema, version 1): zod, valibot, arktype and others have it. packline
 * declares only its shape, and depends on no validator.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** The only property of the interface. */
  readonly "~standard": {
    /** The version of the interface. */
    readonly version: 1;
    /** Which library this is. */
    readonly vendor: string;
    /** Checks a value, and may transform it. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    /** The same as a JSON Schema, if the validator can tell it: INFO tells callers the shapes of a command by it. */
    readonly jsonSchema?: { readonly input: (options: JsonSchemaOptions) => JsonSchema };
    /** Carries the types; never there at run time. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** A JSON Schema (draft 2020-12): the shape of a value. Bytes are `{ type: "string", format: "binary" }`, as in OpenAPI. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** The options for a validator that makes a JSON Schema. */
export interface JsonSchemaOptions {
  /** The version of JSON Schema. */
  readonly target: string;
  /** Options of one library, which others ignore. */
  readonly libraryOptions?: Record<string, unknown>;
}

/** The type that a validator gives. */
export type SchemaOutput<Schema extends StandardSchema> = NonNullable<Schema["~standard"]["types"]>["output"];

/** What a validator answers. */
export type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly SchemaIssue[] };

/** An error that a validator found. */
export interface SchemaIssue {
  /** The validator's text. */
  readonly message: string;
  /** The path to the value: keys, or objects that hold a key. */
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}
