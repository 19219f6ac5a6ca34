/**
 * The types of schemas.
 *
 * In: nothing. Out: the types. Refused: nothing.
 */

/**
 * The common interface of validators (Standard Schema, version 1), which zod, valibot, arktype and others implement.
 * packline only declares its type, and depends on no validator.
 */
export interface StandardSchema<Input = unknown, Output = Input> {
  /** The only property of the interface. */
  readonly "~standard": {
    /** The version of the interface. */
    readonly version: 1;
    /** The name of the library. */
    readonly vendor: string;
    /** Checks a value, and may transform it. */
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    /** The schema as a JSON Schema, if the validator can make one. INFO uses it for the shapes of a command. */
    readonly jsonSchema?: { readonly input: (options: JsonSchemaOptions) => JsonSchema };
    /** Carries the types; absent at run time. */
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}

/** A JSON Schema (draft 2020-12) of a value. Bytes are `{ type: "string", format: "binary" }`, as in OpenAPI. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** The options for a validator that makes a JSON Schema. */
export interface JsonSchemaOptions {
  /** The version of JSON Schema. */
  readonly target: string;
  /** Options of one library, which others ignore. */
  readonly libraryOptions?: Record<string, unknown>;
}

/** The input type of a schema. */
export type SchemaInput<Schema extends StandardSchema> = NonNullable<Schema["~standard"]["types"]>["input"];

/** The result of a validation. */
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
