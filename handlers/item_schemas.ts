/**
 * Ready schemas for the items of callers' streams.
 *
 * In: a value. Out: the same. Refused: what is not bytes, by the one for bytes.
 */

import type { StandardSchema } from "./standard_schema.ts";

/**
 * Items that are bytes: the option `items` of a command that takes a file, or any other binary data.
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
export const bytes: StandardSchema<Uint8Array> = schemaOf<Uint8Array>((value) =>
  value instanceof Uint8Array ? { value } : { issues: [{ message: "must be bytes" }] }
);

const ANY = schemaOf<unknown>((value) => ({ value }));

/**
 * A schema that tells the compiler a type and checks nothing: for items whose types are all that is wanted.
 *
 * @typeParam Type The type of the value. A caller may send another one all the same.
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
 */
export function unchecked<Type>(): StandardSchema<Type> {
  return ANY as StandardSchema<Type>;
}

function schemaOf<Type>(validate: StandardSchema<Type>["~standard"]["validate"]): StandardSchema<Type> {
  return Object.freeze({ "~standard": Object.freeze({ version: 1, vendor: "packline", validate }) });
}
