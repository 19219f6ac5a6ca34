/**
 * A reply: a handler's result, and fields beside it.
 *
 * In: what a handler returns. Out: the fields of its reply. Refused: fields that are no plain object.
 */

import { isPlain, kindOf } from "../codec/errors.ts";
import { ITEMS } from "../codec/message.ts";

/** A whole reply: the result, and the fields beside it. */
export interface ReplyFields {
  /** The result: any value that MessagePack can represent. */
  res: unknown;
  /** More fields, such as DELAY's `slept`. Not `seq`, `err`, `msg`, `data`, `more`, or a name that begins with `$`. */
  // deno-lint-ignore no-explicit-any -- with `unknown`, an interface of the user's would not be assignable
  [field: string]: any;
}

/** Marks a whole reply; any other value is a result. Every copy of the library has the same symbol. */
export const REPLY: unique symbol = Symbol.for("packline.reply");

/** A result with fields beside it, made by {@linkcode reply}. */
export interface ReplyWith<Result, Beside extends object> {
  /** The result. */
  readonly res: Result;
  /** The fields beside it, which are also in the object. */
  readonly [REPLY]: Beside;
}

/** A class, so that a reply within a result, or as an item of a stream, is not a plain object, and is refused. */
class Reply {}

/**
 * A result with additional fields in the reply. Most handlers return only their result.
 *
 * @param res The result.
 * @param fields The fields, with any names except those that the protocol reserves (PROTOCOL.md, "Replies").
 * @returns What a handler returns. Callers get `res` from `client.call`, and all of it from `client.reply`.
 * @throws {TypeError} If the fields are no plain object, or one is named `$items`.
 *
 * @example How long the work took, beside its result
 * ```ts
 * import { command, connect, reply, serve } from "../mod.ts";
 *
 * const SUM = command(({ list }: { list: number[] }) => {
 *   return reply(list.reduce((a, b) => a + b, 0), { count: list.length });
 * });
 * await using server = await serve({ port: 0, commands: { SUM } });
 * await using client = await connect({ port: server.port, commands: { SUM } });
 * console.assert(await client.call.SUM({ list: [1, 2] }) === 3);
 * console.assert((await client.reply.SUM({ list: [1, 2] })).count === 2);
 * ```
 */
export function reply<Result, Beside extends object>(res: Result, fields: Beside): ReplyWith<Result, Beside> {
  if (typeof fields !== "object" || fields === null || !isPlain(fields)) {
    throw new TypeError(`Cannot use ${kindOf(fields)} as the fields of reply(): use an object, as { slept: 2 }`);
  }
  // The other reserved names are refused when the reply is encoded. This one has a meaning there.
  if (ITEMS in fields) throw new TypeError(`Cannot set ${ITEMS} beside a result: the protocol uses this name`);
  const whole = { __proto__: Reply.prototype, ...fields, res, [REPLY]: fields };
  return whole;
}

/** Makes a reply of a handler's answer. */
export function replyOf(answer: unknown): ReplyFields {
  const isWhole = typeof answer === "object" && answer !== null && REPLY in answer;
  return isWhole ? answer as unknown as ReplyFields : { res: answer ?? null };
}
