/**
 * Items of a reply stream with an id, so that the stream can resume after a lost connection (PROTOCOL.md, "Resuming").
 *
 * In: what a handler yields. Out: the fields of an item. Refused: an id that cannot be sent.
 */

import { ID } from "../codec/message.ts";
import { inspect } from "../transport/runtime.ts";
import type { ReplyFields } from "./reply.ts";

/** Marks an item with an id; any other value is an item without one. Every copy of the library has the same symbol. */
export const TRACKED: unique symbol = Symbol.for("packline.tracked");

/** An item with an id, made by {@linkcode tracked}. */
export interface Tracked<Id extends number | string, Value> {
  /** Where the stream resumes after this item. */
  readonly id: Id;
  /** The item. */
  readonly value: Value;
  /** Distinguishes it from all other values. */
  readonly [TRACKED]: true;
}

/** A class, so that a tracked item in place of a result is not a plain object, and is refused. */
class TrackedItem<Id extends number | string, Value> implements Tracked<Id, Value> {
  constructor(readonly id: Id, readonly value: Value) {}

  get [TRACKED](): true {
    return true;
  }
}

/**
 * An item of a stream with an id. If the connection is lost, the client resends the call automatically, with the id of
 * the last item it received as the parameter `after`. The handler continues after this item, and the reader sees one
 * stream of plain values.
 *
 * @param id Where the stream can resume: a whole number from 0 to 2^53 - 1, or a text.
 * @param value The item.
 * @returns What a handler yields.
 * @throws {TypeError} If the id is of another kind.
 *
 * @example A log whose readers resume after a lost connection
 * ```ts
 * import { command, tracked } from "../mod.ts";
 *
 * const lines = ["one", "two", "three"];
 * const LOG = command(async function* ({ after = -1 }: { after?: number }) {
 *   for (let index = after + 1; index < lines.length; index++) yield tracked(index, lines[index]);
 * });
 * ```
 */
export function tracked<Id extends number | string, Value>(id: Id, value: Value): Tracked<Id, Value> {
  if (typeof id !== "string" && !(Number.isSafeInteger(id) && id as number >= 0)) {
    throw new TypeError(`Cannot track an item by ${inspect(id, 0)}: its id must be a text or a whole number from 0 up`);
  }
  return new TrackedItem(id, value);
}

/** Whether a handler has given an id to an item. */
export function isTracked(item: unknown): item is Tracked<number | string, unknown> {
  return typeof item === "object" && item !== null && TRACKED in item;
}

/** The fields of an item. */
export function itemFields(item: unknown): ReplyFields {
  return isTracked(item) ? { res: item.value ?? null, [ID]: item.id } : { res: item };
}
