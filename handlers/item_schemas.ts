/**
 * Ready-made schemas: `bytes`, and `unchecked` for values that are only described.
 *
 * In: a value. Out: the same value. Refused: by `bytes`, a value that is not bytes.
 */

import type { JsonSchema, StandardSchema } from "./standard_schema.ts";

/**
 * The schema of items that are bytes: the option `items` of a command that takes a file or other binary data.
 *
 * @example An upload that counts
 * ```ts
 * import { bytes, command } from "../mod.ts";
 *
 * const UPLOAD = command({
 *   items: bytes,
 *   handler: async ({ name }: { name: string }, { items }) => {
 *     let size = 0;
 *     for await (const chunk of items) size += chunk.length;
 *     return { name, size };
 *   },
 * });
 * ```
 */
export const bytes: StandardSchema<Uint8Array, Uint8Array<ArrayBuffer>> = schemaOf<Uint8Array, Uint8Array<ArrayBuffer>>(
  (value) => isBytes(value) ? { value } : { issues: [{ message: "must be bytes" }] },
  { type: "string", format: "binary" },
);

const any = (value: unknown) => ({ value });

const ANY = schemaOf<unknown>(any);

/**
 * A schema that declares a type to the compiler and checks nothing. Use it for items that need only a type, and for
 * parameters and results that the handler checks.
 *
 * @typeParam Type The type of the value. A caller may still send another type.
 * @param shape The same type as a JSON Schema, which INFO reports to callers without TypeScript types. Without it, INFO
 * reports no schema.
 * @returns The schema.
 *
 * @example A conversation
 * ```ts
 * import { command, unchecked } from "../mod.ts";
 *
 * const CHAT = command({
 *   items: unchecked<string>(),
 *   async *handler(_params: object, { items }) {
 *     for await (const line of items) yield `> ${line}`;
 *   },
 * });
 * ```
 *
 * @example A command that describes itself to other repositories
 * ```ts
 * import { command, unchecked } from "../mod.ts";
 *
 * const GREET = command({
 *   schema: unchecked<{ name: string }>({
 *     type: "object",
 *     properties: { name: { type: "string" } },
 *     required: ["name"],
 *   }),
 *   result: unchecked<string>({ type: "string" }),
 *   handler: ({ name }) => `Hello, ${name}!`,
 * });
 * ```
 */
export function unchecked<Type>(shape?: JsonSchema): StandardSchema<Type> {
  return (shape === undefined ? ANY : schemaOf<unknown>(any, shape)) as StandardSchema<Type>;
}

/** Bytes that arrived are never in shared memory. `Blob`, `crypto.subtle` and others take no bytes that may be. */
function isBytes(value: unknown): value is Uint8Array<ArrayBuffer> {
  return value instanceof Uint8Array;
}

function schemaOf<Input, Output = Input>(
  validate: StandardSchema<Input, Output>["~standard"]["validate"],
  shape?: JsonSchema,
): StandardSchema<Input, Output> {
  const jsonSchema = shape && { jsonSchema: { input: () => shape } };
  return Object.freeze({ "~standard": Object.freeze({ version: 1, vendor: "packline", validate, ...jsonSchema }) });
}
