/** TALLY (PROTOCOL.md, "Commands"): counts a stream. It has no number: it is called by its name. */

import { builtIn, paramsShape } from "./built_in.ts";
import { type Command, type NeededItem, unchecked } from "../command.ts";

const utf8 = new TextEncoder();

/** What it counts. */
interface Tally {
  /** Items. */
  items: number;
  /** Bytes of the items that are text, as UTF-8, or binary. */
  bytes: number;
}

/** In: a stream. Out: how many items there were, and their bytes. Refused: a call without a stream. */
export const TALLY: Command<object, Tally, unknown, NeededItem<unknown>> = builtIn("TALLY", {
  summary: "Counts the items and bytes of its stream",
  shapes: {
    params: paramsShape({}),
    result: {
      type: "object",
      properties: { items: { type: "integer", minimum: 0 }, bytes: { type: "integer", minimum: 0 } },
      required: ["items", "bytes"],
    },
    items: {},
    errors: {},
  },
  items: unchecked<unknown>(),
  async handler(_params: object, { items }): Promise<Tally> {
    const tally = { items: 0, bytes: 0 };
    for await (const item of items) {
      tally.items++;
      if (item instanceof Uint8Array) tally.bytes += item.length;
      else if (typeof item === "string") tally.bytes += utf8.encode(item).length;
    }
    return tally;
  },
});
